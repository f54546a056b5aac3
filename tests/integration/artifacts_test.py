#!/usr/bin/env python3
"""Models that are elsewhere: `up` serves one from http://, its workers fetch their experts' bytes and its router
the backbone's, once; what came is in the cache when the server is away; registering over HTTP and from S3 goes
on where it broke, names the same bytes the same, and refuses what changes, is gone or is not signed.

Usage: artifacts_test.py CONCLAVE MODEL
"""
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

from origin import KEY, Origin, REGION, SECRET
from registry_stack import MODELS, admin_of, variant
from stack import Stack, wait_for

QUESTIONS = ["What is 47 + 385?", "Sort: 9 3 7 1", "Reverse: conclave"]
# The first piece of a model that is fetched, and the byte with which its server is asked.
HEADER = (256 << 10) + 1


def answers(stack: Stack, model: str) -> list:
    got = []
    for question in QUESTIONS:
        status, body = stack.call("/v1/completions", {
            "model": model, "prompt": question, "max_tokens": 24, "temperature": 0.0,
            "ignore_eos": True, "return_token_ids": True})
        assert status == 200, body
        got.append(body["choices"][0]["token_ids"])
    return got


def by_generate(conclave: str, model: str) -> list:
    def one(question: str) -> list:
        done = subprocess.run(
            [conclave, "generate", "-m", model, "-n", "24", "--ignore-eos", "-o", "json", "--prompt", question,
             "--temperature", "0"], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["tokens"]
    return [one(question) for question in QUESTIONS]


def nodes(conclave: str, stack: Stack) -> list[dict]:
    done = subprocess.run([conclave, "status", "--state", stack.state.name, "-o", "json"],
                          capture_output=True, text=True, check=False)
    return json.loads(done.stdout)["nodes"] if done.returncode == 0 else []


def fetched(node: dict, name: str = "fetched") -> int:
    """Bytes that a node got from the server ("fetched") or the cache ("cached")."""
    host, port = node["admin"].rsplit(":", 1)
    with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    found = re.search(rf"^conclave_artifacts_{name}_bytes_total(?:{{[^}}]*}})? (\S+)$", text, re.M)
    assert found, text
    return int(float(found[1]))


def serves_from_afar(conclave: str, origin: Origin, stack: Stack, expected: list) -> None:
    admin = admin_of(stack)
    version = admin.get("/models/conclave-demo/versions/1")
    assert version["uris"] == [origin.url + "/demo.gguf"], version
    assert answers(stack, "conclave-demo") == expected

    by_role: dict[str, list[int]] = {}
    for node in nodes(conclave, stack):
        if node["role"] in ("expert-worker", "router"):
            by_role.setdefault(node["role"], []).append(fetched(node))
    workers, router = by_role["expert-worker"], by_role["router"][0]
    # Whole experts, some of all, and nothing else but the header, unless the cache had it already.
    size, count = version["expert_bytes"], version["layers"] * version["experts"]
    for worker in workers:
        assert worker % size == 0 or (worker - HEADER + 1) % size == 0, (worker, size)
        assert 0.25 * count <= worker // size <= 0.75 * count, (worker, size, count)
    assert router <= version["backbone_bytes"] + HEADER, (router, version)
    # Beside them the registry, which read all of it once, and `up` itself, which looked at the header.
    total = origin.total()
    assert total <= version["bytes"] + sum(workers) + router + 4 * HEADER, (total, workers, router)
    print(f"file {version['bytes']} bytes: workers fetched {workers}, router {router}, served {total}")


def heals_from_the_cache(conclave: str, origin: Origin, stack: Stack, expected: list) -> None:
    origin.status = 503
    before = origin.total()
    killed = {name: pid for name, pid in stack.pids().items() if name.startswith(("worker", "router"))}
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    wait_for("all of them are others",
             lambda: all(stack.pids().get(name) not in (None, pid) for name, pid in killed.items()))
    wait_for("it is ready again", lambda: stack.call("/ready")[0] == 200)
    assert answers(stack, "conclave-demo") == expected
    assert origin.total() == before
    assert all(fetched(node, "cached") > 0 for node in nodes(conclave, stack)
               if node["role"] in ("expert-worker", "router"))
    origin.status = 0


def register(stack: Stack, name: str, uri: str) -> dict:
    admin = admin_of(stack)
    status, body, _ = admin.call("POST", f"/models/{name}/versions", {"uri": uri})
    return admin.finish(status, body)


def registers(conclave: str, origin: Origin, stack: Stack, model: pathlib.Path, folder: pathlib.Path) -> None:
    # Under another address, over a line that breaks: the same version, every byte once.
    origin.files["/copy.gguf"] = model
    origin.break_every = 700_000
    done = subprocess.run([conclave, "models", "register", origin.url + "/copy.gguf?download=true", "--name",
                           "conclave-demo", "--state", stack.state.name, "-o", "json"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == 1, done.stdout
    origin.break_every = 0
    assert origin.sent["/copy.gguf"] == model.stat().st_size + 1, origin.sent
    assert len([r for r in origin.requests if r[0] == "/copy.gguf"]) >= 6
    # Workers and routers hear of the address that the version has now, and have all of it in the cache.
    wait_for("it is ready", lambda: stack.call("/ready")[0] == 200)
    # Known by its tag: asked for its header, and no more.
    assert register(stack, "again", origin.url + "/copy.gguf?download=true")["state"] == "done"
    assert origin.sent["/copy.gguf"] <= model.stat().st_size + 1 + HEADER, origin.sent

    # In parts, by any of them; as the same file from the disk.
    for part in ("1", "2"):
        file = f"qwen3moe-split-f32-0000{part}-of-00002.gguf"
        origin.files["/split/" + file] = MODELS / file
    afar = register(stack, "split", origin.url + "/split/qwen3moe-split-f32-00002-of-00002.gguf")
    here = register(stack, "split", str(MODELS / "qwen3moe-split-f32-00001-of-00002.gguf"))
    assert afar["state"] == here["state"] == "done", (afar, here)
    assert afar["result"]["sha256"] == here["result"]["sha256"]
    assert afar["result"]["version"] == here["result"]["version"] == 1

    # Another file in the middle of it: an error, and no version.
    origin.files["/moving.gguf"] = variant(1, folder / "moving.gguf")
    origin.files["/moving-large.gguf"] = model
    origin.break_every = 500_000
    origin.change_after = origin.total() + 1_500_000
    moved = register(stack, "moving", origin.url + "/moving-large.gguf")
    assert moved["state"] == "failed" and "another file" in moved["error"]["message"], moved
    origin.break_every = origin.change_after = 0

    assert register(stack, "gone", origin.url + "/none.gguf")["error"]["code"] == "not_found"
    assert register(stack, "gone", "http://127.0.0.1:1/m.gguf")["error"]["code"] == "unavailable"
    origin.status = 500
    assert register(stack, "gone", origin.url + "/moving.gguf")["error"]["code"] == "unavailable"
    origin.status = 0
    for uri in ("gopher://x/y", "ftp://x/y", "http://user:pw@x/y", "s3://bucket"):
        status, body, _ = admin_of(stack).call("POST", "/models/bad/versions", {"uri": uri})
        assert status == 400, (uri, status, body)
    assert register(stack, "moving", origin.url + "/moving.gguf")["state"] == "done"


def registers_from_s3(origin: Origin, stack: Stack, credentials: pathlib.Path, model: pathlib.Path) -> None:
    origin.buckets.add("models")
    origin.files["/models/a folder/demo+1.gguf"] = model
    uri = "s3://models/a folder/demo+1.gguf"
    credentials.write_text(f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = wrong\n")
    refused = register(stack, "stored", uri)
    assert refused["state"] == "failed" and "403" in refused["error"]["message"], refused
    credentials.write_text(f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    stored = register(stack, "stored", uri)
    assert stored["state"] == "done", stored
    assert stored["result"]["uris"] == [uri], stored
    verified = admin_of(stack)
    status, body, _ = verified.call("POST", "/models/stored/versions/1:verify")
    assert verified.finish(status, body)["result"]["ok"]


def main() -> int:
    conclave, model = sys.argv[1], pathlib.Path(sys.argv[2])
    expected = by_generate(conclave, str(model))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as text, Origin() as origin:
        folder = pathlib.Path(text)
        credentials = folder / "credentials"
        credentials.touch(0o600)
        origin.files["/demo.gguf"] = model
        settings = ["scheduler.replicas=1", "artifacts.retries=3", f"artifacts.s3-endpoint={origin.url}",
                    f"artifacts.s3-region={REGION}", f"artifacts.s3-credentials-file={credentials}"]
        with Stack(conclave, "up", "-m", origin.url + "/demo.gguf", "--workers", "2",
                   *(word for setting in settings for word in ("--set", setting))) as stack:
            serves_from_afar(conclave, origin, stack, expected)
            heals_from_the_cache(conclave, origin, stack, expected)
            registers(conclave, origin, stack, model, folder)
            registers_from_s3(origin, stack, credentials, model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
