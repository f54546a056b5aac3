#!/usr/bin/env python3
"""Installs OpenAI's npm client (once per lock file) and runs its test against `conclave up`.

Usage: run.py WORK_DIR CONCLAVE MODEL
"""
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from stack import Stack  # noqa: E402


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


def main() -> int:
    work, conclave, model = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    install(work)
    with Stack(conclave, "up", "-m", model, "--workers", "2") as stack:
        return subprocess.run(["node", str(HERE / "client_test.mjs"), str(work), stack.url],
                              check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
