#!/usr/bin/env python3
"""kill -9 of a registry at random points while it registers, publishes, moves aliases and writes usage:
whatever it acknowledged is there afterwards, nothing is there twice, and the audit is whole.

The registry that is killed is this test's own, on the database of a `conclave up`, behind a gateway of its
own whose requests are computed by the others.

Usage: registry_kill_test.py CONCLAVE MODEL [KILLS [SEED]]
"""
import contextlib
import http.client
import pathlib
import random
import sys
import tempfile
import threading

from registry_stack import Admin, Pause, Service, admin_of, free_port, variant
from stack import Stack, call, wait_for

ALIVE_SECONDS = 0.3  # at most, between its first answer and the kill
LOST = (OSError, http.client.HTTPException)


class Writer:
    """A thread that changes things one after the other, and knows what was acknowledged."""

    def __init__(self, admin: Admin, step):
        self.admin = admin
        self.step = step
        self.over = threading.Event()
        self.error: BaseException | None = None
        self.acknowledged = 0
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        pause = Pause()
        try:
            while not self.over.is_set():
                try:
                    if self.step(self.admin):
                        self.acknowledged += 1
                    else:
                        pause.wait(0.02)
                except LOST:
                    pause.wait(0.02)
        except BaseException as error:  # noqa: BLE001 - told by check()
            self.error = error

    def end(self) -> None:
        self.over.set()
        self.thread.join()


class Aliases:
    """One writer's alias: what it points at is what was acknowledged last, or what was asked since."""

    def __init__(self, name: str, versions: list[int]):
        self.name, self.versions = name, versions
        self.may_be = [0]

    def step(self, admin: Admin) -> bool:
        to = random.choice(self.versions)
        self.may_be.append(to)
        status, _, _ = admin.call("PUT", f"/models/base/aliases/{self.name}", {"version": to})
        if status == 200:
            self.may_be = [to]
        return status == 200

    def check(self, admin: Admin) -> None:
        status, body, _ = admin.call("GET", f"/models/base/aliases/{self.name}")
        at = body["version"] if status == 200 else 0
        assert at in self.may_be, f"{self.name} points at {at}, not at one of {self.may_be}"


class Versions:
    """Registers drafts of files of their own, and publishes them."""

    def __init__(self, name: str, folder: pathlib.Path, first: int):
        self.name, self.folder = name, folder
        self.next = first
        self.known: dict[int, tuple[str, str]] = {}  # version -> (sum, state) as acknowledged
        self.asked: set[int] = set()  # to be published, without an answer

    def step(self, admin: Admin) -> bool:
        drafts = [v for v, (_, state) in self.known.items() if state == "draft"]
        if drafts:
            version = drafts[0]
            self.asked.add(version)
            status, body, _ = admin.call(
                "POST", f"/models/{self.name}/versions/{version}:publish")
            if status == 200:
                self.known[version] = (body["sha256"], "published")
            return status == 200
        file = variant(self.next, self.folder / f"{self.next}.gguf")
        status, body, _ = admin.call("POST", f"/models/{self.name}/versions",
                                     {"uri": str(file), "draft": True})
        while status == 202 and body["state"] == "running":
            status, body, _ = admin.call("GET", f"/operations/{body['id']}")
            status = 202 if status == 200 else status
        if status != 202 or body["state"] != "done":
            return False  # the next life is asked for the same file
        result = body["result"]
        self.known[result["version"]] = (result["sha256"], result["state"])
        self.next += 1
        return True

    def check(self, admin: Admin) -> None:
        if not self.known:
            return
        known = list(self.known.items())  # what is acknowledged later need not be in what is read now
        stored = {v["version"]: v for v in versions_of(admin, self.name)}
        sums = [v["sha256"] for v in stored.values()]
        assert len(sums) == len(set(sums)), f"{self.name}: the same bytes twice"
        for version, (sum_, state) in known:
            assert version in stored, f"{self.name}:{version} was acknowledged and is gone"
            found = stored[version]
            assert found["sha256"] == sum_, f"{self.name}:{version} has other bytes"
            assert found["state"] == state or (version in self.asked and found["state"] == "published"), \
                f"{self.name}:{version} is {found['state']}, acknowledged as {state}"


def versions_of(admin: Admin, name: str) -> list[dict]:
    versions, before = [], ""
    while True:
        page = admin.get(f"/models/{name}/versions?limit=1000{before}")
        versions += page["data"]
        if page["next"] is None:
            return versions
        before = f"&before={page['next']}"


