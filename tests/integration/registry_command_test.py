#!/usr/bin/env python3
"""The subcommands that administer, as an operator uses them on a fleet with a PostgreSQL of its own, and on
a `conclave serve`.

Usage: registry_command_test.py CONCLAVE MODEL
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from registry_stack import MODELS, variant
from stack import Stack, wait_for

CONCLAVE = ""


class Command:
    def __init__(self, *where: str, **environment: str):
        self.where = where
        self.environment = {k: v for k, v in os.environ.items()
                            if not k.startswith("CONCLAVE_")} | environment

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([CONCLAVE, *arguments, *self.where], capture_output=True, text=True,
                              env=self.environment, timeout=120, check=False)

    def ok(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def json(self, *arguments: str):
        return json.loads(self.ok(*arguments, "-o", "json"))

    def fails(self, says: str, *arguments: str, code: int = 1) -> None:
        done = self.run(*arguments)
        assert done.returncode == code and says in done.stderr, (arguments, says, done)


def models(conclave: Command, folder: pathlib.Path) -> None:
    file = str(variant(0, folder / "some.gguf"))
    # A dry run shows what would be and leaves nothing.
    assert conclave.json("models", "register", file, "--name", "tiny", "--dry-run")["version"] == 1
    conclave.fails("404", "models", "show", "tiny")
    made = conclave.json("models", "register", file, "--name", "tiny", "--draft", "--description", "d",
                         "--licence", "MIT", "--parent", "other:1", "--metadata", '{"a": 1}')
    assert made["state"] == "draft" and made["metadata"] == {"a": 1} and made["parent"] == "other:1", made
    conclave.fails("JSON object", "models", "register", file, "--name", "tiny", "--metadata", "7")
    conclave.fails("missing.gguf", "models", "register", str(folder / "missing.gguf"), "--name", "tiny")

    conclave.ok("models", "publish", "tiny:1", "--dry-run")
    assert conclave.json("models", "show", "tiny:1")["state"] == "draft"
    assert conclave.json("models", "publish", "tiny:1")["state"] == "published"
    second = conclave.json("models", "register", str(MODELS / "qwen3moe-f32.gguf"), "--name", "tiny",
                           "--alias", "production")
    assert second["version"] == 2 and second["aliases"] == ["production"], second
    again = conclave.json("models", "register", file, "--name", "tiny")
    assert again["version"] == 1, "the same bytes are the same version"
    assert [v["version"] for v in conclave.json("models", "list", "tiny")] == [2, 1]
    assert "published" in conclave.ok("models", "list", "tiny")
    assert {m["name"] for m in conclave.json("models", "list")} == {"conclave-demo", "tiny"}
    # As the file names itself.
    named = conclave.json("models", "register", str(MODELS / "olmoe-f32.gguf"))
    assert named["version"] == 1 and named["model"] not in ("tiny", "conclave-demo"), named

    assert "version 1" in conclave.ok("models", "alias", "tiny", "canary", "1", "--expect", "0")
    conclave.fails("412", "models", "alias", "tiny", "canary", "2", "--expect", "2")
    conclave.ok("models", "alias", "tiny", "canary", "2", "--dry-run")
    assert conclave.json("models", "alias", "tiny", "canary")["version"] == 1
    assert conclave.json("models", "alias", "tiny", "canary", "2", "--expect", "1")["version"] == 2
    conclave.fails("points at version 2", "models", "alias", "tiny", "canary", "--remove", "--expect", "1")
    conclave.ok("models", "alias", "tiny", "canary", "--remove", "--expect", "2")
    conclave.fails("404", "models", "alias", "tiny", "canary")

    assert "as they were recorded" in conclave.ok("models", "verify", "tiny:1")
    conclave.fails("names no version", "models", "verify", "tiny")
    conclave.fails("409", "models", "archive", "tiny:2")
    assert conclave.json("models", "archive", "tiny:1")["state"] == "archived"
    conclave.ok("models", "rm", "tiny:1", "--dry-run")
    conclave.ok("models", "rm", "tiny:1")
    conclave.fails("404", "models", "show", "tiny:1")
    conclave.fails("409", "models", "rm", "tiny")


def deployments(conclave: Command) -> None:
    made = conclave.json("models", "deploy", "chat", "tiny:2=90", "tiny@production=10", "--sticky", "user",
                         "--policy", "next-best", "--pin", "gpu/0-1/*", "--replica-floor", "2")
    assert made["split"] == [{"reference": "tiny:2", "weight": 90},
                             {"reference": "tiny@production", "weight": 10}], made
    assert made["pins"][0]["last_layer"] == 1 and made["policy"] == "next-best", made
    split = conclave.json("models", "split", "chat", "tiny:2=1")
    assert split["split"] == [{"reference": "tiny:2", "weight": 1}], split
    assert split["pins"] == made["pins"] and split["sticky"] == "user", "the rest stays"
    assert [d["name"] for d in conclave.json("models", "deploy")] == ["chat"]
    assert "tiny:2=1" in conclave.ok("models", "deploy", "chat")
    conclave.fails("404", "models", "deploy", "other", "nobody:1")
    conclave.fails("a weight is", "models", "deploy", "chat", "tiny:2=0")
    conclave.ok("models", "deploy", "chat", "--remove", "--dry-run")
    conclave.ok("models", "deploy", "chat", "--remove")
    assert conclave.json("models", "deploy") == []


def keys(conclave: Command, stack: Stack) -> None:
    conclave.ok("tenants", "create", "acme", "--description", "who pays")
    conclave.fails("409", "tenants", "create", "acme")
    assert "acme" in conclave.ok("tenants", "list")
    set_ = conclave.json("tenants", "quota", "acme", "--requests-per-minute", "60", "--tokens-per-day", "1000")
    assert (set_["requests_per_minute"], set_["tokens_per_day"], set_["tokens_per_month"]) == (60, 1000, 0), set_
    conclave.ok("tenants", "quota", "acme", "--tokens-per-day", "5", "--dry-run")
    assert conclave.json("tenants", "quota", "acme", "--requests-per-minute", "0")["tokens_per_day"] == 1000
    assert conclave.json("tenants", "quota", "acme")["requests_per_minute"] == 0
    conclave.fails("404", "tenants", "quota", "nobody")
    assert "secret" not in conclave.json("keys", "create", "--tenant", "acme", "--dry-run")
    made = conclave.json("keys", "create", "--tenant", "acme", "--name", "ci", "--role", "read",
                         "--model", "tiny", "--expires", "90d")
    secret, key = made["secret"], made["id"]
    listed = conclave.ok("keys", "list", "--tenant", "acme")
    assert key in listed and secret not in listed, listed
    reader = Command("--url", stack.url, CONCLAVE_ADMIN_KEY=secret)
    reader.ok("models", "list")
    reader.fails("403", "tenants", "create", "more")
    conclave.ok("keys", "revoke", key)
    # A gateway trusts what the registry said of a key for ten seconds.
    wait_for("the key is worth nothing", lambda: "401" in reader.run("models", "list").stderr, 30)
    # A gateway that is elsewhere does not get the key of this machine; here nobody gave another one.
    Command("--url", stack.url, HOME="/nonexistent").fails("CONCLAVE_ADMIN_KEY", "models", "list")


def usage_and_audit(conclave: Command, stack: Stack) -> None:
    status, body = stack.call("/v1/completions", {"model": "conclave-demo", "prompt": "a", "max_tokens": 2})
    assert status == 200, body
    conclave.ok("usage", "--by", "total")
    conclave.fails("--by", "usage", "--by", "moon", code=2)
    audit = conclave.json("audit", "--action", "alias.*", "--limit", "2")
    assert len(audit) == 2 and all(r["action"].startswith("alias.") for r in audit), audit
    lines = [json.loads(line) for line in conclave.ok("audit", "--export").splitlines()]
    assert [r["sequence"] for r in lines] == list(range(1, len(lines) + 1))
    assert all(r["actor"] and r["hash"] for r in lines)
    assert "follows from the one before" in conclave.ok("audit", "--verify")


def main() -> int:
    global CONCLAVE
    CONCLAVE, model = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        with Stack(CONCLAVE, "up", "-m", model, "--workers", "1", "--postgres") as stack:
            conclave = Command("--state", stack.state.name)
            models(conclave, pathlib.Path(folder))
            deployments(conclave)
            keys(conclave, stack)
            usage_and_audit(conclave, stack)
            state = pathlib.Path(stack.state.name)
            assert (state / "postgres" / "postmaster.pid").exists()
            code = stack.close()
            assert code == 0, f"up ended with {code}\n" + stack.logs()[-3000:]
            assert not (state / "postgres" / "postmaster.pid").exists(), "PostgreSQL ended in order"
        os.environ["XDG_STATE_HOME"] = folder  # where `serve` makes its key
        with Stack(CONCLAVE, "serve", model) as stack:
            here = Command("--url", stack.url)
            assert [m["name"] for m in here.json("models", "list")] == ["conclave-demo"]
    Command("--state", "/nonexistent").fails("is `conclave up` running?", "models", "list")
    Command().fails("is no postgresql:// address", "up", "-m", model, "--postgres", "nonsense", code=2)
    print("every command does what it says")
    return 0


if __name__ == "__main__":
    sys.exit(main())
