#!/usr/bin/env python3
"""The gateway, the scheduler and the registry are killed, one after the other, while `conclave up` runs:
the others go on, requests are answered, and everything is as before once the service is back.

Usage: heal_test.py CONCLAVE MODEL
"""
import json
import os
import signal
import subprocess
import sys
import threading

from stack import Stack, wait_for

CONCLAVE = ""


def status(stack: Stack) -> dict | None:
    done = subprocess.run([CONCLAVE, "status", "--state", stack.state.name, "-o", "json"],
                          capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def answer(stack: Stack, model: str) -> str | None:
    try:
        code, body = stack.call("/v1/completions", {"model": model, "prompt": "What is 2 + 2?",
                                                    "max_tokens": 8, "temperature": 0})
    except OSError:
        return None
    return body["choices"][0]["text"] if code == 200 else None


class Traffic:
    """Requests one after another in a thread, until stopped; counts those that failed."""

    def __init__(self, stack: Stack, model: str, expected: str):
        self.wrong = []
        self.right = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(stack, model, expected))
        self._thread.start()

    def _run(self, stack: Stack, model: str, expected: str) -> None:
        while not self._stop.is_set():
            text = answer(stack, model)
            if text == expected:
                self.right += 1
            else:
                self.wrong.append(text)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def kill(stack: Stack, name: str) -> None:
    pid = stack.pids()[name]
    os.kill(pid, signal.SIGKILL)
    wait_for(f"{name} is started again",
             lambda: stack.pids().get(name) not in (None, pid))


def whole(stack: Stack, nodes: int, epoch: int = 0) -> dict | None:
    now = status(stack)
    good = (now and now["complete"] and now["epoch"] >= epoch and len(now["nodes"]) == nodes
            and all(node["state"] == "ready" for node in now["nodes"]))
    return now if good else None


def main() -> int:
    global CONCLAVE
    CONCLAVE, path = sys.argv[1:3]
    with Stack(CONCLAVE, "up", "-m", path, "--workers", "2") as stack:
        model = stack.call("/v1/models")[1]["data"][0]["id"]
        expected = answer(stack, model)
        assert expected, stack.logs()
        before = wait_for("all nodes are ready", lambda: whole(stack, 4))

        # The control plane: no request may notice.
        for name in ("scheduler", "registry"):
            traffic = Traffic(stack, model, expected)
            seen = traffic.right
            kill(stack, name)
            after = wait_for(f"the fleet is whole after {name} fell",
                             lambda: whole(stack, 4, before["epoch"]))
            wait_for("traffic goes on", lambda: traffic.right > seen + 3)
            traffic.stop()
            assert not traffic.wrong, (name, traffic.wrong)
            assert after["epoch"] >= before["epoch"], (before, after)
            assert [n["experts_ready"] for n in after["nodes"] if "experts_ready" in n] == \
                   [n["experts_ready"] for n in before["nodes"] if "experts_ready" in n], after
            print(f"{name} killed and back: {traffic.right} requests, none wrong,"
                  f" epoch {before['epoch']} -> {after['epoch']}")
            before = after

        # The gateway is the door: requests fail while it is away, and only then.
        kill(stack, "gateway")
        wait_for("the gateway answers again", lambda: answer(stack, model) == expected)
        wait_for("the fleet is whole", lambda: whole(stack, 4))
        print("gateway killed and back")
        code = stack.close()
        assert code == 0, f"up ended with {code}\n" + stack.logs()[-3000:]
    return 0


if __name__ == "__main__":
    sys.exit(main())
