#!/usr/bin/env python3
"""Several versions of a model at once, as an operator serves them: an alias that moves under load fails no
request and changes no byte within an answer; a deployment shares its traffic by weight, keeps users where they
are, gives its versions its replica floor, and shows a version what it would be asked.

Usage: versions_test.py CONCLAVE MODEL
"""
import collections
import contextlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading

from registry_stack import Admin, admin_of, tensors
from stack import Stack, wait_for

NAME = "conclave-demo"
QUESTIONS = [f"What is {7 * i} + {11 * i}?" for i in range(1, 9)]


def second_version(model: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    """The model with other experts in one layer: it answers, and nothing that the first one does."""
    shutil.copyfile(model, path)
    offset, size = tensors(model)["blk.1.ffn_down_exps.weight"]
    with open(path, "r+b") as file:
        file.seek(offset)
        data = bytearray(file.read(size))
        for block in range(0, size - 33, 34):  # two bytes of scale, 32 of weights
            data[block + 2:block + 34] = data[block + 2:block + 34][::-1]
        file.seek(offset)
        file.write(data)
    return path


def ask(stack: Stack, question: str, model: str = NAME, **more) -> tuple[int, dict, str]:
    """(status, answer, version that computed it)"""
    body = {"model": model, "prompt": question, "max_tokens": 24, "temperature": 0, "ignore_eos": True} | more
    with contextlib.closing(stack.connection()) as connection:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        return response.status, answer, response.getheader("X-Conclave-Model-Version") or ""


def text_of(answer: dict) -> str:
    return answer["choices"][0]["text"]


class Load:
    """Clients that ask one question after another until they are told to stop."""

    def __init__(self, stack: Stack, model: str, clients: int = 4):
        self.answers = []  # (question, status, version, text)
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(stack, model, i)) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def _run(self, stack: Stack, model: str, client: int) -> None:
        at = client
        while not self.over.is_set():
            question = QUESTIONS[at % len(QUESTIONS)]
            at += 1
            status, answer, version = ask(stack, question, model)
            with self.lock:
                self.answers.append((question, status, version,
                                     text_of(answer) if status == 200 else answer))

    def count(self, version: str = "") -> int:
        with self.lock:
            return sum(1 for answer in self.answers if version in answer[2])

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *error) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


def served(conclave: str, stack: Stack) -> dict[int, dict]:
    """What `conclave status` says of each version."""
    done = subprocess.run([conclave, "status", "--state", stack.state.name, "-o", "json"],
                          capture_output=True, text=True, timeout=60, check=True)
    return {model["version"]: model for model in json.loads(done.stdout)["models"]}


def set_alias(admin: Admin, version: int) -> None:
    """The alias that `up` serves."""
    status, body, _ = admin.call("PUT", f"/models/{NAME}/aliases/current", {"version": version})
    assert status in (200, 201), (status, body)


def alone(stack: Stack, version: int) -> dict[str, str]:
    """What a version answers to each question; it must be served."""
    answers = {}
    for question in QUESTIONS:
        status, answer, by = ask(stack, question, f"{NAME}:{version}")
        assert status == 200 and by == f"{NAME}:{version}", (status, answer, by)
        assert answer["model"] == f"{NAME}:{version}", answer
        answers[question] = text_of(answer)
    return answers


def moves_an_alias(conclave: str, stack: Stack, admin: Admin, to: int,
                   known: dict[int, dict[str, str]]) -> None:
    """Under load: no request fails, and each answer is the one of the version that its head names."""
    with Load(stack, NAME) as load:
        wait_for("some answers before", lambda: load.count() > 20)
        set_alias(admin, to)
        wait_for("the new version answers", lambda: load.count(f":{to}") > 20)
        if to not in known:
            known[to] = alone(stack, to)
        wait_for("the old version is gone", lambda: list(served(conclave, stack)) == [to])
        seen = load.count()
        wait_for("some answers after", lambda: load.count() > seen + 20)
    by_version = collections.Counter()
    for question, status, version, text in load.answers:
        assert status == 200, (status, text)
        number = int(version.rsplit(":", 1)[1])
        assert text == known[number][question], (version, question, text, known[number][question])
        by_version[number] += 1
    assert set(by_version) == set(known), by_version
    print(f"alias moved to version {to}: {dict(by_version)} answers, none failed, none differed")


