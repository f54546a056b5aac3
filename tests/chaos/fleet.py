"""What the scheduler says of a running `conclave up`, and where its nodes listen. `up` must keep two copies of
every expert (`scheduler.replicas=2`)."""
import json
import pathlib
import subprocess
import time

from stack import Stack, wait_for


FLOOR = 2  # copies of every expert


def ask(conclave: str, stack: Stack, *command: str):
    """The JSON that a command prints; None: it failed, as the scheduler is away."""
    done = subprocess.run([conclave, *command, "--state", stack.state.name, "-o", "json"],
                          capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


class Fleet:
    """What the scheduler says of its nodes."""

    def __init__(self, conclave: str, stack: Stack, nodes: int):
        self.conclave, self.stack, self.nodes = conclave, stack, nodes

    def at_floor(self) -> bool:
        """Every expert has its copies, loaded and verified."""
        experts = ask(self.conclave, self.stack, "experts", "list")
        return bool(experts) and min(expert["copies"] for expert in experts) >= FLOOR

    def whole(self, victim: str = "", since: float = 0.0) -> bool:
        """All nodes are there, every expert has its copies, and the victim (of the scheduler:
        everybody) has reported since it was hit."""
        now = ask(self.conclave, self.stack, "status")
        if now is None or not now["complete"] or len(now["nodes"]) != self.nodes:
            return False
        age = 1000 * (time.monotonic() - since)
        heard = all(node["silent_ms"] < age for node in now["nodes"]
                    if victim in ("scheduler", "registry", node["node"]))
        return heard and all(node["state"] == "ready" for node in now["nodes"]) and self.at_floor()

    def port(self, node: str) -> int:
        """At which its links come in."""
        if node in ("scheduler", "registry"):
            words = pathlib.Path(f"/proc/{self.stack.pids()[node]}/cmdline").read_text().split("\0")
            address = words[words.index(f"--{node}.listen") + 1]
        else:
            address = next(found["address"] for found in ask(self.conclave, self.stack, "status")["nodes"]
                           if found["node"] == node)
        return int(address.rsplit(":", 1)[1])

    def strike(self, victim: str, fault) -> float:
        """Seconds from the end of the fault until all is as before; a report comes once a second.
        `fault` is called with this, the victim's name and its process id, and says whether the process is to
        be started again."""
        pid = self.stack.pids()[victim]
        ended = fault(self, victim, pid)
        at = time.monotonic()
        if ended:
            wait_for(f"{victim} is started again",
                     lambda: self.stack.pids().get(victim) not in (None, pid))
        since = time.monotonic()
        wait_for(f"the fleet is whole after {fault.__name__} {victim}",
                 lambda: self.whole(victim, since))
        return time.monotonic() - at
