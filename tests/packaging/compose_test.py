#!/usr/bin/env python3
"""compose/ as a user meets it, with a real Docker engine: build, up, an answer, more workers, a worker and a
router killed, Prometheus and Alertmanager beside it, everything restarted with its volumes, down. Prints the figures
of README.md.

Usage: compose_test.py [--keep]      (--keep: leave it running at the end)
"""
import argparse
import contextlib
import http.client
import json
import os
import socket
import sys
import threading
import time

import engine

PROJECT = "conclave-test"
FILE = str(engine.ROOT / "compose" / "docker-compose.yml")
QUESTION = {"model": "conclave-demo", "messages": [{"role": "user", "content": "What is 47 + 385?"}],
            "temperature": 0, "max_tokens": 16}
IMAGES = ["conclave", "gateway", "router", "expert-worker", "scheduler", "registry"]
IMAGE_BYTES_MAX = 150_000_000


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Composed:
    """A composed Conclave under a project name of its own."""

    def __init__(self):
        self.port = free_port()
        self.prometheus, self.alertmanager = free_port(), free_port()
        self.env = {**os.environ, "GATEWAY_PORT": str(self.port), "PROMETHEUS_PORT": str(self.prometheus),
                    "ALERTMANAGER_PORT": str(self.alertmanager)}

    def compose(self, *arguments: str, **more) -> str:
        return engine.run("docker-compose", "-p", PROJECT, "-f", FILE, *arguments, env=self.env, **more)

    def down(self, *arguments: str, **more) -> None:
        """Of all profiles, so that nothing is left."""
        self.compose("--profile", "monitoring", "down", *arguments, **more)

    def ids(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service, capture=True).split()

    def ask(self, timeout: float = 60) -> tuple[int, str]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)) as connection:
            connection.request("POST", "/v1/chat/completions", json.dumps(QUESTION),
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = json.loads(response.read())
            if response.status != 200:
                return response.status, json.dumps(body)
            return 200, body["choices"][0]["message"]["content"].strip()

    def answers(self) -> bool:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            return self.ask() == (200, "432")
        return False

    def metric(self, container: str, name: str) -> float:
        """The sum of a metric over its labels, read inside the container's network."""
        address = engine.run("docker", "inspect", "-f",
                             "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container,
                             capture=True).strip()
        with contextlib.closing(http.client.HTTPConnection(address, 9464, timeout=5)) as connection:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines
                   if line.startswith(name) and line[len(name)] in "{ ")


class Load:
    """Asks all the time, in a few threads; keeps what was not the right answer."""

    def __init__(self, composed: Composed, threads: int = 3):
        self.composed, self.wrong, self.count = composed, [], 0
        self.end = threading.Event()
        self.threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def _ask(self):
        while not self.end.is_set():
            try:
                answer = self.composed.ask()
            except (OSError, ValueError, http.client.HTTPException) as error:
                answer = (0, repr(error))
            self.count += 1
            if answer != (200, "432"):
                self.wrong.append(answer)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.end.set()
        for thread in self.threads:
            thread.join()

    def more(self, requests: int, seconds: float = 120):
        """Waits until so many more requests were answered, one way or the other."""
        goal = self.count + requests
        engine.wait_for(f"{requests} more answers", lambda: self.count >= goal, seconds)


def check_images() -> None:
    for image in IMAGES:
        name = f"conclave/{image}:0.1.0"
        inspected = json.loads(engine.run("docker", "image", "inspect", name, capture=True))[0]
        size = inspected["Size"]
        print(f"image {name}: {size / 1e6:.0f} MB")
        assert size < IMAGE_BYTES_MAX, f"{name} has {size} bytes"
        assert inspected["Config"]["User"] not in ("", "root", "0"), f"{name} runs as root"
        program = "conclave" if image == "conclave" else f"conclave-{image}"
        bill = json.loads(engine.run("docker", "run", "--rm", "--entrypoint", "cat", name,
                                     "/usr/share/conclave/sbom.spdx.json", capture=True))
        assert bill["spdxVersion"] == "SPDX-2.3"
        names = {package["name"] for package in bill["packages"]}
        assert {program, "libc6", "libzmq5"} <= names, f"{name}: its bill of materials lacks {names}"


