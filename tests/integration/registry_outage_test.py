#!/usr/bin/env python3
"""PostgreSQL is stopped for some time while requests are computed: none of them fails, reads of the
registry go on and say that they are stale, changes are refused with 503, and when it is back everything
heals by itself; the usage of that time arrives, once.

Usage: registry_outage_test.py CONCLAVE MODEL [SECONDS]
"""
import contextlib
import http.client
import json
import sys
import threading

from registry_stack import Pause, Postgres, admin_of
from stack import Stack, wait_for

CLIENTS = 4


class Client:
    """Requests one after another, each with an API key; what it was told of usage."""

    def __init__(self, stack: Stack, model: str, key: str):
        self.stack = stack
        self.body = json.dumps({"model": model, "prompt": "What is 2 + 2?", "max_tokens": 4,
                                "temperature": 0})
        self.headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        self.sums = [0, 0, 0]
        self.failed: list = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.over.is_set():
            try:
                with contextlib.closing(self.stack.connection()) as connection:
                    connection.request("POST", "/v1/completions", self.body, self.headers)
                    response = connection.getresponse()
                    status, body = response.status, json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.failed.append(error)
                continue
            if status != 200:
                self.failed.append((status, body))
                continue
            self.sums[0] += 1
            self.sums[1] += body["usage"]["prompt_tokens"]
            self.sums[2] += body["usage"]["completion_tokens"]

    def end(self) -> None:
        self.over.set()
        self.thread.join()


def used(admin, key_id: str) -> list[int]:
    rows = admin.get(f"/usage?by=total&key={key_id}")["data"]
    return [rows[0][n] for n in ("requests", "prompt_tokens", "completion_tokens")] if rows else [0, 0, 0]


def outage(admin, postgres: Postgres, seconds: float) -> None:
    known = admin.get("/models")
    postgres.stop()

    def stale() -> bool:
        status, body, told = admin.call("GET", "/models")
        assert status in (200, 503), (status, body)
        assert status != 200 or body == known, body
        return status == 200 and told.get("x-conclave-stale") == "true"
    wait_for("reads say that they are stale", stale, 30)
    status, body, _ = admin.call("PUT", "/models/conclave-demo/aliases/canary", {"version": 1})
    assert status == 503, (status, body)
    Pause().wait(seconds)
    assert stale()
    postgres.start()

    def healed() -> bool:
        status, _, told = admin.call("GET", "/models")
        return status == 200 and "x-conclave-stale" not in told
    wait_for("the registry has its database again", healed, 60)
    wait_for("changes are taken again", lambda: admin.call(
        "PUT", "/models/conclave-demo/aliases/canary", {"version": 1})[0] == 200, 30)


def main() -> int:
    conclave, path = sys.argv[1:3]
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 8
    with Postgres() as postgres, \
            Stack(conclave, "up", "-m", path, "--workers", "1", "--postgres", postgres.url) as stack:
        admin = admin_of(stack)
        model = stack.call("/v1/models")[1]["data"][0]["id"]
        assert admin.call("POST", "/tenants", {"name": "acme"})[0] == 201
        status, key, _ = admin.call("POST", "/keys", {"tenant": "acme"})
        assert status == 201, key
        clients = [Client(stack, model, key["secret"]) for _ in range(CLIENTS)]
        try:
            wait_for("usage comes in", lambda: used(admin, key["id"])[0] > 0)
            before = sum(client.sums[0] for client in clients)
            outage(admin, postgres, seconds)
            during = sum(client.sums[0] for client in clients) - before
        finally:
            for client in clients:
                client.end()
        failed = [failure for client in clients for failure in client.failed]
        assert not failed, (len(failed), failed[:3])
        assert during > 0
        told = [sum(client.sums[i] for client in clients) for i in range(3)]
        wait_for("all usage has arrived", lambda: used(admin, key["id"]) == told, 60)
        # And stays so: no batch is counted again.
        Pause().wait(3)
        assert used(admin, key["id"]) == told, (used(admin, key["id"]), told)
        assert admin.verify_audit()["ok"]
        print(f"PostgreSQL away for {seconds:g} s and more: {told[0]} requests, {during} of them"
              f" meanwhile, none failed; usage {told} arrived once")
    return 0


if __name__ == "__main__":
    sys.exit(main())
