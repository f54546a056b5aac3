#!/usr/bin/env python3
"""Two schedulers: the one that leads is killed again and again at random points of roll-outs, under load.
The other one leads on, no request fails, no answer differs, and what people said is remembered.

Usage: leader_test.py CONCLAVE MODEL [--kills N] [--seed N]
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

from stack import Stack, wait_for

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "chaos"))
from load import Endless, Round, requests  # noqa: E402

STREAMS = 4
TOKENS = 200
WORKERS = 3
# So long a roll-out of the demo model and what follows it take, and a little.
ROLLOUT_SECONDS = 1.5


class Fleet:
    def __init__(self, conclave: str, stack: Stack):
        self.conclave, self.stack = conclave, stack

    def command(self, *words: str) -> dict | None:
        done = subprocess.run([self.conclave, *words, "--state", self.stack.state.name, "-o", "json"],
                              capture_output=True, text=True, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def whole(self, term: int = 0) -> dict | None:
        now = self.command("status")
        good = (now and now["complete"] and now["term"] >= term
                and len(now["nodes"]) == WORKERS + 2 + 1
                and all(node["state"] == "ready" for node in now["nodes"]))
        return now if good else None

    def leader(self) -> tuple[str, int]:
        """Name and process of the scheduler that leads."""
        address = wait_for("a leader", lambda: (self.command("status") or {}).get("leader"))
        for name, pid in self.stack.pids().items():
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"--scheduler.listen" in words and \
                    words[words.index(b"--scheduler.listen") + 1].decode() == address:
                return name, pid
        raise AssertionError(f"nobody listens at {address}")

    def standing(self, worker: str) -> str:
        listed = wait_for("the list of workers", lambda: self.command("workers", "list"))
        rows = listed["data"] if isinstance(listed, dict) else listed
        return next(row["standing"] for row in rows if row["worker"] == worker)

    def stand(self, verb: str, worker: str) -> None:
        wait_for(f"{verb} {worker}", lambda: self.command("workers", verb, worker) is not None)


def pause(seconds: float) -> None:
    select.select([], [], [], seconds)


def kill_leader(fleet: Fleet) -> str:
    name, pid = fleet.leader()
    os.kill(pid, signal.SIGKILL)
    return name


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("conclave")
    parser.add_argument("model")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    rng = random.Random(args.seed)
    with Stack(args.conclave, "up", "-m", args.model, "--workers", str(WORKERS), "--routers", "2",
               "--schedulers", "2", "--set", "scheduler.leader-lease-ms=1500") as stack:
        fleet = Fleet(args.conclave, stack)
        before = wait_for("the fleet is whole", fleet.whole)
        assert before["term"] > 0, before
        model = stack.call("/v1/models")[1]["data"][0]["id"]
        wanted = requests(STREAMS, model, TOKENS)
        expected = Round(stack, wanted).join()
        assert not [answer for answer in expected if isinstance(answer, str)], expected
        load = Endless(stack, wanted, expected)
        term, took, drained = before["term"], [], None
        try:
            for kill in range(args.kills):
                # A roll-out: what one worker has moves elsewhere, or comes back.
                if drained:
                    fleet.stand("uncordon", drained)
                    drained = None
                else:
                    drained = f"worker-{rng.randint(1, WORKERS)}"
                    fleet.stand("drain", drained)
                pause(rng.uniform(0, ROLLOUT_SECONDS))
                name = kill_leader(fleet)
                at = time.monotonic()
                now = wait_for("another one leads", lambda: fleet.whole(term + 1))
                took.append(time.monotonic() - at)
                term = now["term"]
                assert not load.wrong, f"kill {kill + 1}, of {name}: {load.wrong[0]}"
            # What was said and kept is known to the next one.
            if drained:
                fleet.stand("uncordon", drained)
            fleet.stand("cordon", "worker-1")
            pause(1.5)
            kill_leader(fleet)
            wait_for("another one leads", lambda: fleet.whole(term + 1))
            assert fleet.standing("worker-1") == "cordoned"
        finally:
            load.stop()
        assert not load.wrong, load.wrong[0]
        print(f"{args.kills} kills of the leader: {load.answers} answers, none wrong; another one leads after"
              f" {min(took):.1f} to {max(took):.1f} s; terms {before['term']} to {term}", flush=True)
        code = stack.close()
        assert code == 0, f"up ended with {code}\n" + stack.logs()[-3000:]
    return 0


if __name__ == "__main__":
    sys.exit(main())
