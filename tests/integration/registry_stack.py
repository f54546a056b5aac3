"""What the tests of the registry share: calls of the admin API, a PostgreSQL that can be taken away, and
registries and gateways of their own beside those of `conclave up`. Standard library only."""
import contextlib
import http.client
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading

from stack import wait_for

POSTGRES = pathlib.Path(os.environ.get("CONCLAVE_POSTGRES_BIN", "/usr/lib/postgresql/15/bin"))
MODELS = pathlib.Path(__file__).resolve().parents[1] / "golden" / "models"


class Admin:
    """Calls to /admin/v1 of one gateway, each on a connection of its own unless it is kept. A thread
    each."""

    def __init__(self, port: int, key: str | None):
        self.port = port
        self.key = key

    def call(self, method: str, path: str, body=None, headers: dict | None = None,
             timeout: float = 70) -> tuple[int, dict, dict]:
        """(status, JSON, headers); raises OSError or HTTPException where there is no answer."""
        sent = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        if body is not None:
            sent["Content-Type"] = "application/json"
            body = body if isinstance(body, (str, bytes)) else json.dumps(body)
        with contextlib.closing(
                http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)) as connection:
            connection.request(method, "/admin/v1" + path, body, sent | (headers or {}))
            response = connection.getresponse()
            text = response.read()
            told = {name.lower(): value for name, value in response.getheaders()}
        try:
            return response.status, json.loads(text) if text else {}, told
        except ValueError:
            return response.status, {"text": text.decode(errors="replace")}, told

    def get(self, path: str) -> dict:
        status, body, _ = self.call("GET", path)
        assert status == 200, (path, status, body)
        return body

    def list(self, path: str) -> list:
        """The records of all pages."""
        records, after = [], ""
        while True:
            page = self.get(f"{path}{'&' if '?' in path else '?'}limit=1000{after}")
            records += page["data"]
            if page["next"] is None:
                return records
            after = f"&after={page['next']}"

    def finish(self, status: int, operation: dict) -> dict:
        """The operation that a 202 began, when it has ended."""
        assert status == 202, (status, operation)
        path = f"/operations/{operation['id']}"
        return wait_for(f"operation {operation['id']}",
                        lambda: (now := self.get(path))["state"] != "running" and now)

    def verify_audit(self) -> dict:
        """What a walk over all of the audit found."""
        status, body, _ = self.call("POST", "/audit:verify")
        ended = self.finish(status, body)
        assert ended["state"] == "done", ended
        return ended["result"]

    def register(self, name: str, uri: str, **more) -> dict:
        """The version that a file becomes."""
        status, body, _ = self.call("POST", f"/models/{name}/versions", {"uri": uri, **more})
        ended = self.finish(status, body)
        assert ended["state"] == "done", ended
        return ended["result"]


def admin_of(stack) -> Admin:
    """The administrator of a `conclave up`."""
    return Admin(stack.port, (pathlib.Path(stack.state.name) / "admin.key").read_text().strip())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """One service of a fleet as a process of this test. A context manager."""

    def __init__(self, program: pathlib.Path, name: str, keys: str, log: pathlib.Path, *arguments: str):
        self.command = [str(program), "--node.name", name, "--fabric.keys", keys, "--admin.port", "0",
                        "--log.level", "warn", "--node.drain-timeout-ms", "1000", *arguments]
        self.log = log
        self.start()

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, kind, *error) -> None:
        if kind:
            print(self.log.read_text(errors="replace")[-4000:])
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


