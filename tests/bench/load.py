#!/usr/bin/env python3
"""Many short requests over many connections against `conclave up`: errors, memory between rounds, and
what the gateway itself adds to a request (from its histograms).

Usage: load.py CONCLAVE MODEL [--requests 2000] [--connections 64] [--rounds 3]
"""
import argparse
import contextlib
import pathlib
import re
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from stack import Stack, call  # noqa: E402


def resident_mib(pid: int) -> float:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) / 1024


def run_round(stack: Stack, model: str, requests: int, connections: int) -> tuple[float, int]:
    left = iter(range(requests))
    lock = threading.Lock()
    errors = []

    def work() -> None:
        with contextlib.closing(stack.connection()) as connection:
            while True:
                with lock:
                    number = next(left, None)
                if number is None:
                    return
                status, body = call(connection, "/v1/chat/completions", {
                    "model": model, "max_tokens": 4, "seed": number,
                    "messages": [{"role": "user", "content": f"What is {number} + 1?"}]})
                if status != 200:
                    errors.append((status, body))

    threads = [threading.Thread(target=work) for _ in range(connections)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        print("first error:", errors[0])
    return time.monotonic() - start, len(errors)


def quantile(buckets: list[tuple[float, float]], share: float) -> float:
    """Upper bound of the bucket that holds the quantile."""
    total = buckets[-1][1]
    return next(bound for bound, count in buckets if count >= share * total)


def gateway_added(stack: Stack) -> None:
    with contextlib.closing(stack.connection()) as connection:
        text = call(connection, "/metrics")[1]["text"]
    for name in sorted(set(re.findall(r"(conclave_gateway_\w+_seconds)_bucket", text))):
        rows = re.findall(rf'{name}_bucket{{[^}}]*le="([^"]+)"}} (\S+)', text)
        buckets = [(float(bound), float(count)) for bound, count in rows]
        if buckets and buckets[-1][1] > 0:
            print(f"{name}: {buckets[-1][1]:.0f} values, p50 <= {quantile(buckets, 0.5) * 1e3:g} ms,"
                  f" p99 <= {quantile(buckets, 0.99) * 1e3:g} ms")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("conclave")
    parser.add_argument("model")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    failed = 0
    with Stack(options.conclave, "up", "-m", options.model) as stack:
        model = stack.call("/v1/models")[1]["data"][0]["id"]
        for round_ in range(1, options.rounds + 1):
            seconds, errors = run_round(stack, model, options.requests, options.connections)
            failed += errors
            sizes = {name: resident_mib(pid) for name, pid in sorted(stack.pids().items())}
            print(f"round {round_}: {options.requests / seconds:.0f} requests/s, {errors} errors, RSS MiB "
                  + ", ".join(f"{name} {size:.1f}" for name, size in sizes.items()))
        gateway_added(stack)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
