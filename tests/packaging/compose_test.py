#!/usr/bin/env python3
"""compose/ as a user meets it, with a real Docker engine: build, up, an answer, more workers, a worker and a router
killed, all profiles, their leader and a registry killed, two gateways that share quotas, everything restarted with its
volumes, down. Prints the figures of README.md.

Usage: compose_test.py [--keep]      (--keep: leave it running at the end)
"""
import argparse
import concurrent.futures
import contextlib
import http.client
import json
import sys
import time

import engine
from composed import Composed, Load, MODEL, Prometheus, RIGHT, free_ports
from dashboards_test import queries  # of tests/monitoring, where `composed` finds it

IMAGES = ["conclave", "gateway", "router", "expert-worker", "scheduler", "registry"]
IMAGE_BYTES_MAX = 150_000_000
# Everything but Grafana, which has no stand-in.
SERVED = ["postgres", "redis", "gateway", "router", "expert-worker", "scheduler", "registry"]
PROFILES = ["scheduler-standby", "registry-2", "prometheus", "alertmanager"]
ALL_OF_THEM = {"SCHEDULER_ELECT": "true", "STANDBY_SCHEDULER": ",tcp://172.31.240.13:7600",
               "REGISTRIES": "tcp://172.31.240.11:7601,tcp://172.31.240.12:7601"}


def check_images() -> None:
    for image in IMAGES:
        name = f"conclave/{image}:0.1.0"
        inspected = json.loads(engine.run("docker", "image", "inspect", name, capture=True))[0]
        size = inspected["Size"]
        print(f"image {name}: {size / 1e6:.0f} MB", flush=True)
        assert size < IMAGE_BYTES_MAX, f"{name} has {size} bytes"
        assert inspected["Config"]["User"] not in ("", "root", "0"), f"{name} runs as root"
        program = "conclave" if image == "conclave" else f"conclave-{image}"
        # Every program may speak HTTPS, to a model's server or a collector of traces, and trusts whom Debian trusts.
        told = engine.run("docker", "run", "--rm", "--entrypoint", "sh", name, "-ec",
                          "grep -c BEGIN.CERTIFICATE /etc/ssl/certs/ca-certificates.crt; cat /usr/share/conclave/sbom.spdx.json",
                          capture=True)
        authorities, _, bill = told.partition("\n")
        assert int(authorities) > 100, f"{name} trusts {authorities} authorities"
        bill = json.loads(bill)
        assert bill["spdxVersion"] == "SPDX-2.3"
        names = {package["name"] for package in bill["packages"]}
        assert {program, "libc6", "libzmq5"} <= names, f"{name}: its bill of materials lacks {names}"


def check_worker_joins(composed: Composed, workers: int) -> None:
    started = time.monotonic()
    before = set(composed.ids("expert-worker"))
    composed.compose("up", "-d", "--no-recreate", "--scale", f"expert-worker={workers}")
    new = set(composed.ids("expert-worker")) - before
    assert len(before | new) == workers, f"{len(before | new)} workers instead of {workers}"

    def serves() -> bool:
        composed.ask()
        with contextlib.suppress(OSError, http.client.HTTPException):
            return any(composed.metric(worker, "conclave_expert_worker_pairs_total") > 0 for worker in new)
        return False

    engine.wait_for("a new worker computes a pair", serves, 60)
    print(f"--scale to the first pair of a new worker: {time.monotonic() - started:.1f} s", flush=True)


def check_losses(composed: Composed) -> None:
    """A worker, then a router, are killed while clients ask. No client notices."""
    for service in ("expert-worker", "router"):
        with Load(composed) as load:
            load.more(20)
            engine.run("docker", "kill", composed.ids(service)[0])
            load.more(60)
        load.check(f"{service} killed under load")


def check_profiles(composed: Composed) -> None:
    """A second scheduler and a second registry beside the first ones, and monitoring."""
    started = time.monotonic()
    composed.env.update(ALL_OF_THEM)
    composed.compose("up", "-d", *SERVED, *PROFILES)
    engine.wait_for("all are healthy", lambda: composed.healthy(*SERVED, *PROFILES), 180)
    engine.wait_for("an answer of all profiles", composed.answers, 60)
    print(f"profiles standby, registries, monitoring: all healthy after {time.monotonic() - started:.1f} s", flush=True)


