#!/usr/bin/env python3
"""What the services cost against the engine alone, in one run: decode speed of `generate`, `serve` and
`up --workers 2`, interleaved; medians and ratios.

Usage: serving.py CONCLAVE MODEL [--rounds 5] [--tokens 64] [--parallel 16]
"""
import argparse
import concurrent.futures
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from stack import Stack, call  # noqa: E402


def completion(connection, model: str, tokens: int, seed: int) -> None:
    status, body = call(connection, "/v1/completions", {
        "model": model, "prompt": [11, 12 + seed], "max_tokens": tokens, "ignore_eos": True,
        "temperature": 1.0, "seed": seed})
    assert status == 200, body
    assert body["usage"]["completion_tokens"] == tokens, body["usage"]


def single(stack: Stack, model: str, tokens: int) -> float:
    """Tokens a second of one sequence after its first token."""
    with contextlib.closing(stack.connection()) as connection:
        times = []
        for count in (1, tokens + 1):
            start = time.monotonic()
            completion(connection, model, count, 1)
            times.append(time.monotonic() - start)
    return tokens / (times[1] - times[0])


def parallel(stack: Stack, model: str, tokens: int, sequences: int) -> float:
    """Tokens a second of all sequences together."""
    def one(seed: int) -> None:
        with contextlib.closing(stack.connection()) as connection:
            completion(connection, model, tokens, seed)
    with concurrent.futures.ThreadPoolExecutor(sequences) as pool:
        start = time.monotonic()
        list(pool.map(one, range(sequences)))
        return sequences * tokens / (time.monotonic() - start)


def generate(conclave: str, path: str, tokens: int) -> float:
    done = subprocess.run(
        [conclave, "generate", "-m", path, "-p", "a b", "-n", str(tokens + 1), "--ignore-eos",
         "--temperature", "1", "-o", "json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["timing"]["decode_tokens_per_s"]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("conclave")
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--parallel", type=int, default=16)
    parser.add_argument("--workers", default="2")
    options = parser.parse_args()
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    with Stack(options.conclave, "serve", options.model) as serve, \
            Stack(options.conclave, "up", "-m", options.model, "--workers", options.workers) as up:
        model = serve.call("/v1/models")[1]["data"][0]["id"]
        for round_ in range(options.rounds + 1):  # the first one warms up
            measured = {
                "generate, 1 sequence": generate(options.conclave, options.model, options.tokens),
                "serve, 1 sequence": single(serve, model, options.tokens),
                "up, 1 sequence": single(up, model, options.tokens),
                f"serve, {options.parallel} parallel":
                    parallel(serve, model, options.tokens, options.parallel),
                f"up, {options.parallel} parallel":
                    parallel(up, model, options.tokens, options.parallel),
            }
            if round_ > 0:
                for name, value in measured.items():
                    note(name, value)
            print({name: round(value, 1) for name, value in measured.items()}, file=sys.stderr)
    medians = {name: statistics.median(values) for name, values in figures.items()}
    for name, value in medians.items():
        print(f"{name:24} {value:8.1f} tokens/s")
    # Ratios of neighbours in time, so that a slow minute of the machine counts for both.
    def ratio(over: str, under: str) -> float:
        return statistics.median(a / b for a, b in zip(figures[over], figures[under]))
    print(f"serve / generate, 1 sequence: "
          f"{ratio('serve, 1 sequence', 'generate, 1 sequence'):.3f} (at least 0.97)")
    print(f"up / serve, {options.parallel} parallel: "
          f"{ratio(f'up, {options.parallel} parallel', f'serve, {options.parallel} parallel'):.3f}"
          " (at least 0.90)")
    print(f"up / serve, 1 sequence: {ratio('up, 1 sequence', 'serve, 1 sequence'):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