def deploy(admin: Admin, body: dict) -> None:
    status, answer, _ = admin.call("PUT", "/deployments/chat", body)
    assert status in (200, 201), (status, answer)


def shares_traffic(conclave: str, stack: Stack, admin: Admin, known: dict[int, dict[str, str]]) -> None:
    deploy(admin, {"split": [{"reference": f"{NAME}:1", "weight": 90},
                             {"reference": f"{NAME}:2", "weight": 10}],
                   "sticky": "user", "replica_floor": 3, "policy": "fail"})
    wait_for("both versions are served", lambda: (
        set(now := served(conclave, stack)) == {1, 2} and all(m["complete"] for m in now.values())))
    wait_for("both answer", lambda: all(
        ask(stack, QUESTIONS[0], f"{NAME}:{version}")[0] == 200 for version in (1, 2)))
    wait_for("the name is known", lambda: "chat" in [
        model["id"] for model in stack.call("/v1/models")[1]["data"]])

    where = {}
    for i in range(300):
        user = f"user-{i}"
        question = QUESTIONS[i % len(QUESTIONS)]
        status, answer, version = ask(stack, question, "chat", user=user, max_tokens=4)
        assert status == 200 and answer["model"] == "chat", (status, answer)
        where[user] = version
        assert known[int(version[-1])][question].startswith(text_of(answer)), (version, answer)
    second = sum(1 for version in where.values() if version.endswith(":2"))
    # 30 expected; four standard deviations of a fair draw.
    assert 9 <= second <= 51, second
    for user in list(where)[:40]:
        assert ask(stack, QUESTIONS[0], "chat", user=user, max_tokens=1)[2] == where[user], user
    print(f"90/10: {300 - second} and {second} of 300 users, each stays")

    for version in (1, 2):
        wait_for("the deployment's floor", lambda: all(
            len(expert["workers"]) == 3
            for expert in admin.list(f"/experts?model={NAME}:{version}")))
    print("every expert of both versions has the deployment's three copies")


def shows_a_shadow(stack: Stack, admin: Admin) -> None:
    def sent() -> float:
        with contextlib.closing(stack.connection()) as connection:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        return sum(float(line.split()[-1]) for line in text.splitlines()
                   if line.startswith('conclave_gateway_shadows_total{outcome="sent"}'))

    deploy(admin, {"split": [{"reference": f"{NAME}:1", "weight": 1}], "shadow": f"{NAME}:2",
                   "shadow_percent": 100})

    def is_copied() -> bool:
        before = sent()
        status, _, version = ask(stack, QUESTIONS[0], "chat", max_tokens=2)
        assert status == 200, status
        return version == f"{NAME}:1" and sent() > before
    wait_for("a copy is sent", is_copied)
    before = sent()
    for question in QUESTIONS:
        status, answer, version = ask(stack, question, "chat", max_tokens=2)
        assert status == 200 and version == f"{NAME}:1", (status, answer, version)
    assert sent() == before + len(QUESTIONS), (before, sent())
    print("each request was copied for the shadow, and answered by the first version")


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    conclave, model = sys.argv[1], pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="conclave-versions-") as folder, \
            Stack(conclave, "up", "-m", str(model), "--workers", "3", "--routers", "2") as stack:
        admin = admin_of(stack)
        set_alias(admin, 1)
        known = {1: alone(stack, 1)}
        made = admin.register(NAME, str(second_version(model, pathlib.Path(folder) / "second.gguf")))
        assert made["version"] == 2, made
        moves_an_alias(conclave, stack, admin, 2, known)
        assert known[1] != known[2]
        moves_an_alias(conclave, stack, admin, 1, known)
        shares_traffic(conclave, stack, admin, known)
        shows_a_shadow(stack, admin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