class Requests:
    """Inference through the gateway of the registry that falls; counts what its clients were told."""

    def __init__(self, port: int, model: str):
        self.port, self.model = port, model
        self.requests = self.prompt = self.completion = 0

    def step(self, _: Admin) -> bool:
        with contextlib.closing(
                http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            status, body = call(connection, "/v1/completions", {
                "model": self.model, "prompt": "What is 2 + 2?", "max_tokens": 4, "temperature": 0})
        assert status == 200, f"a request failed because of the registry: {status} {body}"
        self.requests += 1
        self.prompt += body["usage"]["prompt_tokens"]
        self.completion += body["usage"]["completion_tokens"]
        return True


def used(admin: Admin, model: str) -> tuple[int, int, int]:
    rows = admin.get(f"/usage?by=total&model={model}")["data"]
    row = rows[0] if rows else {"requests": 0, "prompt_tokens": 0, "completion_tokens": 0}
    return row["requests"], row["prompt_tokens"], row["completion_tokens"]


class Registry:
    """The one that falls."""

    def __init__(self, stack: Stack, conclave: str, port: int):
        self.state = pathlib.Path(stack.state.name)
        programs = pathlib.Path(conclave).parent
        address = f"tcp://127.0.0.1:{free_port()}"
        environment = pathlib.Path(f"/proc/{stack.pids()['registry']}/environ").read_bytes().split(b"\0")
        database = next(v for v in environment if v.startswith(b"CONCLAVE_REGISTRY_DATABASE="))
        scheduler = pathlib.Path(f"/proc/{stack.pids()['gateway']}/cmdline").read_bytes().split(b"\0")
        scheduler = scheduler[scheduler.index(b"--fleet.scheduler") + 1].decode()
        keys = str(self.state / "keys")
        self.registry = Service(programs / "conclave-registry", "registry-2", keys,
                                self.state / "registry-2.log", "--registry.listen", address,
                                "--registry.database", database.decode().split("=", 1)[1],
                                "--registry.sums", str(self.state / "sums-2"))
        self.gateway = Service(programs / "conclave-gateway", "gateway-2", keys,
                               self.state / "gateway-2.log", "--gateway.registry", address,
                               "--gateway.port", str(port), "--fleet.scheduler", scheduler,
                               "--gateway.usage-spool", str(self.state / "usage-2"))


def answers(admin: Admin) -> bool:
    try:
        return admin.call("GET", "/models?limit=1")[0] == 200
    except LOST:
        return False


def main() -> int:
    conclave, model_path = sys.argv[1:3]
    kills = int(sys.argv[3]) if len(sys.argv) > 3 else 100
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.SystemRandom().randrange(1 << 32)
    print(f"replay: registry_kill_test.py CONCLAVE MODEL {kills} {seed}", flush=True)
    random.seed(seed)
    pause = Pause()
    with contextlib.ExitStack() as closing:
        stack = closing.enter_context(
            Stack(conclave, "up", "-m", model_path, "--workers", "1", "--postgres"))
        folder = pathlib.Path(closing.enter_context(tempfile.TemporaryDirectory()))
        steady = admin_of(stack)  # by the registry that does not fall
        model = stack.call("/v1/models")[1]["data"][0]["id"]
        port = free_port()
        victim = Registry(stack, conclave, port)
        closing.enter_context(victim.registry)
        closing.enter_context(victim.gateway)
        admin = Admin(port, steady.key)
        base = [steady.register("base", str(variant(100_000 + i, folder / f"base{i}.gguf")))["version"]
                for i in range(3)]
        wait_for("the second gateway answers", lambda: answers(admin))
        wait_for("the second gateway has routers", lambda: ready(port))
        tasks = [Aliases("a", base), Aliases("b", base), Versions("one", folder, 0),
                 Versions("two", folder, 50_000), Requests(port, model)]
        writers = [Writer(admin, task.step) for task in tasks]
        try:
            for number in range(kills):
                wait_for("the registry answers", lambda: answers(admin))
                pause.wait(random.random() * ALIVE_SECONDS)
                victim.registry.kill()
                check = steady.verify_audit()
                assert check["ok"], (number, check)
                for task in tasks[:-1]:
                    task.check(steady)
                victim.registry.start()
                for writer in writers:
                    if writer.error:
                        raise writer.error
        finally:
            for writer in writers:
                writer.end()
        wait_for("the registry answers", lambda: answers(admin))
        for reader in (admin, steady):
            for task in tasks[:-1]:
                task.check(reader)
        requests = tasks[-1]
        expected = (requests.requests, requests.prompt, requests.completion)
        wait_for("usage has arrived", lambda: used(steady, model) == expected, 30)
        check = steady.verify_audit()
        assert check["ok"], check
        assert writers[0].acknowledged and all(writer.acknowledged for writer in writers), \
            [writer.acknowledged for writer in writers]
        print(f"{kills} kills; acknowledged and found: "
              f"{writers[0].acknowledged + writers[1].acknowledged} moves of aliases, "
              f"{writers[2].acknowledged + writers[3].acknowledged} registrations and publications, "
              f"usage of {requests.requests} requests; {check['records']} audit records in a chain")
    return 0


def ready(port: int) -> bool:
    try:
        with contextlib.closing(
                http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            return call(connection, "/ready")[0] == 200
    except LOST:
        return False


if __name__ == "__main__":
    sys.exit(main())
