#!/usr/bin/env python3
"""docs/operations.md's backup and restore, with the commands that it gives: dump, change and damage what is in
PostgreSQL and a model's file, restore, all while requests are computed. What was there when it was dumped is back,
what came later is gone, the audit's chain holds, and no request failed.

Usage: backup_test.py CONCLAVE MODEL
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

from registry_stack import POSTGRES, Postgres, flip, tensors, variant
from stack import Stack, wait_for


class Operator:
    """The command, as somebody uses it who has the state directory."""

    def __init__(self, conclave: str, stack: Stack):
        self.conclave, self.stack = conclave, stack

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([self.conclave, *arguments, "--state", self.stack.state.name], text=True, capture_output=True,
                              timeout=120)

    def get(self, *arguments: str):
        done = self.run(*arguments, "-o", "json")
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def alias(self, name: str, alias: str) -> int:
        return self.get("models", "show", f"{name}@{alias}")["version"]


def dump(postgres: Postgres, to: pathlib.Path) -> None:
    with open(to, "wb") as file:
        subprocess.run([str(POSTGRES / "pg_dump"), "-Fc", postgres.url], stdout=file, check=True)


def restore(postgres: Postgres, archive: pathlib.Path) -> None:
    with open(archive, "rb") as file:
        done = subprocess.run([str(POSTGRES / "pg_restore"), "-d", postgres.url, "--clean", "--if-exists", "--single-transaction"],
                              stdin=file, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def psql(postgres: Postgres, statement: str) -> str:
    done = subprocess.run(["psql", "-X", "-v", "ON_ERROR_STOP=1", "-At", postgres.url, "-c", statement], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Load:
    """Requests one after another; what was not answered."""

    def __init__(self, stack: Stack, model: str):
        self.failed, self.answered, self.over = [], 0, threading.Event()

        def run() -> None:
            while not self.over.is_set():
                status, body = stack.call("/v1/completions", {"model": model, "prompt": "What is 2 + 2?", "max_tokens": 4})
                self.answered += 1
                if status != 200:
                    self.failed.append((status, body))
        self.thread = threading.Thread(target=run)

    def __enter__(self) -> "Load":
        self.thread.start()
        return self

    def __exit__(self, *error) -> None:
        self.over.set()
        self.thread.join()


def main() -> int:
    conclave, model = sys.argv[1:3]
    name = pathlib.Path(model).stem
    with tempfile.TemporaryDirectory() as folder, Postgres() as postgres, \
            Stack(conclave, "up", "-m", model, "--workers", "1", "--postgres", postgres.url) as stack:
        operator, files = Operator(conclave, stack), pathlib.Path(folder)
        paths = [str(variant(number, files / f"m{number}.gguf")) for number in (1, 2)]
        for path in paths:
            operator.get("models", "register", path, "--name", "kept")
        operator.get("models", "publish", "kept:1")
        operator.get("models", "publish", "kept:2")
        operator.get("models", "alias", "kept", "production", "1")
        operator.get("keys", "create", "--tenant", "operators", "--name", "before")
        records = len(operator.run("audit", "--export").stdout.splitlines())
        assert records >= 5, records

        with Load(stack, name) as load:
            wait_for("requests are answered", lambda: load.answered > 2)
            dump(postgres, files / "conclave.dump")
            shutil.copyfile(paths[0], files / "copy.gguf")

            operator.get("models", "alias", "kept", "production", "2")
            operator.get("keys", "create", "--tenant", "operators", "--name", "after")
            psql(postgres, "UPDATE conclave.version SET uri = '/nowhere' WHERE uri LIKE '%m1.gguf'")
            offset, _ = tensors(pathlib.Path(paths[0]))["blk.0.ffn_up_exps.weight"]
            flip(pathlib.Path(paths[0]), offset + 2)
            assert operator.alias("kept", "production") == 2
            assert operator.run("models", "verify", "kept:1").returncode != 0

            restore(postgres, files / "conclave.dump")
            shutil.copyfile(files / "copy.gguf", paths[0])
            before = stack.pids()["registry"]
            os.kill(before, signal.SIGTERM)
            wait_for("another registry answers", lambda: stack.pids().get("registry", before) != before
                     and operator.run("models", "list", "-o", "json").returncode == 0)

            assert operator.alias("kept", "production") == 1, "the alias is where it was"
            keys = [key["name"] for key in operator.get("keys", "list")]
            assert "before" in keys and "after" not in keys, keys
            verified = operator.run("models", "verify", "kept:1")
            assert verified.returncode == 0, (verified.stdout, verified.stderr)
            audit = operator.run("audit", "--verify")
            assert audit.returncode == 0, (audit.stdout, audit.stderr)
            restored = len(operator.run("audit", "--export").stdout.splitlines())
            assert restored == records, (restored, records)
            operator.get("models", "alias", "kept", "production", "2")
            assert operator.alias("kept", "production") == 2, "and changes go on from there"
            answered = load.answered
            wait_for("requests go on", lambda: load.answered > answered + 2)
        assert not load.failed, (len(load.failed), load.failed[0])
    print(f"backup: restored under load, {load.answered} requests, none failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
