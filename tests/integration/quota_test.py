#!/usr/bin/env python3
"""A tenant's quota, held to by two gateways that count in one real Redis: of so many requests exactly the limit is
let in; Redis that is killed, hung and started under load fails no request; day and month survive gateways and Redis;
requests of a gateway that was killed stop being open; OpenAI's headers and codes; and `--gateway.require-key`.

Usage: quota_test.py CONCLAVE MODEL
"""
import concurrent.futures
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.parse

from registry_stack import Admin, admin_of, free_port
from stack import Stack, wait_for

BODY = {"model": "conclave-demo", "prompt": "What is 12 + 30?", "max_tokens": 4, "temperature": 0}


class Redis:
    """A redis-server on loopback, with nothing on disk. A context manager."""

    def __init__(self):
        self.port = free_port()
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--requirepass", "open sesame", "--dir", "/tmp"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> "Redis":
        return self

    def __exit__(self, *error) -> None:
        self.kill()


def post(port: int, key: str | None, **more) -> tuple[int, dict, dict]:
    """(status, JSON, headers)"""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", "/v1/completions", json.dumps(BODY | more), headers)
        response = connection.getresponse()
        body = json.loads(response.read())
        return response.status, body, {name.lower(): value for name, value in response.getheaders()}


def tenant(admin: Admin, name: str, **quota: int) -> str:
    """A key of a new tenant with this quota."""
    assert admin.call("POST", "/tenants", {"name": name})[0] == 201
    assert admin.call("PUT", f"/quotas/{name}", quota)[0] == 200
    status, made, _ = admin.call("POST", "/keys", {"tenant": name, "name": "key"})
    assert status == 201, made
    return made["secret"]


def metric(port: int, name: str) -> float:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", "/metrics")
        for line in connection.getresponse().read().decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
    raise AssertionError(f"no {name}")


def redis_is_up(ports: list[int], up: bool) -> bool:
    return all(metric(port, "conclave_gateway_redis_up") == up for port in ports)


def exactly(ports: list[int], admin: Admin) -> None:
    """100 requests at once, at both gateways, of which 37 may come in."""
    key = tenant(admin, "exact", requests_per_minute=37)
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda i: post(ports[i % 2], key), range(100)))
    statuses = [status for status, _, _ in answers]
    assert statuses.count(200) == 37 and statuses.count(429) == 63, statuses
    _, error, headers = next(answer for answer in answers if answer[0] == 429)
    assert error["error"]["code"] == "rate_limit_exceeded" and error["error"]["type"] == "requests", error
    assert 1 <= int(headers["retry-after"]) <= 60 and headers["x-ratelimit-limit-requests"] == "37", headers
    left = sorted(int(h["x-ratelimit-remaining-requests"]) for s, _, h in answers if s == 200)
    assert left == list(range(37)), left
    print("exactly 37 of 100 requests were let in, at two gateways")


def settled(ports: list[int], admin: Admin) -> None:
    """A minute's tokens count as they were used, not as they were asked for."""
    key = tenant(admin, "tokens", tokens_per_minute=5000)
    status, body, headers = post(ports[0], key, max_tokens=200)
    assert status == 200, body
    assert int(headers["x-ratelimit-remaining-tokens"]) <= 4800, headers
    used = body["usage"]["total_tokens"]
    assert used < 100, body

    def remaining() -> int:
        return int(post(ports[1], key, max_tokens=1)[2]["x-ratelimit-remaining-tokens"])
    wait_for("what was not used is free again", lambda: remaining() > 4500)
    status, error, headers = post(ports[1], key, max_tokens=6000)
    assert status == 429 and error["error"]["type"] == "tokens" and headers["x-should-retry"] == "false", error


def used_up(stack: Stack, ports: list[int], admin: Admin, redis: Redis) -> None:
    """A month that is used up stays so over new gateways and a new Redis."""
    key = tenant(admin, "month", tokens_per_month=60)
    while (answer := post(ports[0], key))[0] == 200:
        pass
    status, error, headers = answer
    assert status == 429 and error["error"]["code"] == "insufficient_quota", error
    assert headers["x-should-retry"] == "false" and int(headers["retry-after"]) > 0, headers
    spent = wait_for("usage has arrived", lambda: (rows := admin.get("/usage?by=total&tenant=month")["data"])
                     and (t := rows[0]["prompt_tokens"] + rows[0]["completion_tokens"]) > 40 and t, 30)
    redis.kill()
    for name in ("gateway", "gateway-2"):
        os.kill(stack.pids()[name], signal.SIGKILL)
    redis.start()
    wait_for("gateways are back", lambda: all(is_ready(port) for port in ports))
    wait_for("Redis is back", lambda: redis_is_up(ports, True))

    def refused() -> bool:
        status, body, _ = post(ports[1], key)
        assert status in (200, 429), body
        return status == 429
    # What the registry had counted, 5 s late at most; a new gateway lets in who it does not know yet.
    wait_for("the month is used up as before", refused, 30)
    print(f"{spent} tokens of a month of 60 outlive Redis and both gateways")


