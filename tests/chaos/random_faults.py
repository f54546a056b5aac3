#!/usr/bin/env python3
"""Faults at random under load: routers, workers, the scheduler and the registry are killed, told to end,
stopped for some seconds, slowed down tenfold, or cut off, one after another. No request may fail and no byte
differ.

Usage: random_faults.py CONCLAVE MODEL [--seconds N] [--seed N] [--streams N] [--partitions]

--partitions: links are cut, too, in a network namespace of its own (needs `unshare`, `ip` and `iptables`, and root
or the right to make user namespaces); data calls go as frames then, as between hosts.

The order of faults and their victims follow the seed; when they strike does not, so a seed repeats what
was done, not the very moment.
"""
import argparse
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

from fleet import Fleet  # noqa: E402
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


def kill(fleet: Fleet, victim: str, pid: int) -> bool:
    send(pid, signal.SIGKILL)
    return True


def end(fleet: Fleet, victim: str, pid: int) -> bool:
    send(pid, signal.SIGTERM)
    return True


def stop(fleet: Fleet, victim: str, pid: int) -> bool:
    send(pid, signal.SIGSTOP)
    pause(STOPPED_SECONDS)
    send(pid, signal.SIGCONT)
    return False


def slow(fleet: Fleet, victim: str, pid: int) -> bool:
    until = time.monotonic() + SLOW_SECONDS
    while time.monotonic() < until:
        send(pid, signal.SIGSTOP)
        pause(0.9 * SLOW_PERIOD)
        send(pid, signal.SIGCONT)
        pause(0.1 * SLOW_PERIOD)
    return False


def part(fleet: Fleet, victim: str, pid: int) -> bool:
    """What others send it and what it answers them is lost, without a word from the system."""
    port = str(fleet.port(victim))
    rules = [("INPUT", "-p", "tcp", side, port, "-j", "DROP") for side in ("--dport", "--sport")]
    for rule in rules:
        subprocess.run(["iptables", "-A", *rule], check=True)
    pause(STOPPED_SECONDS)
    for rule in rules:
        subprocess.run(["iptables", "-D", *rule], check=True)
    return False


# What happens to whom. A second copy of every expert is all there is: one worker at a time.
FAULTS = [("worker", kill), ("worker", stop), ("worker", slow), ("worker", end), ("router", kill),
          ("router", end), ("router", stop), ("router", slow), ("scheduler", kill), ("scheduler", stop),
          ("registry", kill), ("registry", stop)]
PARTITIONS = [(role, part) for role in ("worker", "router", "scheduler", "registry")]


def enter_own_network() -> None:
    """Runs this program again in a network namespace of its own, in which packets may be dropped."""
    inside = "CONCLAVE_CHAOS_NETWORK"
    if inside not in os.environ:
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        os.environ[inside] = "1"
        os.execvp("unshare", ["unshare", *user, "--net", sys.executable, *sys.argv])
    del os.environ[inside]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("conclave")
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--partitions", action="store_true")
    args = parser.parse_args()
    if args.partitions:
        enter_own_network()
    faults = FAULTS + PARTITIONS if args.partitions else FAULTS
    settings = ["--set", "fabric.data.shared-memory=false"] if args.partitions else []
    print(f"seed {args.seed}", flush=True)
    rng = random.Random(args.seed)
    with Stack(args.conclave, "up", "-m", args.model, "--workers", "4", "--routers", "2",
               "--set", "scheduler.replicas=2", *settings) as stack:
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
                    deck = rng.sample(faults, len(faults))  # all of them before any again
                role, fault = deck.pop()
                victim = rng.choice(sorted(name for name in stack.pids() if name.startswith(role)))
                at = time.monotonic()
                back = fleet.strike(victim, fault)
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
