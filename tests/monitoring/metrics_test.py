#!/usr/bin/env python3
"""Holds what running services expose to deploy/monitoring/metrics.golden: every family with its type, labels and
help, and every label to a closed set of values. Dashboards, alerts and autoscalers rest on these names.

Usage: metrics_test.py CONCLAVE MODEL [--write]      (--write: write the golden file anew)
"""
import collections
import re
import sys

from watched import ROOT, Watched, wait_for

GOLDEN = ROOT / "deploy" / "monitoring" / "metrics.golden"
NAME = r"[a-z0-9](?:[a-z0-9.-]{0,62})"
# Label -> what its values may be. A label that is not here, or takes values from requests, is a mistake.
LABELS = {
    "conclave_build_info": {"service": "gateway|router|expert-worker|scheduler|registry", "version": r"[0-9.]+\S*"},
    "": {
        "reason": "unknown_target|version|stale|oversized|overloaded|malformed|wrong_role|unknown_key|no_key",
        "direction": "in|out", "end": "client|server", "road": "direct|shared|frames",
        "kind": "hello|welcome|heartbeat|request|reply|error|cast|goodbye", "outcome": "[a-z_]{1,20}",
        "path": "/v1/(chat/completions|completions|models)|/tokenize|/detokenize|/health|/ready|/metrics|/version|/admin/v1|other",
        "status": r"\d{3}", "policy": "next-best|fail",
        "limit": "(requests|tokens)_per_minute|tokens_per_(day|month)|concurrent_requests", "finished_reason": "stop|length|abort",
        "role": "gateway|router|expert-worker|registry", "state": "starting|ready|draining",
        "request": "[a-z_]{1,20}", "model_name": ".{1,96}", "model": r".{1,96}:\d+",
        "layer": r"\d{1,3}", "expert": r"\d{1,3}", "device": r"cpu(:[0-9,-]+)?", "isa": "scalar|avx2|avx512|amx",
    },
}
SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def families(text: str) -> dict[str, dict]:
    found: dict[str, dict] = collections.defaultdict(lambda: {"type": "", "help": "", "labels": set(), "values": set()})
    for line in text.splitlines():
        if line.startswith("# "):
            _, what, name, rest = line.split(" ", 3)
            found[name][what.lower()] = rest
            continue
        match = SAMPLE.match(line)
        assert match, f"not the Prometheus text format: {line!r}"
        name = match.group(1)
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        family = found[base] if base in found and found[base]["type"] == "histogram" else found[name]
        for label, value in LABEL.findall(match.group(2) or ""):
            if label != "le":
                family["labels"].add(label)
                family["values"].add((label, value))
    return found


def problems_of(service: str, name: str, family: dict) -> list[str]:
    problems = [f"{service}: {name}: no {what}" for what in ("type", "help") if not family[what]]
    if family["type"] == "counter" and not name.endswith("_total"):
        problems.append(f"{service}: {name} is a counter and does not end in _total")
    if family["type"] == "gauge" and name.endswith("_total"):
        problems.append(f"{service}: {name} is a gauge and ends in _total")
    allowed = LABELS.get(name, LABELS[""])
    for label, value in sorted(family["values"]):
        if label not in allowed:
            problems.append(f"{service}: {name}: label {label} has no closed set of values (LABELS)")
        elif not re.fullmatch(allowed[label], value):
            problems.append(f"{service}: {name}: {label}={value!r} is not of its closed set")
    return problems


def main() -> int:
    conclave, model = sys.argv[1:3]
    lines, problems = set(), []
    with Watched(conclave, model, "--workers", "2", nodes=5 + 1) as fleet:
        fleet.work(20)
        wait_for("the scheduler shows experts", lambda: "conclave_scheduler_expert_replicas{" in fleet.scrape("scheduler", "scheduler"))
        for service, node in fleet.admin:
            for name, family in families(fleet.scrape(service, node)).items():
                problems += problems_of(service, name, family)
                labels = ",".join(sorted(family["labels"]))
                lines.add(f"{service} {family['type']} {name}{{{labels}}} {family['help']}")
    text = "".join(line + "\n" for line in sorted(lines))
    if "--write" in sys.argv:
        GOLDEN.write_text(text)
    golden = set(GOLDEN.read_text().splitlines())
    problems += [f"not in {GOLDEN.name}, which is a promise to dashboards: {line}" for line in sorted(lines - golden)]
    problems += [f"in {GOLDEN.name}, and no service shows it: {line}" for line in sorted(golden - lines)]
    print("\n".join(problems))
    print(f"metrics: {len(lines)} families, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