def check_monitoring(composed: Composed) -> None:
    """Prometheus finds every container, every query of dashboards and rules has data, and Alertmanager would hear of what
    fires, which nothing does."""
    prometheus = Prometheus(composed.prometheus)
    wanted = {name: len(composed.ids(name)) for name in ("gateway", "router", "expert-worker", "scheduler", "registry")}
    wanted["scheduler"] += 1
    wanted["registry"] += 1

    def scraped() -> bool:
        found = {one["metric"]["service"]: int(float(one["value"][1])) for one in prometheus.query("sum by (service) (up)")}
        return found == wanted
    engine.wait_for(f"Prometheus scrapes {wanted}", scraped, 120)
    engine.wait_for("Prometheus knows an Alertmanager", lambda: prometheus.get("/api/v1/alertmanagers").get("activeAlertmanagers"), 60)
    rules = [rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]]
    assert sum(rule["type"] == "alerting" for rule in rules) > 8, rules

    expressions, missing = queries(), []

    def all_have_data() -> bool:
        missing[:] = [f"{where}: {expr}" for where, expr in expressions if not prometheus.has_data(expr)]
        return not missing
    with Load(composed):
        try:
            engine.wait_for("every query has data", all_have_data, 120)
        except AssertionError:
            raise AssertionError("no data:\n" + "\n".join(missing)) from None
    firing = prometheus.query('ALERTS{alertstate="firing",severity="page"}')
    assert not firing, firing
    wrong = [rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"] if rule.get("lastError")]
    assert not wrong, wrong
    print(f"monitoring: {len(expressions)} queries have data", flush=True)


def check_leaders(composed: Composed) -> None:
    """The scheduler that leads and the registry that is asked first are killed; others do their work."""
    admin = composed.admin()
    leads = "conclave_scheduler_leading"
    schedulers = [composed.ids(name)[0] for name in ("scheduler", "scheduler-standby")]
    [leader] = [one for one in schedulers if composed.metric(one, leads) == 1]
    [other] = set(schedulers) - {leader}
    with Load(composed) as load:
        load.more(20)
        started = time.monotonic()
        engine.run("docker", "kill", leader, *composed.ids("registry"))
        engine.wait_for("the other scheduler leads", lambda: composed.metric(other, leads) == 1, 60)
        print(f"scheduler and registry killed: the others lead after {time.monotonic() - started:.1f} s", flush=True)
        engine.wait_for("workers are listed by it", lambda: admin.call("GET", "/workers")[0] == 200, 60)
        status, told, _ = admin.call("PUT", f"/models/{MODEL}/aliases/kept", {"version": 1})
        assert status in (200, 201), (status, told)
        load.more(60)
    load.check("scheduler and registry killed under load")


def check_quotas(composed: Composed) -> None:
    """Two gateways let in together what one tenant may have a minute; while Redis is gone, each lets in as much."""
    first = free_ports(2)
    composed.env["GATEWAY_PORT"] = f"{first}-{first + 1}"
    composed.compose("up", "-d", "--no-deps", "--scale", "gateway=2", "gateway")
    gateways = composed.ids("gateway")
    ports = [int(engine.run("docker", "port", one, "8000/tcp", capture=True).split(":")[-1]) for one in gateways]
    assert sorted(ports) == [first, first + 1], ports
    composed.port = ports[0]
    for port in ports:
        engine.wait_for(f"gateway at {port}", lambda port=port: composed.answers(port), 60)
    admin = composed.admin()

    def let_in(tenant: str, requests: int) -> int:
        """Of so many requests at each gateway, all at once, of a tenant that may have ten a minute."""
        for method, path, body in (("POST", "/tenants", {"name": tenant}), ("PUT", f"/quotas/{tenant}", {"requests_per_minute": 10})):
            status, told, _ = admin.call(method, path, body)
            assert status in (200, 201), (path, status, told)
        key = admin.call("POST", "/keys", {"tenant": tenant, "name": "test"})[1]["secret"]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            told = list(pool.map(lambda port: composed.ask(port=port, key=key), ports * requests))
        assert all(one == RIGHT or one[0] == 429 for one in told), told
        return sum(one == RIGHT for one in told)

    together = let_in("together", 15)
    assert together == 10, f"{together} of 30 requests were let in instead of 10"
    engine.run("docker", "kill", *composed.ids("redis"))
    with Load(composed) as load:
        apart = let_in("apart", 15)
        load.more(20)
    load.check("Redis killed under load")
    assert apart == 20, f"{apart} of 30 requests were let in without Redis, instead of 10 at each gateway"
    composed.compose("start", "redis")
    up = "conclave_gateway_redis_up"
    engine.wait_for("gateways have Redis again", lambda: all(composed.metric(one, up) == 1 for one in gateways), 60)
    again = let_in("again", 15)
    assert again == 10, f"{again} of 30 requests were let in with Redis back"
    print("two gateways: 10 of 30 requests of a tenant let in, 10 each while Redis was gone, 10 when it was back", flush=True)
    composed.port = first
    composed.env["GATEWAY_PORT"] = str(first)


def check_restart(composed: Composed) -> None:
    """What was changed is there afterwards, the administrator's key too."""
    admin = composed.admin()
    composed.down()
    for name in ALL_OF_THEM:
        del composed.env[name]
    started = time.monotonic()
    composed.compose("up", "-d")
    engine.wait_for("an answer after a restart of everything", composed.answers, 120)
    print(f"everything restarted, volumes kept: an answer after {time.monotonic() - started:.1f} s", flush=True)
    kept = admin.get(f"/models/{MODEL}/aliases/kept")
    assert kept["version"] == 1, kept


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    with engine.engine():
        engine.ensure_images()
        composed = Composed("conclave-test", "docker-compose.yml")
        composed.down("-v", "--remove-orphans")
        try:
            started = time.monotonic()
            composed.compose("build", "-q")
            print(f"images built in {time.monotonic() - started:.0f} s", flush=True)
            started = time.monotonic()
            composed.compose("up", "-d")
            engine.wait_for("an answer", composed.answers, 180)
            print(f"up to the first answer: {time.monotonic() - started:.1f} s", flush=True)
            check_images()
            check_worker_joins(composed, 8)
            check_losses(composed)
            check_profiles(composed)
            check_monitoring(composed)
            check_leaders(composed)
            check_quotas(composed)
            check_restart(composed)
        except BaseException:
            composed.logs()
            raise
        finally:
            if not options.keep:
                composed.down("-v", check=False)
    print("compose: 10 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