def check_worker_joins(composed: Composed, workers: int) -> None:
    started = time.monotonic()
    before = set(composed.ids("expert-worker"))
    composed.compose("up", "-d", "--no-recreate", "--scale", f"expert-worker={workers}")
    new = set(composed.ids("expert-worker")) - before
    assert len(before | new) == workers, f"{len(before | new)} workers instead of {workers}"

    def serves() -> bool:
        composed.ask()
        with contextlib.suppress(OSError, http.client.HTTPException):
            return any(composed.metric(worker, "conclave_expert_worker_pairs_total") > 0 for worker in new)
        return False

    engine.wait_for("a new worker computes a pair", serves, 60)
    print(f"--scale to the first pair of a new worker: {time.monotonic() - started:.1f} s")


def check_monitoring(composed: Composed) -> None:
    """Prometheus finds every container, has the rules, and Alertmanager would hear of them. (Grafana has no stand-in.)"""
    composed.compose("up", "-d", "--no-recreate", "prometheus", "alertmanager")

    def get(path: str):
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", composed.prometheus, timeout=10)) as connection:
                connection.request("GET", path)
                return json.loads(connection.getresponse().read())["data"]
        return {}

    def scraped() -> bool:
        result = get("/api/v1/query?query=sum%20by%20(service)(up)").get("result", [])
        found = {one["metric"]["service"]: int(float(one["value"][1])) for one in result}
        return found == {name: len(composed.ids(name)) for name in ("gateway", "router", "expert-worker", "scheduler", "registry")}
    engine.wait_for("Prometheus scrapes every container", scraped, 120)
    engine.wait_for("Prometheus knows an Alertmanager", lambda: get("/api/v1/alertmanagers").get("activeAlertmanagers"), 60)
    alerts = [rule for group in get("/api/v1/rules")["groups"] for rule in group["rules"] if rule["type"] == "alerting"]
    assert len(alerts) > 8 and not any(rule["lastError"] for rule in alerts if "lastError" in rule), alerts
    for service in ("prometheus", "alertmanager"):
        [container] = composed.ids(service)
        engine.wait_for(f"{service} is healthy", lambda container=container: engine.run(
            "docker", "inspect", "-f", "{{.State.Health.Status}}", container, capture=True).strip() == "healthy", 60)


def check_losses(composed: Composed) -> None:
    """A worker, then a router, are killed while clients ask. No client notices."""
    for service in ("expert-worker", "router"):
        with Load(composed) as load:
            load.more(20)
            engine.run("docker", "kill", composed.ids(service)[0])
            load.more(60)
        assert not load.wrong, f"{service} killed: {len(load.wrong)} of {load.count} wrong, first {load.wrong[0]}"
        print(f"{service} killed under load: {load.count} requests, none failed or differed")


def check_restart(composed: Composed) -> None:
    composed.down()
    started = time.monotonic()
    composed.compose("up", "-d")
    engine.wait_for("an answer after a restart of everything", composed.answers, 120)
    print(f"everything restarted, volumes kept: an answer after {time.monotonic() - started:.1f} s")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    with engine.engine():
        engine.ensure_images()
        composed = Composed()
        composed.down("-v", "--remove-orphans")
        try:
            started = time.monotonic()
            composed.compose("build", "-q")
            print(f"images built in {time.monotonic() - started:.0f} s")
            started = time.monotonic()
            composed.compose("up", "-d")
            engine.wait_for("an answer", composed.answers, 180)
            print(f"up to the first answer: {time.monotonic() - started:.1f} s")
            check_images()
            check_worker_joins(composed, 8)
            check_monitoring(composed)
            check_losses(composed)
            check_restart(composed)
        except BaseException:
            composed.compose("ps", check=False)
            composed.compose("logs", "--tail", "60", check=False)
            raise
        finally:
            if not options.keep:
                composed.down("-v", check=False)
    print("compose: 7 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
