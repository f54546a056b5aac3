#!/usr/bin/env python3
"""docs/operations.md's rotation of CURVE keys. Roles that only connect (gateway, operator) change theirs under load
without a failed request: the new public key beside the old one, those who are connected to started again one after
the other, the new secret key in use, the old one out. Then every key of a fleet at once, with its state kept.

Usage: rotate_keys_test.py CONCLAVE MODEL
"""
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

from registry_stack import Service, free_port
from stack import Stack, call, wait_for

OUTGOING = ("gateway", "operator")  # roles that nobody connects to
ROUTERS = 2
BODY = {"prompt": "What is 2 + 2?", "max_tokens": 4, "temperature": 0}


class Load:
    """Requests to one gateway, one after another; what was not answered."""

    def __init__(self, port: int, model: str):
        self.failed, self.answered, self.over = [], 0, threading.Event()

        def run() -> None:
            while not self.over.is_set():
                try:
                    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                        status, body = call(connection, "/v1/completions", {**BODY, "model": model})
                except OSError as error:
                    status, body = 0, error
                self.answered += 1
                if status != 200:
                    self.failed.append((status, body))
        self.thread = threading.Thread(target=run)

    def __enter__(self) -> "Load":
        self.thread.start()
        wait_for("requests are answered", lambda: self.answered > 2)
        return self

    def __exit__(self, kind, *error) -> None:
        self.over.set()
        self.thread.join()
        assert kind or not self.failed, (len(self.failed), self.failed[0])


def make_keys(conclave: str, folder: pathlib.Path) -> pathlib.Path:
    subprocess.run([conclave, "keys", "fabric", "--out", str(folder)], check=True, stdout=subprocess.DEVNULL)
    return folder


def status(conclave: str, stack: Stack, keys: pathlib.Path) -> dict | None:
    """The fleet, as an operator with these keys is told; None: it is not admitted."""
    told = json.loads((pathlib.Path(stack.state.name) / "up.json").read_text())
    done = subprocess.run([conclave, "status", "--scheduler", told["scheduler"], "--keys", str(keys), "-o", "json"], text=True,
                          capture_output=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


def routers_of(port: int) -> float:
    """That this gateway may give requests to."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        text = call(connection, "/metrics")[1]["text"]
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("conclave_gateway_routers_up "))


def restart(conclave: str, stack: Stack, keys: pathlib.Path, port: int, *nodes: str) -> None:
    """One after the other; the next goes when the one before it is back and does its work, for the gateway at `port`, too."""
    for node in nodes:
        before = stack.pids()[node]
        os.kill(before, signal.SIGTERM)

        def back() -> bool:
            if stack.pids().get(node, before) == before:
                return False
            fleet = status(conclave, stack, keys)
            if not fleet or not fleet["complete"]:
                return False
            return routers_of(port) == ROUTERS and sum(one["role"] == "router" for one in fleet["nodes"]) == ROUTERS
        wait_for(f"{node} is back", back)


def gateway_is_ready(port: int) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            return call(connection, "/ready")[0] == 200
    return False


def rotate_outgoing(conclave: str, model: str, folder: pathlib.Path) -> None:
    name = pathlib.Path(model).stem
    new = make_keys(conclave, folder / "new")
    with Stack(conclave, "up", "-m", model, "--workers", "2", "--routers", str(ROUTERS)) as stack:
        keys, told = pathlib.Path(stack.state.name) / "keys", json.loads((pathlib.Path(stack.state.name) / "up.json").read_text())
        old, mixed = folder / "old", folder / "mixed"
        shutil.copytree(keys, old)
        shutil.copytree(keys, mixed)
        for role in OUTGOING:
            for end in ("key", "pub"):
                shutil.copy(new / f"{role}.{end}", mixed / f"{role}.{end}")
        assert status(conclave, stack, old) and not status(conclave, stack, mixed), "a new key is admitted before anybody knows it"
        with Load(stack.port, name):
            for role in OUTGOING:
                shutil.copy(new / f"{role}.pub", keys / f"{role}-2.pub")
            restart(conclave, stack, old, stack.port, "registry", "scheduler", "router-1", "router-2")
        assert status(conclave, stack, old) and status(conclave, stack, mixed), "both keys are admitted"

        port = free_port()
        program = pathlib.Path(conclave).resolve().parent / "conclave-gateway"
        with Service(program, "gateway-2", str(mixed), folder / "gateway-2.log", "--fleet.scheduler", told["scheduler"],
                     "--gateway.port", str(port)):
            wait_for("a gateway with the new key serves", lambda: gateway_is_ready(port))
            with Load(port, name):
                for role in OUTGOING:
                    (keys / f"{role}-2.pub").unlink()
                    for end in ("key", "pub"):
                        shutil.copy(new / f"{role}.{end}", keys / f"{role}.{end}")
                restart(conclave, stack, mixed, port, "gateway", "registry", "scheduler", "router-1", "router-2")
        assert status(conclave, stack, mixed) and not status(conclave, stack, old), "the old key is out"
        assert stack.call("/v1/completions", {**BODY, "model": name})[0] == 200


def rotate_all(conclave: str, model: str) -> None:
    """With the fleet ended: what it knows is not in its keys."""
    with Stack(conclave, "up", "-m", model, "--workers", "1") as stack:
        keys, old = pathlib.Path(stack.state.name) / "keys", pathlib.Path(stack.state.name) / "old"
        request = {**BODY, "model": pathlib.Path(model).stem}
        before = stack.call("/v1/completions", request)

        def change() -> None:
            keys.rename(old)
            make_keys(conclave, keys)
        stack.restart(change)
        after = stack.call("/v1/completions", request)
        assert before[0] == after[0] == 200 and before[1]["choices"] == after[1]["choices"], (before, after)
        assert status(conclave, stack, keys) and not status(conclave, stack, old), "the old keys are out"


def main() -> int:
    conclave, model = sys.argv[1:3]
    with tempfile.TemporaryDirectory(prefix="conclave-rotate-") as folder:
        rotate_outgoing(conclave, model, pathlib.Path(folder))
    rotate_all(conclave, model)
    print("rotate keys: 2 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
