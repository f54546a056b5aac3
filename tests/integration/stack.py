"""Starts a real Conclave for tests and benchmarks: `conclave up` or `conclave serve` on free ports,
with a state directory of its own, and speaks HTTP to it. Standard library only."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse

READY_SECONDS = 120
# Four stages that drain for ten seconds each, at the very most.
END_SECONDS = 60


class Stack:
    """A running `conclave up` or `conclave serve`; a context manager."""

    def __init__(self, conclave: str, *arguments: str, log: pathlib.Path | None = None):
        self.state = tempfile.TemporaryDirectory(prefix="conclave-test-")
        env = {k: v for k, v in os.environ.items() if not k.startswith("CONCLAVE_")}
        command = [conclave, *arguments, "--port", "0"]
        if arguments[0] == "up":
            command += ["--state", self.state.name]
        self.log_path = log or pathlib.Path(self.state.name) / "log"
        self._start = lambda: self._run(command, env)
        self._start()

    def _run(self, command: list[str], env: dict[str, str]) -> None:
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, env=env)
        self.buffer = b""
        self.url = self._wait_ready()

    def restart(self, between=lambda: None) -> None:
        """Ends it, and starts it again with the same state directory; `between` is called while it is down."""
        self.close()
        between()
        self._start()

    def _wait_ready(self) -> str:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            line = self.read_line(end)
            match = re.match(r"ready: (http://\S+)", line or "")
            if match:
                return match.group(1)
            if line is None:
                break
        code = self.close()
        raise AssertionError(f"not ready, exit code {code}:\n{self.logs()[-8000:]}")

    def read_line(self, end: float) -> str | None:
        """The next line that it prints; None: it ended, or `end` came."""
        while b"\n" not in self.buffer:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                return None
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                return None
            self.buffer += chunk
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    @property
    def port(self) -> int:
        return urllib.parse.urlsplit(self.url).port

    def connection(self, timeout: float = 120) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def call(self, path: str, body: dict | None = None, timeout: float = 120) -> tuple[int, dict]:
        """(status, JSON) of one request on a connection of its own."""
        with contextlib.closing(self.connection(timeout)) as connection:
            return call(connection, path, body)

    def logs(self) -> str:
        return self.log_path.read_text(errors="replace")

    def pids(self) -> dict[str, int]:
        """Process ids of the services of `up`, by node name."""
        found = {}
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = entry.read_bytes().split(b"\0")
                if self.state.name.encode() in b" ".join(words) and b"--node.name" in words:
                    name = words[words.index(b"--node.name") + 1].decode()
                    found[name] = int(entry.parent.name)
        return found

    def close(self) -> int:
        """Ends it as a service manager does; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            left = self.pids()
            self.process.kill()  # its services end with it
            self.process.wait()
            raise AssertionError(f"SIGTERM and {END_SECONDS} s later it still runs, and of its services"
                                 f" {left or 'none'}:\n{self.logs()[-8000:]}") from None
        finally:
            self.process.stdout.close()
            self.log.close()

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, kind, *error) -> None:
        if kind:
            print(self.logs()[-8000:], file=sys.stderr)
        if not self.process.stdout.closed:
            self.close()
        self.state.cleanup()


def call(connection: http.client.HTTPConnection, path: str, body: dict | None = None):
    if body is None:
        connection.request("GET", path)
    else:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    try:
        return response.status, json.loads(text)
    except ValueError:
        return response.status, {"text": text.decode(errors="replace")}


def wait_for(what: str, probe, seconds: float = 60.0):
    """The first true answer of `probe`, asked again and again until `seconds` are over."""
    end = time.monotonic() + seconds
    pause = select.poll()  # waits without a busy loop; nothing is registered
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() >= end:
            raise AssertionError(f"{what}: not within {seconds} s")
        pause.poll(20)
