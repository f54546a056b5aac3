"""A real `conclave up` as a monitoring system sees it: where each process shows its metrics, what they are, and
requests that move them. Standard library only."""
import concurrent.futures
import http.client
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from stack import Stack, wait_for  # noqa: E402  (the folder is added first)

ROOT = pathlib.Path(__file__).resolve().parents[2]
STARTING = re.compile(r" (gateway|router|expert-worker|scheduler|registry)  starting node=(\S+) .*admin_port=(\d+)")


class Watched(Stack):
    """`up` whose processes' admin ports are known: `admin` has (service, node) -> port."""

    def __init__(self, conclave: str, model: str, *arguments: str, nodes: int):
        super().__init__(conclave, "up", "-m", model, "--log-level", "info", *arguments)
        self.model = pathlib.Path(model).stem
        self.admin = wait_for("every process says its admin port", lambda: self._ports(nodes))

    def _ports(self, nodes: int) -> dict[tuple[str, str], int] | None:
        found = {(service, node): int(port) for service, node, port in STARTING.findall(self.logs())}
        return found if len(found) == nodes else None

    def scrape(self, service: str, node: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin[service, node], timeout=30)
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        assert response.status == 200, (service, node, response.status, text)
        return text

    def ask(self, prompt: str, **more) -> tuple[int, dict]:
        return self.call("/v1/chat/completions", {"model": self.model, "max_tokens": 16, "temperature": 0,
                                                  "messages": [{"role": "user", "content": prompt}], **more})

    def work(self, requests: int) -> None:
        """So many right answers, some at a time; and one of each way to be refused."""
        def one(number: int) -> None:
            status, body = self.ask(f"What is {number} + 385?")
            assert status == 200, (status, body)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(requests)))
        for path, body, expected in [("/v1/models", None, 200), ("/tokenize", {"prompt": "a"}, 200), ("/nowhere", None, 404),
                                     ("/v1/completions", {"model": self.model}, 400)]:
            status, told = self.call(path, body)
            assert status == expected, (path, status, told)
