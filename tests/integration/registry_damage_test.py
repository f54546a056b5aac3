#!/usr/bin/env python3
"""A byte is flipped in one expert of a registered file: `conclave models verify` names exactly that expert,
and a worker that loads anew refuses exactly that one, which status, /admin/v1/experts and, once, the audit say.
Then one in the backbone: a router that loads anew refuses that.

Usage: registry_damage_test.py CONCLAVE MODEL [SEED]
"""
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile

from registry_stack import admin_of, flip, tensors
from stack import Stack, wait_for

PARTS = ("gate", "up", "down")


def run(conclave: str, stack: Stack, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([conclave, *arguments, "--state", stack.state.name, "-o", "json"],
                          capture_output=True, text=True, check=False)


def damage(path: pathlib.Path, layers: int, experts: int) -> tuple[int, int]:
    """Flips one bit of one weight; (layer, expert) of it."""
    layer, expert = random.randrange(layers), random.randrange(experts)
    offset, size = tensors(path)[f"blk.{layer}.ffn_{random.choice(PARTS)}_exps.weight"]
    flip(path, offset + size // experts * expert + random.randrange(size // experts),
         1 << random.randrange(8))
    return layer, expert


def verify(conclave: str, stack: Stack, reference: str) -> tuple[int, dict]:
    done = run(conclave, stack, "models", "verify", reference)
    return done.returncode, json.loads(done.stdout)


def spoil_backbone(path: pathlib.Path) -> None:
    offset, size = tensors(path)["output_norm.weight"]
    flip(path, offset + random.randrange(size), 1 << random.randrange(8))


def remembered(admin, action: str, expected: dict) -> None:
    """The audit has one event of this action, with these details."""
    events = wait_for(action, lambda: admin.list(f"/audit?action={action}"), 30)
    assert len(events) == 1 and events[0]["subject"] == "conclave-demo:1", events
    assert expected.items() <= events[0]["after"].items(), (expected, events)
    assert events[0]["actor"] == "node:scheduler", events


def main() -> int:
    conclave, model = sys.argv[1:3]
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(1 << 32)
    print(f"replay: registry_damage_test.py CONCLAVE MODEL {seed}", flush=True)
    random.seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "model.gguf"
        shutil.copyfile(model, copy)
        with Stack(conclave, "up", "-m", str(copy), "--workers", "1") as stack:
            admin = admin_of(stack)
            version = admin.get("/models/conclave-demo/versions/1")
            code, found = verify(conclave, stack, "conclave-demo@current")
            assert code == 0 and found["ok"] and not found["bad_experts"], found

            layer, expert = damage(copy, version["layers"], version["experts"])
            code, found = verify(conclave, stack, "conclave-demo:1")
            assert code == 1, found
            assert found["bad_experts"] == [{"layer": layer, "expert": expert}], (layer, expert, found)
            assert found["backbone_ok"] and not found["ok"], found
            events = admin.list("/audit?action=version.damaged")
            assert [event["subject"] for event in events] == ["conclave-demo:1"], events

            # The worker that runs has good bytes; one that starts anew reads the file again.
            pid = stack.pids()["worker-1"]
            os.kill(pid, signal.SIGKILL)
            total = version["layers"] * version["experts"]

            def refused() -> dict | None:
                done = run(conclave, stack, "status")
                if done.returncode != 0:
                    return None
                workers = [n for n in json.loads(done.stdout)["nodes"] if n["role"] == "expert-worker"]
                good = [n for n in workers if n.get("experts_ready") == total - 1 and n["reason"]]
                return good[0] if good and stack.pids().get("worker-1") not in (None, pid) else None
            worker = wait_for("a worker has all but one expert", refused)
            assert "1 experts refused" in worker["reason"], worker
            named = re.search(r"expert \((\d+), (\d+)\)", worker["reason"])
            assert named and (int(named[1]), int(named[2])) == (layer, expert), (layer, expert, worker)
            told = [(r["layer"], r["expert"]) for r in worker["refused"]]
            assert told == [(layer, expert)], worker
            print(f"layer {layer} expert {expert} of {total}: verify and the worker name it and no other")

            listed = admin.get(f"/experts?layer={layer}&limit=1000")["data"]
            assert [e["expert"] for e in listed if e["refused"]] == [expert], listed
            remembered(admin, "expert.refused", {"node": "worker-1", "layer": layer, "expert": expert})

            spoil_backbone(copy)
            code, found = verify(conclave, stack, "conclave-demo:1")
            assert code == 1 and not found["backbone_ok"], found
            os.kill(stack.pids()["router-1"], signal.SIGKILL)
            remembered(admin, "backbone.refused", {"node": "router-1"})
            # It is tried again and again, and remembered once for every life.
            assert len(admin.list("/audit?action=expert.refused")) == 1
            done = run(conclave, stack, "status")
            routers = [n for n in json.loads(done.stdout)["nodes"] if n["role"] == "router"]
            assert [r["state"] for r in routers] == ["starting"], routers
            assert "backbone" in routers[0]["reason"] and routers[0]["refused"], routers
            print("the backbone: verify and the router refuse it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
