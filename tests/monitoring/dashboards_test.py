#!/usr/bin/env python3
"""Asks a real Prometheus, which scrapes a running `conclave up` under load with deploy/monitoring's rules, every query
of every dashboard and every rule: each has data.

Usage: dashboards_test.py CONCLAVE MODEL
"""
import contextlib
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request

from watched import ROOT, Watched, wait_for

MONITORING = ROOT / "deploy" / "monitoring"
# What Grafana would put there, at this test's pace. Of variables: all.
MACROS = {"$__rate_interval": "15s", "$model": ".*"}


class Prometheus:
    """Debian's, on a free port, with the rules of deploy/ evaluated every second."""

    def __init__(self, fleet: Watched):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="conclave-prometheus-"))
        targets = [{"targets": [f"127.0.0.1:{port}"], "labels": {"service": service, "node": node}}
                   for (service, node), port in fleet.admin.items()]
        config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                  "rule_files": [str(MONITORING / "rules.yml")],
                  "scrape_configs": [{"job_name": "conclave", "static_configs": targets}]}
        (self.folder / "prometheus.yml").write_text(json.dumps(config))
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
             "--web.listen-address=127.0.0.1:0"], stdout=self.log, stderr=self.log)
        self.port = wait_for("Prometheus listens", self._listening)
        wait_for("Prometheus is ready", self._ready)

    def _listening(self) -> str | None:
        """It says port 0 in its log, so the kernel is asked."""
        assert self.process.poll() is None, (self.folder / "log").read_text()
        owned = set()
        for entry in pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                owned.add(str(entry.readlink()))
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in owned:
                return str(int(words[1].split(":")[1], 16))
        return None

    def _ready(self) -> bool:
        with contextlib.suppress(OSError), \
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=30) as answer:
            return answer.status == 200
        return False

    def query(self, expr: str) -> list[dict]:
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": expr})
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expr}: {error.read().decode()}") from None

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.log.close()
        shutil.rmtree(self.folder)


def queries() -> list[tuple[str, str]]:
    """(where, expression) of every panel's targets and of every recording rule."""
    found = []
    for path in sorted((MONITORING / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                expr = target["expr"]
                for macro, value in MACROS.items():
                    expr = expr.replace(macro, value)
                assert "$" not in expr, f"{path.name}: {panel['title']}: a macro is left in {expr}"
                found.append((f"{path.name}: {panel['title']}", expr))
    found += [("rules.yml", name) for name in re.findall(r"record: (\S+)", (MONITORING / "rules.yml").read_text())]
    return found


def has_data(result: list[dict]) -> bool:
    return any(not math.isnan(float(one["value"][1])) for one in result)


def main() -> int:
    conclave, model = sys.argv[1:3]
    end = threading.Event()
    with Watched(conclave, model, "--workers", "2", "--routers", "2", "--set", "scheduler.load-window-ms=500",
                 nodes=5 + 2) as fleet, contextlib.closing(Prometheus(fleet)) as prometheus:

        def load() -> None:
            while not end.is_set():
                fleet.work(40)
        worker = threading.Thread(target=load)
        worker.start()
        try:
            wanted = queries()
            assert len(wanted) > 80, f"only {len(wanted)} queries: the dashboards are not there"

            def missing() -> list[tuple[str, str]]:
                return [(where, expr) for where, expr in wanted if not has_data(prometheus.query(expr))]
            # A rate takes two scrapes, a heat map the scheduler's next look, and all of it some load.
            with contextlib.suppress(AssertionError):
                wait_for("data for every query", lambda: not missing(), 90)
            left = missing()
            firing = prometheus.query('ALERTS{alertstate="firing"}')
        finally:
            end.set()
            worker.join()
    problems = [f"no data: {where}: {expr}" for where, expr in left]
    problems += [f"fires in a fleet that is well: {alert['metric']}" for alert in firing]
    print("\n".join(problems))
    print(f"dashboards: {len(wanted)} queries, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
