#!/usr/bin/env python3
"""Routers are killed, drained and stopped in the middle of 32 streams: every answer comes to its end with
the bytes that it has when nothing happens, and the longest pause is printed.

Usage: routers_test.py CONCLAVE MODEL
"""
import contextlib
import os
import pathlib
import signal
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))
from stack import Stack, wait_for  # noqa: E402

from load import Round, compare, requests  # noqa: E402

STREAMS = 32
TOKENS = 500
BEGUN = 20  # tokens of every stream before something happens


def routers(stack: Stack) -> dict[str, int]:
    return {name: pid for name, pid in stack.pids().items() if name.startswith("router")}


def metric(stack: Stack, name: str) -> float:
    with contextlib.closing(stack.connection()) as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " "))


class Scene:
    def __init__(self, stack: Stack, count: int):
        self.stack, self.count = stack, count
        model = stack.call("/v1/models")[1]["data"][0]["id"]
        self.wanted = requests(STREAMS, model, TOKENS)
        undisturbed = Round(stack, self.wanted)
        self.expected = undisturbed.join()
        bad = [answer for answer in self.expected if isinstance(answer, str)]
        assert not bad, bad[0]
        print(f"undisturbed: {STREAMS} streams, longest gap {1000 * undisturbed.longest_gap():.0f} ms",
              flush=True)

    def whole(self) -> None:
        wait_for("all routers take requests",
                 lambda: metric(self.stack, "conclave_gateway_routers_up") >= self.count)

    def elsewhere(self) -> float:
        return (metric(self.stack, "conclave_gateway_streams_resumed_total")
                + metric(self.stack, "conclave_gateway_streams_moved_total"))

    def play(self, what: str, act) -> None:
        """Streams, in whose middle `act` happens to a router that computes some of them."""
        self.whole()
        before = self.elsewhere()
        playing = Round(self.stack, self.wanted)
        wait_for("every stream has begun", lambda: playing.tokens_least() >= BEGUN)
        at = time.monotonic()
        act()
        wrong = compare(self.expected, playing.join())
        resumed = self.elsewhere() - before
        print(f"{what}: {resumed:.0f} streams went on elsewhere, longest gap"
              f" {1000 * playing.longest_gap(at):.0f} ms, {len(wrong)} answers differ", flush=True)
        assert not wrong, f"{len(wrong)} of {STREAMS}, the first: {wrong[0]}"
        assert resumed > 0, "nothing was disturbed"


def main() -> int:
    conclave, path = sys.argv[1:3]
    with Stack(conclave, "up", "-m", path, "--workers", "2", "--routers", "2") as stack:
        scene = Scene(stack, 2)

        def hit(sig: int):
            return lambda: os.kill(sorted(routers(stack).items())[0][1], sig)

        scene.play("a router is killed", hit(signal.SIGKILL))
        scene.play("a router is told to end", hit(signal.SIGTERM))
        # The one that was told to end comes back by itself.
        stopped = sorted(wait_for("two routers", lambda: len(both := routers(stack)) == 2 and both).items())[1][1]
        scene.play("a router is stopped", lambda: os.kill(stopped, signal.SIGSTOP))
        os.kill(stopped, signal.SIGCONT)
        scene.play("all routers are killed",
                   lambda: [os.kill(pid, signal.SIGKILL) for pid in routers(stack).values()])
    with Stack(conclave, "up", "-m", path, "--workers", "2", "--routers", "1") as stack:
        Scene(stack, 1).play("the only router is killed",
                             lambda: os.kill(next(iter(routers(stack).values())), signal.SIGKILL))
    return 0


if __name__ == "__main__":
    sys.exit(main())
