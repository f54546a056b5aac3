#!/usr/bin/env python3
"""Writes values.schema.json and README.md of every chart from the one description of its values below, with the
defaults of its values.yaml. `make_docs.py --check` fails if a file is not what it would write.

Needs python3-yaml.
"""
import json
import pathlib
import sys

import yaml

HERE = pathlib.Path(__file__).resolve().parent

STRING = {"type": "string"}
BOOL = {"type": "boolean"}
MAP = {"type": "object"}
LIST = {"type": "array"}
COUNT = {"type": "integer", "minimum": 0, "maximum": 1000}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
ADDRESS = {"type": "string", "pattern": r"^(tcp://.+:.+)?$"}


def obj(**properties):
    """An object of exactly these properties, all of them optional."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


COMMON = {
    "image": (obj(repository=STRING, tag=STRING, pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]}),
              "Image; an empty tag is `global.imageTag`, or else the chart's appVersion"),
    "imagePullSecrets": (LIST, "Secrets for a private registry"),
    "resources": (obj(requests=MAP, limits=MAP), "Requests and limits of the container"),
    "keys": (obj(existingSecret=STRING), "Secret with what `conclave keys fabric` wrote"),
    "settings": ({"type": "object", "propertyNames": {"pattern": "^[a-z][a-z0-9-]*([.][a-z][a-z0-9-]*)+$"},
                  "additionalProperties": {"type": ["string", "number", "boolean"]}},
                 "Settings of the service by name, as `--print-config` lists them"),
    "extraEnv": (LIST, "More entries of `env`"),
    "extraVolumes": (LIST, "More volumes: the authorities that `artifacts.ca-file` or a collector's address need, say"),
    "extraVolumeMounts": (LIST, "Where they are mounted"),
    "logLevel": ({"enum": ["trace", "debug", "info", "warn", "error"]}, "Least level that is logged"),
    "nodeSelector": (MAP, ""), "tolerations": (LIST, ""), "affinity": (MAP, ""),
    "topologySpreadConstraints": (LIST, "May use template expressions"),
    "priorityClassName": (STRING, "Or `global.priorityClassName`"),
    "podAnnotations": (MAP, ""), "podLabels": (MAP, ""),
    "serviceAccount": (obj(create=BOOL, name=STRING, annotations=MAP), "Its token is never mounted"),
    "terminationGracePeriodSeconds": ({"type": "integer", "minimum": 10, "maximum": 3600},
                                      "Time to finish what is under way"),
    "podDisruptionBudget": (obj(enabled=BOOL, maxUnavailable={"type": ["integer", "string"]}), ""),
    "networkPolicy": (obj(enabled=BOOL, metricsFrom=LIST, extraEgress=LIST),
                      "Lets through what ARCHITECTURE.md draws, and nothing else"),
    "serviceMonitor": (obj(enabled=BOOL, interval=STRING, labels=MAP), "For the Prometheus operator"),
    # What helm and the umbrella chart put there.
    "global": (MAP, ""), "common": (MAP, ""), "enabled": (BOOL, ""),
}
HELMS_OWN = {"global", "common", "enabled"}
REPLICAS = {"replicas": (COUNT, "Pods")}
SCHEDULER = {"schedulerAddress": (ADDRESS, "Or `global.schedulerAddress`")}
REGISTRY = {"registryAddress": (ADDRESS, "One, or several with commas; or `global.registryAddress`")}
MODELS = {"modelVolume": ({"type": "object", "minProperties": 1},
                          "Volume source with the models' files, mounted read-only at /models; or `global.modelVolume`")}
ARTIFACTS = {"artifacts": (obj(cacheBytesMax={"type": "integer", "minimum": 0}, sizeLimit=STRING,
                               ports={"type": "array", "items": PORT}),
                           "Models at http(s):// or s3://: bytes of their pieces that are kept, room for them and for what is "
                           "being loaded, and ports of their servers to let out to")}
AUTOSCALING = {"autoscaling": (obj(enabled=BOOL, minReplicas=COUNT, maxReplicas=COUNT, metrics=LIST, behavior=MAP),
                               "HorizontalPodAutoscaler; replaces `replicas`")}
GROUP = {"type": "object", "required": ["name", "device"], "additionalProperties": False, "properties": {
    "name": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?$"},
    "device": {"type": "string", "pattern": "^(cpu|cuda|hpu)(:.+)?$"},
    "deviceResource": STRING, "devices": COUNT, "replicas": COUNT, "slots": {"type": "integer", "minimum": 0},
    "resources": MAP, "nodeSelector": MAP, "tolerations": LIST}}

CHARTS = {
    "gateway": {**REPLICAS, **SCHEDULER, **REGISTRY, **AUTOSCALING,
                "redis": (obj(url={"type": "string", "pattern": "^(redis://.+)?$"}, passwordSecret=obj(name=STRING, key=STRING),
                              port=PORT),
                          "Where gateways count quotas together, the secret with its password, and the port to let out to"),
                "service": (obj(type={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, port=PORT, annotations=MAP), ""),
                "ingress": (obj(enabled=BOOL, className=STRING, annotations=MAP, hosts=LIST, tls=LIST), "")},
    "router": {**REPLICAS, **SCHEDULER, **MODELS, **ARTIFACTS, **AUTOSCALING},
    "expert-worker": {**SCHEDULER, **MODELS, **ARTIFACTS,
                      "groups": ({"type": "array", "minItems": 1, "items": GROUP},
                                 "Worker groups, a StatefulSet each: device, replicas, slots, and what differs from the chart"),
                      "keda": (obj(enabled=BOOL, minReplicas=COUNT, maxReplicas=COUNT, serverAddress=STRING, query=STRING,
                                   threshold=STRING), "ScaledObject of each group; replaces its `replicas`")},
    "scheduler": {**REPLICAS, **REGISTRY, "model": (STRING, "What is served: name, name@alias or name:version"),
                  "replicaFloor": ({"type": "integer", "minimum": 1, "maximum": 64},
                                   "Copies of each expert, each on another worker")},
    "registry": {**REPLICAS, **MODELS, **ARTIFACTS,
                 "database": (obj(url={"type": "string", "pattern": "^postgres(ql)?://"},
                                  passwordSecret=obj(name=STRING, key=STRING), port=PORT),
                              "PostgreSQL, the secret with its password, and the port to let out to"),
                 "adminKeySecret": (STRING, "Secret whose `admin.key` is made an administrator's key"),
                 "models": ({"type": "array", "items": STRING}, "Files below /models, or addresses, to register at the start"),
                 "state": (obj(sizeLimit=STRING), "Sums of files that were read before")},
}


def schema_of(chart: str) -> str:
    fields = {**COMMON, **CHARTS[chart]}
    properties = {name: ({**schema, "description": text} if text else schema) for name, (schema, text) in fields.items()}
    return json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", "title": f"Values of the chart {chart}",
                       "type": "object", "properties": properties, "additionalProperties": False}, indent=1) + "\n"


def readme_of(chart: str) -> str:
    about = yaml.safe_load((HERE / chart / "Chart.yaml").read_text())
    defaults = yaml.safe_load((HERE / chart / "values.yaml").read_text())
    lines = [f"# {chart}", "", about["description"] + ".", "", "```sh",
             "kubectl create secret generic conclave-fabric-keys --from-file=keys   # once: `conclave keys fabric --out keys`",
             f"helm install conclave-{chart} helm/{chart}", "```", "", "| value | default | what it is |", "|---|---|---|"]
    for name, (schema, text) in {**CHARTS[chart], **COMMON}.items():
        if name in HELMS_OWN:
            continue
        shown = json.dumps(defaults.get(name))
        if len(shown) > 60:
            shown = "see values.yaml"
        if not text and schema.get("properties"):
            text = ", ".join(schema["properties"])
        lines.append(f"| `{name}` | `{shown}` | {text or 'as Kubernetes has it'} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    check, stale = "--check" in sys.argv[1:], []
    for chart in CHARTS:
        unknown = set(yaml.safe_load((HERE / chart / "values.yaml").read_text())) ^ \
            (set(COMMON) - HELMS_OWN | set(CHARTS[chart]))
        if unknown:
            print(f"{chart}: in values.yaml or here only: {', '.join(sorted(unknown))}")
            return 1
        for name, text in (("values.schema.json", schema_of(chart)), ("README.md", readme_of(chart))):
            path = HERE / chart / name
            if check and (not path.exists() or path.read_text() != text):
                stale.append(str(path))
            elif not check:
                path.write_text(text)
    print("\n".join(f"{path} is not what make_docs.py writes" for path in stale) or "the charts' schemas and READMEs are as described")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
