#!/usr/bin/env python3
"""Holds the tree to its own rules: arrows between libraries, files that no target builds, calls that
have a better replacement. Sizes of files and functions are judged by readers, not here.

Usage: check.py SOURCE_DIR LISTED_FILES
LISTED_FILES has the path of every source that some target lists, one a line (written by CMake).
"""
import pathlib
import re
import subprocess
import sys

# A library may include those of its own row and of rows above it that it is said to use.
ALLOWED = {
    "base": set(),
    "telemetry": {"base"},
    "config": {"base"},
    "gguf": {"base"},
    "jinja": {"base"},
    "tokenizer": {"base", "gguf"},
    "chat": {"base", "gguf", "jinja"},
    "kernels": {"base", "gguf"},
    "model": {"base", "gguf", "kernels"},
    "artifacts": {"base", "gguf", "model", "telemetry"},
    "wire": {"base"},
    "devices": {"base"},
    "fabric": {"base", "wire", "config", "telemetry"},
    "fleet": {"base", "fabric", "telemetry", "wire"},
    "catalog": {"base", "gguf", "model", "wire"},
    "placement": {"base", "wire"},
    "engine": {"base", "gguf", "kernels", "model", "tokenizer"},
    "dispatch": {"base", "fabric", "kernels", "model", "telemetry", "wire"},
    "http": {"base", "telemetry"},
    "admin": {"base", "http", "wire"},
    "quota": {"base"},
    "app": {"base", "config", "telemetry", "http", "fabric"},
    "testkit": {"app", "base", "fabric", "fleet", "gguf", "kernels", "model", "telemetry", "wire"},
}

# (pattern, folders where it is banned, what to use instead)
BANNED = [
    (r"\bsleep_for\b|\bsleep_until\b|\busleep\b", ("libs", "cli", "tests"),
     "wait for the event itself, with the clock injected"),
    (r"\bstd::rand\b|\bsrand\(|\brandom_device\b", ("libs", "cli"),
     "engine/philox.hpp: every draw is a function of a seed"),
    (r"\bsystem_clock::now\b", ("libs",), "a clock that is passed in"),
    (r"\[=\]", ("libs", "cli", "tests"), "name what the lambda captures"),
    (r"\bstd::exp\b|\bexpf\(|\bstd::tanh\b|\bstd::log\((?!static_cast<long double>|base\)|wave)",
     ("libs/kernels/src", "libs/model/src"),
     "the exp of vector_kernel.hpp, or extended precision: libraries' bits differ"),
]


def tracked(root: pathlib.Path) -> list[pathlib.Path]:
    """C++ sources under version control, or all of them where there is no checkout."""
    try:
        names = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "*.cpp", "*.hpp"],
            check=True, capture_output=True, text=True).stdout.split()
        return [root / name for name in names if (root / name).exists()]
    except (OSError, subprocess.CalledProcessError):
        return [p for top in ("libs", "cli", "services", "tests")
                for p in (root / top).rglob("*.[ch]pp")]


SERVICES = {"registry", "scheduler", "expert_worker", "router", "gateway"}


def check_includes(path: pathlib.Path, name: str, text: str) -> list[str]:
    service = re.match(r"services/([^/]+)/", name)
    if service:  # what two services share is a library or a schema
        own = service.group(1).replace("-", "_")
        return [f"{name}: service {own} must not include service {used}"
                for used in re.findall(r'#include "conclave/([^/]+)/', text)
                if used in SERVICES - {own}]
    match = re.match(r"libs/([^/]+)/", name)
    if not match:
        return []
    library = match.group(1)
    if library not in ALLOWED:
        return [f"{name}: library '{library}' has no row in tests/structure/check.py"]
    problems = []
    is_test = (name.endswith(("_test.cpp", "_bench.cpp", "_fuzz.cpp"))
               or "/testing_" in name)
    for used in re.findall(r'#include "conclave/([^/]+)/', text):
        if used != library and used not in ALLOWED[library] and not is_test:
            problems.append(f"{name}: {library} must not include {used}")
    return problems


def check_calls(name: str, text: str) -> list[str]:
    problems = []
    is_test = name.endswith("_test.cpp")
    for pattern, folders, instead in BANNED:
        if not name.startswith(folders) or (is_test and "exp" in pattern):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(pattern, line.split("//")[0]):
                problems.append(f"{name}:{number}: {line.strip()} -- use {instead}")
    if name.endswith(".hpp"):
        if "#pragma once" not in text:
            problems.append(f"{name}: no #pragma once")
        if re.search(r"^using namespace", text, re.M):
            problems.append(f"{name}: using namespace in a header")
    return problems


def main() -> int:
    root = pathlib.Path(sys.argv[1]).resolve()
    listed = {pathlib.Path(line).resolve()
              for line in pathlib.Path(sys.argv[2]).read_text().split("\n") if line}
    problems = []
    for path in tracked(root):
        name = path.relative_to(root).as_posix()
        text = path.read_text()
        problems += check_includes(path, name, text) + check_calls(name, text)
        if path.resolve() not in listed:
            problems.append(f"{name}: no target lists this file")
    for path in sorted(listed):
        if not path.exists():
            problems.append(f"{path}: listed, but there is no such file")
    print("\n".join(problems) or "the tree keeps its rules")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
