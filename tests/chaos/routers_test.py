#!/usr/bin/env python3
"""Routers are killed, drained and stopped in the middle of 32 streams: every answer comes to its end with
the bytes that it has when nothing happens, and the longest pause is printed.

Usage: routers_test.py CONCLAVE MODEL
"""
import contextlib
import http.client
import json
import os
import pathlib
import signal
import sys
import threading
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


class Newcomers:
    """Short requests, one after the other on each of some connections, until stopped."""

    def __init__(self, stack: Stack, request: dict, clients: int = 4):
        self.answers = 0
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(stack, request)) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self, stack: Stack, request: dict) -> None:
        while not self._stop.is_set():
            with contextlib.closing(stack.connection(60)) as connection:
                try:
                    connection.request("POST", "/v1/completions", json.dumps(request),
                                       {"Content-Type": "application/json"})
                    response = connection.getresponse()
                    said = response.read()
                    if response.status != 200:
                        self.failed.append(f"status {response.status}: {said[:300]!r}")
                except (OSError, http.client.HTTPException) as error:
                    self.failed.append(repr(error))
            self.answers += 1

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def replace_all(scene: Scene, wait_between) -> None:
    """Both routers are told to end, the second one right after the first, or after its successor is there."""
    stack = scene.stack
    scene.whole()
    newcomers = Newcomers(stack, {"model": scene.wanted[0]["model"], "prompt": "a", "max_tokens": 2})
    before = routers(stack)
    (first, pid), (_, second) = sorted(before.items())
    wait_for("requests are answered", lambda: newcomers.answers > 20)
    os.kill(pid, signal.SIGTERM)
    wait_between(first, pid)
    os.kill(second, signal.SIGTERM)
    wait_for("both are replaced", lambda: len(now := routers(stack)) == 2
             and not set(now.values()) & set(before.values()))
    scene.whole()
    answered = newcomers.answers
    wait_for("requests are answered", lambda: newcomers.answers > answered + 20)
    newcomers.stop()
    print(f"both routers are told to end: {newcomers.answers} requests, {len(newcomers.failed)} failed", flush=True)
    assert not newcomers.failed, newcomers.failed[0]


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
        replace_all(scene, lambda name, pid: None)
        replace_all(scene, lambda name, pid: wait_for(
            "its successor", lambda: routers(stack).get(name) not in (None, pid)))
        scene.play("all routers are killed",
                   lambda: [os.kill(pid, signal.SIGKILL) for pid in routers(stack).values()])
    with Stack(conclave, "up", "-m", path, "--workers", "2", "--routers", "1") as stack:
        Scene(stack, 1).play("the only router is killed",
                             lambda: os.kill(next(iter(routers(stack).values())), signal.SIGKILL))
    return 0


if __name__ == "__main__":
    sys.exit(main())
