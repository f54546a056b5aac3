#!/usr/bin/env python3
"""What the loss of one of four workers costs, two copies of every expert, under steady load: gaps between
tokens, throughput of the minute that follows, and how long until every expert has both its copies again.

Usage: failover.py CONCLAVE MODEL [--streams 4] [--tokens 200] [--kills 10] [--seconds 60] [--set SECTION.KEY=VALUE]

`up` starts the worker again, so the throughput of the minute after a kill is compared with the mean of the undisturbed minutes before it
and after it: on shared machines one minute differs from the next by several percent.
"""
import argparse
import os
import pathlib
import signal
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "integration"), str(HERE.parent / "chaos")]
from fleet import Fleet  # noqa: E402
from load import Endless, Round, requests  # noqa: E402
from stack import Stack, wait_for  # noqa: E402

WINDOW = 2.0  # seconds before and after a kill in which a stream's longest gap is looked for


def watch(seconds: float) -> None:
    end = time.monotonic() + seconds
    wait_for("time passes", lambda: time.monotonic() >= end, seconds + 60)


def kill(fleet: Fleet, victim: str, pid: int) -> bool:
    os.kill(pid, signal.SIGKILL)
    return True


class Scene:
    """A stack of so many workers under load, whose answers are compared with undisturbed ones."""

    def __init__(self, options, workers: int):
        settings = [word for pair in options.set for word in ("--set", pair)]
        self.stack = Stack(options.conclave, "up", "-m", options.model, "--workers", str(workers),
                           "--set", "scheduler.replicas=2", *settings)
        self.fleet = Fleet(options.conclave, self.stack, workers + 2)
        wait_for("every expert has two copies", self.fleet.whole)
        name = self.stack.call("/v1/models")[1]["data"][0]["id"]
        wanted = requests(options.streams, name, options.tokens)
        expected = Round(self.stack, wanted).join()
        assert not [answer for answer in expected if isinstance(answer, str)], expected
        self.load = Endless(self.stack, wanted, expected)
        watch(2 * WINDOW)

    def rate(self, seconds: float) -> float:
        """Tokens a second from now on."""
        tokens, begin = self.load.tokens(), time.monotonic()
        watch(seconds)
        return (self.load.tokens() - tokens) / (time.monotonic() - begin)

    def kill(self, worker: str) -> tuple[list[float], float]:
        """Of each stream how much longer its longest gap was after the kill than before, milliseconds;
        seconds until the worker was there again and every expert had its copies."""
        at = time.monotonic()
        back = self.fleet.strike(worker, kill)
        watch(max(0.0, at + WINDOW - time.monotonic()))
        before, after = self.load.longest_gaps(at - WINDOW, at), self.load.longest_gaps(at, at + WINDOW)
        return [1000 * (late - soon) for soon, late in zip(before, after)], back

    def close(self) -> int:
        self.load.stop()
        self.stack.close()
        assert not self.load.wrong, f"{len(self.load.wrong)} answers failed or differ: {self.load.wrong[0]}"
        return self.load.answers


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("conclave")
    parser.add_argument("model")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    extra, back, ratios, answers = [], [], [], 0
    for _ in range(options.rounds):
        four = Scene(options, 4)
        before = four.rate(options.seconds)
        os.kill(four.stack.pids()["worker-4"], signal.SIGKILL)
        disturbed = four.rate(options.seconds)
        wait_for("the worker is back", four.fleet.whole)
        ratios.append(2 * disturbed / (before + four.rate(options.seconds)))
        for i in range(options.kills):
            more, seconds = four.kill(f"worker-{i % 4 + 1}")
            extra += more
            back.append(seconds)
            watch(WINDOW)
        answers += four.close()
    extra.sort()
    print(f"{answers} answers, none failed or differed")
    print(f"longest gap of a stream, after a kill less before: median {statistics.median(extra):.0f} ms, "
          f"99 % {extra[min(len(extra) - 1, int(0.99 * len(extra)))]:.0f} ms (at most 50)")
    print(f"two copies of every expert again: median {statistics.median(back):.1f} s, "
          f"longest {max(back):.1f} s (at most 5)")
    print(f"throughput of the {options.seconds:.0f} s after a kill / without one: median "
          f"{statistics.median(ratios):.3f} (at least 0.99), of {', '.join(f'{ratio:.3f}' for ratio in ratios)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
