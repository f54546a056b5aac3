#!/usr/bin/env python3
"""What two micro-batches gain where a worker is on another machine. A machine is a processor here: `up`
with one worker on the last processor and everything else on the first, and between them frames (no shared
memory) through a relay that holds them back for a while each way. A router that always has one micro-batch
and one that may choose two take turns round by round.

Usage: remote.py CONCLAVE MODEL [--delay-ms 0,1,4] [--parallel 8,32] [--prompt 128] [--new 64] [--rounds 3]
"""
import argparse
import collections
import json
import os
import pathlib
import select
import socket
import statistics
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]
from peers import Client, output  # noqa: E402
from stack import Stack  # noqa: E402

CHUNK = 1 << 20
KINDS = {"one": 1, "may choose two": 2}
CPUS = sorted(os.sched_getaffinity(0))
ROUTER_CPU, WORKER_CPU = CPUS[0], CPUS[-1]


class Relay(threading.Thread):
    """Passes bytes between whoever connects to `port` and 127.0.0.1:`target`, `delay` seconds later."""

    def __init__(self, target: int, delay: float):
        super().__init__(daemon=True)
        self.target, self.delay = target, delay
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ended = False

    def run(self) -> None:
        while not self.ended:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            for sides in ((near, far), (far, near)):
                threading.Thread(target=self.pass_on, args=sides, daemon=True).start()

    def pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        for end in (source, sink):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        held: collections.deque[tuple[float, bytes]] = collections.deque()
        try:
            while True:
                left = None if not held else max(0.0, held[0][0] - time.monotonic())
                if select.select([source], [], [], left)[0]:
                    data = source.recv(CHUNK)
                    if not data:
                        break
                    held.append((time.monotonic() + self.delay, data))
                while held and held[0][0] <= time.monotonic():
                    sink.sendall(held.popleft()[1])
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self.ended = True
        self.listener.close()


def pin(pid: int, cpus: set[int]) -> None:
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cpus)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Side:
    """A fleet whose router takes at most so many micro-batches."""

    def __init__(self, options: argparse.Namespace, delay: float, most: int):
        port = free_port()
        self.relay = Relay(port, delay)
        self.relay.start()
        settings = [f"expert-worker.listen=tcp://127.0.0.1:{port}",
                    f"expert-worker.advertise=tcp://127.0.0.1:{self.relay.port}",
                    "fabric.data.shared-memory=false", "router.threads=1",
                    f"router.batch.micro-batches-max={most}"]
        words = [word for setting in settings + options.set for word in ("--set", setting)]
        # A worker computes on the processors that it finds; the others are moved once they run.
        os.sched_setaffinity(0, {WORKER_CPU})
        self.stack = Stack(options.conclave, "up", "-m", options.model, "--workers", "1",
                           "--data-encryption", "none", *words)
        os.sched_setaffinity(0, {ROUTER_CPU})
        for name, pid in self.stack.pids().items():
            if not name.startswith("worker"):
                pin(pid, {ROUTER_CPU})

    def close(self) -> None:
        self.stack.close()
        self.relay.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("conclave")
    parser.add_argument("model")
    parser.add_argument("--delay-ms", default="0,1,4")
    parser.add_argument("--parallel", default="8,32")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    vocab = json.loads(output([options.conclave, "inspect", options.model, "-o", "json"]))["vocab"]
    client = Client(options.conclave, vocab)
    for delay in (float(word) / 1000 for word in options.delay_ms.split(",")):
        sides = {name: Side(options, delay, most) for name, most in KINDS.items()}
        for parallel in map(int, options.parallel.split(",")):
            rates: dict[str, list[float]] = {name: [] for name in sides}
            for round_ in range(options.rounds + 1):  # the first does not count
                for name, side in sides.items():
                    level = client.run(side.stack.url, options.prompt, options.new, parallel,
                                       requests=2 * parallel)
                    if round_ > 0:
                        rates[name].append(level["output_tokens_per_s"])
            ratios = [two / one for one, two in zip(*rates.values())]
            print(f"{2000 * delay:g} ms there and back, {parallel} parallel: " +
                  ", ".join(f"{name} {statistics.median(values):.1f}" for name, values in rates.items()) +
                  f" tokens/s; ratio {statistics.median(ratios):.3f} "
                  f"({min(ratios):.3f} to {max(ratios):.3f})", flush=True)
        for side in sides.values():
            side.close()


if __name__ == "__main__":
    main()
