#!/usr/bin/env python3
"""compose/outside.yml and compose/worker.yml with a real Docker engine: a model that is behind HTTPS, with an authority
of its own, of which workers fetch their experts and nothing else; all of them started again while its server is away;
and a worker of another machine, here a second composition on the same engine that is reached by published ports only.

Usage: outside_test.py [--keep]      (--keep: leave it running at the end; the images must be there: compose_test.py)
"""
import argparse
import contextlib
import http.client
import pathlib
import sys
import tempfile
import time

import engine
from composed import Composed, Load, MODEL

TESTS = pathlib.Path(__file__).resolve().parent
FETCHED, CACHED = "conclave_artifacts_fetched_bytes_total", "conclave_artifacts_cached_bytes_total"
PAIRS = "conclave_expert_worker_pairs_total"
# The first piece of a model that is fetched, and the byte with which its server is asked.
HEADER = (256 << 10) + 1
WORKERS = 2


def make_authority(folder: pathlib.Path) -> None:
    """A certificate for models.test that signs itself, and who trusts it may read it."""
    engine.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=models.test",
               "-addext", "subjectAltName=DNS:models.test", "-keyout", str(folder / "key.pem"), "-out", str(folder / "ca.pem"),
               capture=True)
    for name in ("key.pem", "ca.pem"):
        (folder / name).chmod(0o644)
    folder.chmod(0o755)


def host_address() -> str:
    """This machine, as containers of any network that leads out reach it."""
    return engine.run("docker", "network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}", capture=True).strip()


def sums(composed: Composed, service: str, name: str) -> list[int]:
    return [int(composed.metric(container, name)) for container in composed.ids(service)]


def check_fetched(composed: Composed) -> None:
    """Each worker fetched its experts, a share of all, and the router no more than the backbone."""
    version = composed.admin().get(f"/models/{MODEL}/versions/1")
    assert version["uris"] == [f"https://models.test:8443/{MODEL}.gguf"], version
    size, count = version["expert_bytes"], version["layers"] * version["experts"]
    workers, [router] = sums(composed, "expert-worker", FETCHED), sums(composed, "router", FETCHED)
    for worker in workers:
        assert worker % size == 0 or (worker - HEADER + 1) % size == 0, (worker, size)
        assert 0.25 * count <= worker // size <= 0.75 * count, (worker, size, count)
    assert 0 < router <= version["backbone_bytes"] + HEADER, (router, version)
    print(f"a model of {version['bytes']} bytes over HTTPS: workers fetched {workers}, the router {router}", flush=True)


def check_cache(composed: Composed) -> None:
    """The volume has it all when the server is away."""
    composed.compose("stop", "models")
    composed.compose("restart", "expert-worker", "router")
    engine.wait_for("an answer without the model's server", composed.answers, 120)
    for service in ("expert-worker", "router"):
        assert not any(sums(composed, service, FETCHED)), f"{service}: fetched from a server that is away"
        assert all(sums(composed, service, CACHED)), f"{service}: nothing came from the cache"
    composed.compose("start", "models")
    print("restarted without the model's server: all from the cache", flush=True)


def check_inside(composed: Composed) -> None:
    """Who needs no way out has none: neither the database nor a gateway is in the network."""
    for service in ("postgres", "gateway"):
        [container] = composed.ids(service)
        networks = engine.run("docker", "inspect", "-f", "{{json .NetworkSettings.Networks}}", container, capture=True)
        assert f"{composed.project}_outside" not in networks, f"{service} is in the network that leads out: {networks}"


def check_joins(composed: Composed, second: Composed) -> None:
    """A worker elsewhere gets experts and computes; when it is told to end, it hands them over, and nobody notices."""
    started = time.monotonic()
    second.compose("up", "-d")
    [worker] = second.ids("expert-worker")

    def serves() -> bool:
        composed.ask()
        with contextlib.suppress(OSError, http.client.HTTPException):
            return second.metric(worker, PAIRS) > 0
        return False
    engine.wait_for("the other machine's worker computes a pair", serves, 90)
    print(f"a worker of another machine: {time.monotonic() - started:.1f} s to its first pair", flush=True)
    with Load(composed) as load:
        load.more(30)
        second.compose("stop")
        load.more(30)
    load.check("the other machine's worker ended under load")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    with engine.engine(), tempfile.TemporaryDirectory(prefix="conclave-tls-") as tls, \
            tempfile.TemporaryDirectory(prefix="conclave-keys-") as keys:
        engine.ensure_images()
        make_authority(pathlib.Path(tls))
        host = host_address()
        reads = {"MODEL_DIRECTORY": tls, "ARTIFACTS_CA_FILE": "/models/ca.pem"}
        composed = Composed("conclave-outside", "docker-compose.yml", "outside.yml", str(TESTS / "origin.yml"), REPLICAS="1",
                            MODEL_URI=f"https://models.test:8443/{MODEL}.gguf", TLS_DIRECTORY=tls, SCHEDULER_BIND=host, **reads)
        second = Composed("conclave-second", "worker.yml", str(TESTS / "second.yml"), SCHEDULER_HOST=host, WORKER_HOST=host,
                          WORKER_BIND=host, KEYS_DIRECTORY=keys, **reads)
        second.down("-v", "--remove-orphans")
        composed.down("-v", "--remove-orphans")
        try:
            started = time.monotonic()
            composed.compose("up", "-d", "--scale", f"expert-worker={WORKERS}", "--scale", "router=1")
            engine.wait_for("an answer", composed.answers, 180)
            print(f"up with a model over HTTPS to the first answer: {time.monotonic() - started:.1f} s", flush=True)
            check_fetched(composed)
            check_cache(composed)
            check_inside(composed)
            composed.keys_for_worker(pathlib.Path(keys))
            check_joins(composed, second)
        except BaseException:
            composed.logs()
            second.logs()
            raise
        finally:
            if not options.keep:
                second.down("-v", check=False)
                composed.down("-v", check=False)
    print("outside: 4 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
