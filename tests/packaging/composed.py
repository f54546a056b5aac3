"""A composed Conclave under a project name of its own, asked as clients, operators and Prometheus ask it; and load on
it that keeps what was wrong. Standard library only."""
import contextlib
import http.client
import json
import math
import os
import pathlib
import socket
import sys
import threading
import urllib.parse

import engine

for _tests in ("integration", "monitoring"):
    sys.path.insert(0, str(engine.ROOT / "tests" / _tests))
from registry_stack import Admin  # noqa: E402  (the folders are added first)

COMPOSE = engine.ROOT / "compose"
MODEL = "conclave-demo"
QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "What is 47 + 385?"}], "temperature": 0, "max_tokens": 16}
RIGHT = (200, "432")


def free_ports(count: int = 1) -> int:
    """The first of so many that follow each other."""
    while True:
        with contextlib.ExitStack() as held, contextlib.suppress(OSError, OverflowError):
            first = held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            for port in range(first + 1, first + count):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


class Composed:
    """Of `files` in compose/ (or by their path). `env` may be changed before the next `up`."""

    def __init__(self, project: str, *files: str, **env: str):
        self.project = project
        self.files = [argument for name in files for argument in ("-f", str(COMPOSE / name))]
        self.port, self.prometheus, self.alertmanager = free_ports(), free_ports(), free_ports()
        self.env = {**os.environ, "GATEWAY_PORT": str(self.port), "PROMETHEUS_PORT": str(self.prometheus),
                    "ALERTMANAGER_PORT": str(self.alertmanager), **env}

    def compose(self, *arguments: str, **more) -> str:
        return engine.run("docker-compose", "-p", self.project, *self.files, *arguments, env=self.env, **more)

    def down(self, *arguments: str, **more) -> None:
        """Of all profiles, so that nothing is left."""
        profiles = [word for name in ("monitoring", "standby", "registries") for word in ("--profile", name)]
        self.compose(*profiles, "down", *arguments, **more)

    def ids(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service, capture=True).split()

    def logs(self) -> None:
        self.compose("ps", check=False)
        self.compose("logs", "--tail", "60", check=False)

    def healthy(self, *services: str) -> bool:
        """Whether every container of these says of itself that it is."""
        ids = [one for service in services for one in self.ids(service)]
        states = engine.run("docker", "inspect", "-f", "{{.State.Status}} {{.State.Health.Status}}", *ids, capture=True).splitlines()
        return len(ids) >= len(services) and set(states) == {"running healthy"}

    # ---- as a client

    def ask(self, timeout: float = 60, port: int = 0, key: str = "") -> tuple[int, str]:
        """Of the gateway at another port than the usual one, with an API key."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=timeout)) as connection:
            connection.request("POST", "/v1/chat/completions", json.dumps(QUESTION), headers)
            response = connection.getresponse()
            body = json.loads(response.read())
            if response.status != 200:
                return response.status, json.dumps(body)
            return 200, body["choices"][0]["message"]["content"].strip()

    def answers(self, port: int = 0) -> bool:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            return self.ask(port=port) == RIGHT
        return False

    # ---- as an operator

    def admin(self) -> Admin:
        # Out of its volume, and in no network: an engine under load may leak the endpoint of a container that lives so shortly.
        key = engine.run("docker", "run", "--rm", "--network", "none", "-v", f"{self.project}_secrets:/secrets:ro",
                         "--entrypoint", "cat", "conclave/conclave:0.1.0", "/secrets/admin.key", capture=True)
        return Admin(self.port, key.split()[-1])

    def keys_for_worker(self, folder: pathlib.Path) -> None:
        """What another machine's worker needs, as docs/operations.md takes it from the volume."""
        archive = folder / "keys.tar"
        roles = ("gateway", "router", "expert-worker", "scheduler", "registry", "operator")
        with open(archive, "wb") as file:
            engine.run("docker-compose", "-p", self.project, *self.files, "run", "--rm", "-T", "--entrypoint", "tar", "init",
                       "-C", "/run/conclave/keys", "-c", "expert-worker.key", *(f"{role}.pub" for role in roles),
                       env=self.env, to=file)
        engine.run("tar", "-C", str(folder), "-x", "-f", str(archive))
        archive.unlink()
        folder.chmod(0o755)  # the files in it are for user 10001 alone

    # ---- as Prometheus

    def metric(self, container: str, name: str) -> float:
        """The sum of a metric over its labels, read from the container's admin port."""
        networks = json.loads(engine.run("docker", "inspect", "-f", "{{json .NetworkSettings.Networks}}", container, capture=True))
        address = next(network["IPAddress"] for network in networks.values())
        with contextlib.closing(http.client.HTTPConnection(address, 9464, timeout=5)) as connection:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines
                   if line.startswith(name) and line[len(name)] in "{ ")


class Prometheus:
    """The composed one, asked over its published port. {} and [] where it does not answer yet."""

    def __init__(self, port: int):
        self.port = port

    def get(self, path: str) -> dict:
        with contextlib.suppress(OSError, ValueError, KeyError, http.client.HTTPException):
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
                connection.request("GET", path)
                return json.loads(connection.getresponse().read())["data"]
        return {}

    def query(self, expr: str) -> list[dict]:
        return self.get("/api/v1/query?query=" + urllib.parse.quote(expr)).get("result", [])

    def has_data(self, expr: str) -> bool:
        return any(not math.isnan(float(one["value"][1])) for one in self.query(expr))


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
            if answer != RIGHT:
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

    def check(self, what: str) -> None:
        """After its end."""
        assert not self.wrong, f"{what}: {len(self.wrong)} of {self.count} wrong, first {self.wrong[0]}"
        print(f"{what}: {self.count} requests, none failed or differed", flush=True)
