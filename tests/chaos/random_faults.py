#!/usr/bin/env python3
"""Faults at random under load: routers, workers and the scheduler are killed, told to end, stopped for some
seconds, or slowed down tenfold, one after another. No request may fail and no byte differ.

Usage: random_faults.py CONCLAVE MODEL [--seconds N] [--seed N] [--streams N]

The order of faults and their victims follow the seed; when they strike does not, so a seed repeats what
was done, not the very moment.
"""
import argparse
import json
import os
import pathlib
import random
import select
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))
from stack import Stack, wait_for  # noqa: E402

from load import Endless, Round, requests  # noqa: E402

TOKENS = 200
STOPPED_SECONDS = 10
SLOW_SECONDS = 5
SLOW_PERIOD = 0.05  # of which it runs a tenth


def pause(seconds: float) -> None:
    select.select([], [], [], seconds)


def send(pid: int, sig: int) -> None:
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass  # the fault before took it


def kill(pid: int) -> None:
    send(pid, signal.SIGKILL)


def end(pid: int) -> None:
    send(pid, signal.SIGTERM)


def stop(pid: int) -> None:
    send(pid, signal.SIGSTOP)
    pause(STOPPED_SECONDS)
    send(pid, signal.SIGCONT)


def slow(pid: int) -> None:
    until = time.monotonic() + SLOW_SECONDS
    while time.monotonic() < until:
        send(pid, signal.SIGSTOP)
        pause(0.9 * SLOW_PERIOD)
        send(pid, signal.SIGCONT)
        pause(0.1 * SLOW_PERIOD)


# What happens to whom. A second copy of every expert is all there is: one worker at a time.
FAULTS = [("worker", kill), ("worker", stop), ("worker", slow), ("worker", end), ("router", kill),
          ("router", end), ("router", stop), ("router", slow), ("scheduler", kill), ("scheduler", stop)]


def status(conclave: str, stack: Stack) -> dict | None:
    done = subprocess.run([conclave, "status", "--state", stack.state.name, "-o", "json"],
                          capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


class Fleet:
    """What the scheduler says of its nodes."""

    def __init__(self, conclave: str, stack: Stack, nodes: int):
        self.conclave, self.stack, self.nodes = conclave, stack, nodes
        self.copies = 2 * status(conclave, stack)["experts_total"]

    def whole(self, victim: str = "", since: float = 0.0) -> bool:
        """All nodes are there, every expert has both its copies, and the victim (of the scheduler:
        everybody) has reported since it was hit."""
        now = status(self.conclave, self.stack)
        if now is None or not now["complete"] or len(now["nodes"]) != self.nodes:
            return False
        age = 1000 * (time.monotonic() - since)
        heard = all(node["silent_ms"] < age for node in now["nodes"]
                    if victim in ("scheduler", node["node"]))
        return heard and all(node["state"] == "ready" for node in now["nodes"]) and \
            sum(node.get("experts_ready", 0) for node in now["nodes"]) >= self.copies

    def strike(self, victim: str, pid: int, fault) -> float:
        """Seconds from the end of the fault until all is as before; a report comes once a second."""
        fault(pid)
        at = time.monotonic()
        if fault in (kill, end):
            wait_for(f"{victim} is started again",
                     lambda: self.stack.pids().get(victim) not in (None, pid))
        since = time.monotonic()
        wait_for(f"the fleet is whole after {fault.__name__} {victim}",
                 lambda: self.whole(victim, since))
        return time.monotonic() - at


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("conclave")
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--streams", type=int, default=16)
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    rng = random.Random(args.seed)
    with Stack(args.conclave, "up", "-m", args.model, "--workers", "4", "--routers", "2",
               "--set", "scheduler.replicas=2") as stack:
        fleet = Fleet(args.conclave, stack, 4 + 2 + 1)  # workers, routers, the gateway
        wait_for("the fleet is whole", fleet.whole)
        name = stack.call("/v1/models")[1]["data"][0]["id"]
        wanted = requests(args.streams, name, TOKENS)
        undisturbed = Round(stack, wanted)
        expected = undisturbed.join()
        assert not [a for a in expected if isinstance(a, str)], expected
        print(f"undisturbed: longest gap {1000 * undisturbed.longest_gap():.0f} ms", flush=True)
        load = Endless(stack, wanted, expected)
        until = time.monotonic() + args.seconds
        deck: list = []
        try:
            while time.monotonic() < until and not load.wrong:
                if not deck:
                    deck = rng.sample(FAULTS, len(FAULTS))  # all of them before any again
                role, fault = deck.pop()
                victims = sorted(item for item in stack.pids().items() if item[0].startswith(role))
                victim, pid = rng.choice(victims)
                at = time.monotonic()
                back = fleet.strike(victim, pid, fault)
                pause(1.0)
                print(f"{fault.__name__:4} {victim:10} longest gap {1000 * load.longest_gap(at):5.0f} ms,"
                      f" whole again {back:4.1f} s later, {load.answers} answers", flush=True)
        finally:
            load.stop()
        print(f"{load.answers} answers of {args.streams} streams, {len(load.wrong)} wrong", flush=True)
        assert not load.wrong, f"seed {args.seed}: {load.wrong[0]}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