class Postgres:
    """A PostgreSQL of its own on a socket in a directory of its own; can be stopped, killed and started
    again. A context manager."""

    def __init__(self):
        # Not TMPDIR: the path of a socket has at most 107 bytes, and the user postgres must get there.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="conclave-pg-", dir="/tmp"))
        self.user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self.user:
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
        self.folder.chmod(0o755)
        self.url = f"postgresql:///postgres?host={self.folder}&user=postgres"
        self.process = None
        self._run("initdb", "--no-sync", "--no-instructions", "-A", "trust", "-U", "postgres", "-E",
                  "UTF8", "--locale=C.UTF-8", "-D", str(self.folder / "data"))
        self.start()

    def _popen(self, program: str, *arguments: str) -> subprocess.Popen:
        who = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}
        log = open(self.folder.with_suffix(".log"), "ab")
        with log:
            return subprocess.Popen([str(POSTGRES / program), *arguments], stdout=log, stderr=log,
                                    cwd="/", start_new_session=True, **who)

    def _run(self, program: str, *arguments: str) -> None:
        code = self._popen(program, *arguments).wait()
        assert code == 0, f"{program} ended with {code}:\n{self.logs()}"

    def logs(self) -> str:
        return self.folder.with_suffix(".log").read_text(errors="replace")[-4000:]

    def start(self) -> None:
        self.process = self._popen("postgres", "-D", str(self.folder / "data"), "-k", str(self.folder),
                                   "-c", "listen_addresses=", "-c", "fsync=off")
        status = self.folder / "data" / "postmaster.pid"

        def ready() -> bool:
            assert self.process.poll() is None, self.logs()
            with contextlib.suppress(OSError):
                lines = status.read_text().splitlines()
                return (len(lines) > 7 and lines[0] == str(self.process.pid)
                        and lines[7].strip() == "ready")
            return False
        wait_for("PostgreSQL is ready", ready)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def __enter__(self) -> "Postgres":
        return self

    def __exit__(self, *error) -> None:
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.with_suffix(".log").unlink(missing_ok=True)


class Pause:
    """Waits that end early when the test is over; the only ones a test needs."""

    def __init__(self):
        self._over = threading.Event()

    def wait(self, seconds: float) -> None:
        self._over.wait(seconds)


# ---- model files

_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


def tensors(path: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Where the bytes of each tensor of a GGUF file lie: (offset in the file, bytes up to the next)."""
    data = path.read_bytes()
    at = 8

    def number(form: str) -> int:
        nonlocal at
        value = struct.unpack_from("<" + form, data, at)[0]
        at += struct.calcsize("<" + form)
        return value

    def text() -> str:
        nonlocal at
        size = number("Q")
        at += size
        return data[at - size:at].decode(errors="replace")

    def value(kind: int):
        nonlocal at
        if kind == _STRING:
            return text()
        if kind == _ARRAY:
            inner, count = number("I"), number("Q")
            return [value(inner) for _ in range(count)]
        at += _SCALARS[kind]
        return struct.unpack_from("<I", data, at - 4)[0] if kind == 4 else None

    tensor_count, field_count = number("Q"), number("Q")
    fields = {}
    for _ in range(field_count):
        name = text()
        fields[name] = value(number("I"))
    found = []
    for _ in range(tensor_count):
        name = text()
        dimensions = number("I")
        at += 8 * dimensions + 4  # its shape and its type
        found.append((number("Q"), name))
    alignment = fields.get("general.alignment", 32)
    begin = (at + alignment - 1) // alignment * alignment
    found.sort()
    ends = [offset for offset, _ in found[1:]] + [len(data) - begin]
    return {name: (begin + offset, end - offset) for (offset, name), end in zip(found, ends)}


def flip(path: pathlib.Path, offset: int, mask: int = 1) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def variant(number: int, path: pathlib.Path) -> pathlib.Path:
    """A model file of its own bytes for each number: a tiny model with one weight changed."""
    source = MODELS / "qwen3moe-q8_0.gguf"
    shutil.copyfile(source, path)
    offset, size = tensors(source)["blk.0.ffn_up_exps.weight"]
    # Quants, not scales: blocks of 2 bytes of scale and 32 of weights.
    block = number // 32 % (size // 34)
    flip(path, offset + 34 * block + 2 + number % 32, 1 + number // 32 // (size // 34))
    return path
