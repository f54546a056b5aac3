#!/usr/bin/env python3
"""What the registry pushes and what it is told, on a fleet with two registries: a key that was revoked opens
nothing a moment later, an alias that moves is followed at once (the scheduler would ask by itself only once an
hour), also while one registry hangs; and usage counts the pairs that were computed, and the time they took.

Usage: registry_news_test.py CONCLAVE MODEL
"""
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from registry_stack import Admin, admin_of, variant
from stack import Stack, wait_for

# A gateway believes a key for ten seconds if nobody tells it otherwise.
REVOKED_SECONDS = 5


def served(conclave: str, stack: Stack) -> set[int]:
    done = subprocess.run([conclave, "status", "--state", stack.state.name, "-o", "json"],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return set()
    return {model["version"] for model in json.loads(done.stdout)["models"]}


def revocation(stack: Stack, admin: Admin) -> float:
    status, made, _ = admin.call("POST", "/keys", {"tenant": "operators", "name": "ci", "role": "read"})
    assert status == 201, made
    reader = Admin(stack.port, made["secret"])
    assert reader.call("GET", "/models")[0] == 200
    status, revoked, _ = admin.call("DELETE", f"/keys/{made['id']}")
    assert status == 200, revoked
    begin = time.monotonic()
    wait_for("the key opens nothing", lambda: reader.call("GET", "/models")[0] == 401, REVOKED_SECONDS)
    return time.monotonic() - begin


def move(admin: Admin, version: int) -> None:
    def moved() -> bool:
        try:
            status, _, _ = admin.call("PUT", "/models/conclave-demo/aliases/current", {"version": version},
                                      timeout=20)
        except (OSError, http.client.HTTPException):
            return False
        return status == 200
    wait_for("the alias has moved", moved, 90)


def follows(conclave: str, stack: Stack, admin: Admin, version: int) -> float:
    move(admin, version)
    begin = time.monotonic()
    wait_for(f"version {version} is served", lambda: version in served(conclave, stack), 60)
    return time.monotonic() - begin


def usage(stack: Stack, admin: Admin, version: dict) -> None:
    """Every row that was computed has so many pairs; the last token is never computed."""
    status, made, _ = admin.call("POST", "/keys", {"tenant": "operators", "name": "user"})
    assert status == 201, made
    tokens = 24
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=60)
    connection.request("POST", "/v1/completions",
                       json.dumps({"model": "conclave-demo", "prompt": "What is 12 + 30?", "ignore_eos": True,
                                   "max_tokens": tokens, "n": 2}),
                       {"Content-Type": "application/json", "Authorization": f"Bearer {made['secret']}"})
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    assert response.status == 200, body
    told = body["usage"]
    assert told["completion_tokens"] == 2 * tokens, told
    layers = version["layers"] - version["dense_layers"]
    pairs = layers * version["experts_used"]
    # Rows that nothing is drawn from spare the last layer's experts. What the choices share of the prompt is
    # computed once or twice, as their steps fell.
    drawn = 2 * tokens * pairs
    row_pairs = pairs - version["experts_used"]
    rows = told["prompt_tokens"] - 1

    def used() -> dict | None:
        rows = admin.get(f"/usage?by=total&key={made['id']}")["data"]
        return rows[0] if rows and rows[0]["requests"] else None
    row = wait_for("usage has arrived", used, 30)
    assert row["completion_tokens"] == 2 * tokens, row
    read, rest = divmod(row["expert_pairs"] - drawn, row_pairs)
    assert rows <= read <= 2 * rows and rest == 0, (drawn, row_pairs, rows, row)
    assert 0 < row["device_us"] < 60_000_000, row
    print(f"{row['expert_pairs']} pairs, {row['device_us']} us of devices for {row['completion_tokens']} tokens")


def main() -> int:
    conclave, model = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        with Stack(conclave, "up", "-m", model, "--workers", "2", "--postgres", "--registries", "2",
                   "--set", "scheduler.resolve-ms=3600000") as stack:
            admin = admin_of(stack)
            usage(stack, admin, admin.get("/models/conclave-demo/versions/1"))
            seconds = revocation(stack, admin)
            print(f"revoked, and worth nothing {seconds:.2f} s later")
            file = str(variant(1, pathlib.Path(folder) / "second.gguf"))
            assert admin.register("conclave-demo", file)["version"] == 2
            print(f"moved, and followed {follows(conclave, stack, admin, 2):.2f} s later")

            # The registry that the scheduler asks first hangs; a lost one would be back in a moment.
            pid = stack.pids()["registry-1"]
            os.kill(pid, signal.SIGSTOP)
            try:
                print(f"without its registry: {follows(conclave, stack, admin, 1):.2f} s")
            finally:
                os.kill(pid, signal.SIGCONT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