def is_ready(port: int) -> bool:
    try:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
    except OSError:
        return False


def without_redis(ports: list[int], admin: Admin, redis: Redis) -> None:
    """Under load Redis dies, hangs and comes back: nothing fails, nothing waits for it."""
    key = tenant(admin, "load", requests_per_minute=1_000_000, concurrent_requests=100)
    over = threading.Event()
    failed, answered = [], [0]

    def load(port: int) -> None:
        while not over.is_set():
            status, body, _ = post(port, key)
            if status != 200:
                failed.append((status, body))
            answered[0] += 1
    threads = [threading.Thread(target=load, args=(port,)) for port in ports for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            redis.kill()
            wait_for("both count alone", lambda: redis_is_up(ports, False))
            before = answered[0]
            wait_for("requests go on", lambda: answered[0] > before + 20)
            redis.start()
            wait_for("both count together", lambda: redis_is_up(ports, True))
            redis.process.send_signal(signal.SIGSTOP)
            wait_for("both count alone", lambda: redis_is_up(ports, False))
            before = answered[0]
            wait_for("requests go on", lambda: answered[0] > before + 20)
            redis.process.send_signal(signal.SIGCONT)
            wait_for("both count together", lambda: redis_is_up(ports, True))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failed, failed[:3]
    alone = sum(metric(port, "conclave_gateway_quota_alone_total") for port in ports)
    assert alone > 0
    print(f"Redis killed and hung twice: {answered[0]} requests, none failed, {alone:.0f} were counted alone")


def leases(stack: Stack, ports: list[int], admin: Admin) -> None:
    """What a killed gateway had open is free again when its lease lapses."""
    key = tenant(admin, "open", concurrent_requests=1)
    assert post(ports[0], key)[0] == 200  # the gateway knows the key
    body = json.dumps(BODY | {"max_tokens": 900, "n": 8, "ignore_eos": True, "stream": True})
    connection = http.client.HTTPConnection("127.0.0.1", ports[1], timeout=60)
    connection.request("POST", "/v1/completions", body,
                       {"Content-Type": "application/json", "Authorization": f"Bearer {key}"})
    response = connection.getresponse()
    assert response.status == 200 and response.readline()
    status, error, _ = post(ports[0], key)
    assert status == 429 and "at once" in error["error"]["message"], error
    os.kill(stack.pids()["gateway-2"], signal.SIGKILL)
    connection.close()
    wait_for("its lease has lapsed", lambda: post(ports[0], key)[0] == 200, 45)
    wait_for("it is back", lambda: is_ready(ports[1]))


def main() -> int:
    conclave, model = sys.argv[1:3]
    with Redis() as redis, Stack(conclave, "up", "-m", model, "--workers", "1", "--gateways", "2", "--redis",
                                 f"redis://:open%20sesame@127.0.0.1:{redis.port}") as stack:
        line = stack.read_line(time.monotonic() + 10)
        ports = [stack.port, urllib.parse.urlsplit(line.removeprefix("also: ")).port]
        wait_for("both are ready", lambda: all(is_ready(port) for port in ports))
        wait_for("both have Redis", lambda: redis_is_up(ports, True))
        admin = admin_of(stack)
        for port in ports:  # until it has the registry, a key counts for nobody
            wait_for("it knows keys", lambda p=port: Admin(p, admin.key).call("GET", "/tenants")[0] == 200)
        exactly(ports, admin)
        settled(ports, admin)
        leases(stack, ports, admin)
        without_redis(ports, admin, redis)
        used_up(stack, ports, admin, redis)
    with Stack(conclave, "up", "-m", model, "--workers", "1", "--set", "gateway.require-key=true") as stack:
        admin = admin_of(stack)
        key = tenant(admin, "alone", requests_per_minute=1)
        assert post(stack.port, None)[0] == 401
        assert post(stack.port, "no such key at all")[1]["error"]["code"] == "invalid_api_key"
        assert post(stack.port, key)[0] == 200 and post(stack.port, key)[0] == 429
    return 0


if __name__ == "__main__":
    sys.exit(main())
