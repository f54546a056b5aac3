#!/usr/bin/env python3
"""deploy/, compose/, the Dockerfile and shell scripts with the tools that read them (promtool, amtool, shellcheck,
yamllint), and rules of our own that no tool here knows. Links of the documents lead somewhere.

Usage: lint_test.py
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
YAMLLINT = "{extends: relaxed, rules: {line-length: disable}}"


def tool(*command: str, cwd: pathlib.Path = ROOT) -> list[str]:
    done = subprocess.run(command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return [] if done.returncode == 0 else [f"{' '.join(command)}:\n{done.stdout}"]


def tracked(*patterns: str) -> list[pathlib.Path]:
    """Files under version control, or, where there is no checkout, in the folders that hold such files."""
    done = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", *patterns], text=True,
                          capture_output=True)
    if done.returncode == 0:
        return sorted({ROOT / name for name in done.stdout.split("\n") if name and (ROOT / name).is_file()})
    folders = (".ci", "tools", "tests", "docs", "libs", "services", "compose", "deploy", "helm")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    found += [path for path in ROOT.iterdir() if path.is_file()]
    return sorted(path for path in found if not patterns or any(path.match(one) for one in patterns))


def check_rules() -> list[str]:
    return tool("promtool", "check", "rules", str(MONITORING / "rules.yml")) + \
        tool("promtool", "test", "rules", "rules_test.yml", cwd=MONITORING)


def check_configurations() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:  # the container has its rules elsewhere
        path = pathlib.Path(folder)
        (path / "rules.yml").write_text((MONITORING / "rules.yml").read_text())
        (path / "prometheus.yml").write_text((MONITORING / "prometheus.yml").read_text().replace("/etc/prometheus/", ""))
        problems = tool("promtool", "check", "config", str(path / "prometheus.yml"))
    return problems + tool("amtool", "check-config", str(MONITORING / "alertmanager.yml"))


def check_shell() -> list[str]:
    scripts = []
    for path in tracked():
        with open(path, "rb") as file:
            if re.match(rb"#!.*\b(ba|da)?sh\b", file.readline(80)):
                scripts.append(str(path.relative_to(ROOT)))
    # SC2317 takes what only a trap calls for code that nothing reaches.
    return tool("shellcheck", "-e", "SC2317", *scripts) if scripts else ["no shell script was found"]


def check_yaml() -> list[str]:
    files = [str(path) for path in tracked("*.yml", "*.yaml") if "templates" not in path.parts]
    return tool("yamllint", "-d", YAMLLINT, *files)


# ---- documents ----

def anchors_of(path: pathlib.Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#{1,6} (.+)$", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def check_links() -> list[str]:
    problems = []
    for path in tracked("*.md"):
        text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            to = (path.parent / name).resolve() if name else path
            where = f"{path.relative_to(ROOT)} links to {target}, "
            if not to.exists():
                problems.append(where + "which is not there")
            elif anchor and to.suffix == ".md" and anchor not in anchors_of(to):
                problems.append(where + "which has no such heading")
    return problems


def check_runbooks() -> list[str]:
    """Every alert says in words what it is, and its runbook is the section of its name."""
    problems = []
    for group in yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            if "alert" not in rule:
                continue
            name, notes = rule["alert"], rule.get("annotations", {})
            page, _, anchor = notes.get("runbook", "").partition("#")
            if not notes.get("summary") or rule.get("labels", {}).get("severity") not in ("page", "ticket"):
                problems.append(f"{name}: no summary, or no severity that Alertmanager knows")
            if anchor != name.lower() or not (ROOT / page).is_file() or anchor not in anchors_of(ROOT / page):
                problems.append(f"{name}: its runbook {notes.get('runbook')!r} is no section of its name")
            tests = (MONITORING / "rules_test.yml").read_text()
            if not re.search(rf"alertname: {name}\b.*?\n\s+exp_alerts", tests):
                problems.append(f"{name}: no test in rules_test.yml sees it fire")
    return problems


# ---- dashboards ----

def check_dashboards() -> list[str]:
    grafana = MONITORING / "grafana"
    problems = tool(sys.executable, str(grafana / "make_dashboards.py"), "--check")
    made = [json.loads(path.read_text()) for path in sorted((grafana / "dashboards").glob("*.json"))]
    if len({one["uid"] for one in made}) != len(made) or not made:
        problems.append("dashboards share a uid, or there are none")
    golden = {line.split(" ", 2)[2].split("{")[0] for line in (MONITORING / "metrics.golden").read_text().splitlines()}
    rules = set(re.findall(r"record: (\S+)", (MONITORING / "rules.yml").read_text()))
    known = golden | rules | {f"{name}_{part}" for name in golden for part in ("bucket", "sum", "count")}
    texts = {path.name: path.read_text() for path in [*(grafana / "dashboards").glob("*.json"), MONITORING / "rules.yml"]}
    for name, text in texts.items():
        used = set(re.findall(r"\b(?:conclave_[a-z_]+|vllm:[a-z_]+|conclave:[a-z0-9_:]+)\b", text))
        problems += [f"{name} uses {metric}, which nothing exposes" for metric in sorted(used - known)]
    for one in made:
        taken = set()
        for panel in one["panels"]:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
            if taken & cells or place["x"] + place["w"] > 24:
                problems.append(f"{one['title']}: panel {panel['title']} lies on another one, or beside the page")
            taken |= cells
    return problems


def check_provisioning() -> list[str]:
    """What Grafana is given, as far as it can be seen without one: its source is a service of the composition, at the port that
    this listens on; dashboards ask only it, and lie where the provider and the front page look for them."""
    grafana, composed = MONITORING / "grafana", yaml.safe_load((ROOT / "compose" / "docker-compose.yml").read_text())["services"]
    mounts = {}
    for volume in composed["grafana"]["volumes"]:
        source, target, _ = volume.split(":")
        mounts[target] = (ROOT / "compose" / source).resolve()

    def is_mounted(path: str) -> bool:
        return any(path.startswith(target) and (source / path[len(target):].lstrip("/")).exists() for target, source in mounts.items())
    problems = []
    given = yaml.safe_load((grafana / "provisioning" / "datasources" / "conclave.yml").read_text())
    sources = given["datasources"]
    prometheus = [one for one in sources if one["type"] == "prometheus" and one.get("isDefault")]
    if given["apiVersion"] != 1 or len(prometheus) != 1:
        problems.append("grafana: there is not one Prometheus that is the default source")
    for one in prometheus:
        host, _, port = one["url"].removeprefix("http://").partition(":")
        if one["access"] != "proxy" or host not in composed or f":{port}" not in composed[host]["ports"][0].rsplit("}", 1)[-1]:
            problems.append(f"grafana: source {one['url']} is no service of the composition")
    providers = yaml.safe_load((grafana / "provisioning" / "dashboards" / "conclave.yml").read_text())["providers"]
    problems += [f"grafana: no dashboards at {one['options']['path']}" for one in providers
                 if one["type"] != "file" or not is_mounted(one["options"]["path"])]
    home = composed["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    if not is_mounted(home):
        problems.append(f"grafana: the front page {home} is not mounted")
    for path in sorted((grafana / "dashboards").glob("*.json")):
        made = json.loads(path.read_text())
        names = {one["name"] for one in made["templating"]["list"]}
        variables = set(re.findall(r"\$\{?(\w+)", path.read_text())) - {"__rate_interval", "__all", "__auto"}
        problems += [f"{path.name}: no variable {name}" for name in sorted(variables - names)]
        ids = [panel["id"] for panel in made["panels"]]
        if len(ids) != len(set(ids)) or made.get("id") is not None:
            problems.append(f"{path.name}: panels share an id, or the dashboard has one of a database")
        for panel in made["panels"]:
            asked = [panel.get("datasource"), *(target.get("datasource") for target in panel.get("targets", []))]
            if panel["type"] != "row" and any(one != {"type": "prometheus", "uid": "${datasource}"} for one in asked):
                problems.append(f"{path.name}: {panel['title']} asks another source than the one that is chosen")
    return problems


# ---- images ----

def check_dockerfile(path: pathlib.Path) -> list[str]:
    """What hadolint asks of a file like ours."""
    name = str(path.relative_to(ROOT))
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", path.read_text(), flags=re.M))
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", text, re.M))
    problems, stages, stage = [], {}, ""
    for line in filter(None, text.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            image, _, stage = rest.partition(" AS ")
            while (variable := re.fullmatch(r"\$\{(\w+)\}", image)) and variable.group(1) in arguments:
                image = arguments[variable.group(1)]
            if image not in stages and (":" not in image or image.endswith(":latest")):
                problems.append(f"{name}: FROM {image} is not pinned")
            stages[stage] = {"user": stages.get(image, {}).get("user")}
        elif word == "USER":
            stages[stage]["user"] = rest
        elif word == "ENTRYPOINT" and "entrypoint" not in stages[stage]:
            stages[stage]["entrypoint"] = rest
            if not rest.startswith("["):
                problems.append(f"{name}: {stage}: ENTRYPOINT runs in a shell, which gets the signals")
        elif word in ("ADD", "MAINTAINER"):
            problems.append(f"{name}: {word}")
        elif word == "WORKDIR" and not rest.startswith("/"):
            problems.append(f"{name}: WORKDIR {rest} is relative")
        elif word == "RUN" and "apt-get install" in rest:
            if "--no-install-recommends" not in rest or "rm -rf /var/lib/apt/lists" not in rest or "apt-get update" not in rest:
                problems.append(f"{name}: {stage}: apt-get without update, with what is recommended, or lists left behind")
        if word == "RUN" and re.search(r"\bsudo\b|apt-get (dist-)?upgrade|\bcd /", rest):
            problems.append(f"{name}: {stage}: sudo, upgrade or cd in RUN")
        for source in re.findall(r"COPY --from=(\S+)", line):
            if source not in stages:
                problems.append(f"{name}: copies from {source}, which is no stage before")
    for stage, known in stages.items():
        root_first = "entrypoint" in path.parent.as_posix() or (path.parent / "entrypoint").exists()  # drops its rights itself
        if "entrypoint" in known and known["user"] in (None, "root", "0") and not root_first:
            problems.append(f"{name}: {stage} runs as root")
    return problems


def check_dockerfiles() -> list[str]:
    files = [path for path in tracked() if path.name == "Dockerfile"]
    return [problem for path in files for problem in check_dockerfile(path)] + ([] if len(files) > 1 else ["no Dockerfile was found"])


# ---- compose ----

def check_knobs(files: list[pathlib.Path]) -> list[str]:
    """Every variable is in .env with the default that it has in the files, and the other way round."""
    given = dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", (ROOT / "compose" / ".env").read_text(), re.M))
    used = {(path.name, name, default) for path in files
            for name, default in re.findall(r"\$\{([A-Z0-9_]+):?-([^}]*)\}", path.read_text())}
    problems = [f"compose/.env: {name} is not used" for name in sorted(set(given) - {name for _, name, _ in used})]
    return problems + [f"compose/{file}: ${{{name}:-{default}}} is not in .env, or has another default there"
                       for file, name, default in sorted(used) if given.get(name) != default and name != "CONCLAVE_REVISION"]


# Whose ports are for other machines, where a knob says so.
OPEN_PORTS = r"127\.0\.0\.1:|\$\{[A-Z]+_BIND:-127\.0\.0\.1\}:|\$\{WORKER_BIND:-0\.0\.0\.0\}:"


def check_service(where: str, name: str, service: dict, composed: dict) -> list[str]:
    image = re.sub(r"\$\{[A-Z0-9_]+:-([^}]*)\}", r"\1", service["image"])
    problems = []
    if image.endswith(":latest") or ":" not in image.rsplit("/", 1)[-1]:
        problems.append(f"{where}: {name}: image {image} is not pinned")
    if name != "init":
        problems += [f"{where}: {name} has no {key}" for key in ("mem_limit", "healthcheck") if key not in service]
    if "logging" not in service or "restart" not in service:
        problems.append(f"{where}: {name}: no bound of its logs, or no restart policy")
    for other in service.get("depends_on", {}):
        if other not in composed["services"]:
            problems.append(f"{where}: {name} waits for {other}, which is not there")
    return problems


def check_compose() -> list[str]:
    files = sorted((ROOT / "compose").glob("*.yml"))
    problems = check_knobs(files)
    for path in files:
        where, composed = f"compose/{path.name}", yaml.safe_load(path.read_text())
        for name, service in composed["services"].items():
            if "image" in service:  # else it only adds to one of another file
                problems += check_service(where, name, service, composed)
            for port in service.get("ports", []):
                if not re.match(OPEN_PORTS, port):
                    problems.append(f"{where}: {name}: port {port} is open to other machines")
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                if source.startswith("../") and not (path.parent / source).exists():
                    problems.append(f"{where}: {name}: mounts {source}, which is not there")
                if re.match(r"[a-z]", source) and source not in composed["volumes"]:
                    problems.append(f"{where}: {name}: volume {source} is not declared")
    return problems + ([] if len(files) > 2 else ["compose/ lacks files"])


CHECKS = [check_rules, check_configurations, check_shell, check_yaml, check_links, check_runbooks, check_dashboards, check_provisioning,
          check_dockerfiles, check_compose]


def main() -> int:
    problems = {check.__name__: check() for check in CHECKS}
    print("\n".join(problem for found in problems.values() for problem in found))
    failed = sum(1 for found in problems.values() if found)
    print(f"lint: {len(problems) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
