#!/usr/bin/env python3
"""Holds schemas/lock/NAME.txt, the canonical form of each schema, to the schema itself, and the
schema to what was locked: a field keeps its number, type and place forever.

Usage: lock.py check|write [CAPNP]
check: fails if a schema and its lock differ. write: locks what was appended; refuses if anything
that was locked has changed or gone. CAPNP is the schema compiler, `capnp` by default.
"""
import difflib
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent


def canonical(capnp: str, schema: pathlib.Path) -> str:
    return subprocess.run([capnp, "compile", "-ocapnp", f"--src-prefix={ROOT}", str(schema)],
                          check=True, capture_output=True, text=True).stdout


def facts(text: str) -> set[str]:
    """Every line with the names of the structs that it stands in. The size of a struct, which may
    grow, is a comment in its first line and left out; the place of a field is kept."""
    found, within = set(), []
    for line in text.splitlines():
        line = line.strip()
        if line == "}":
            within.pop()
            continue
        opens = re.match(r"(.*\{)(\s*#.*)?$", line)
        fact = opens.group(1) if opens else line
        found.add(" ".join(within + [fact]))
        if opens:
            within.append(fact)
    return found


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in ("check", "write"):
        print(__doc__, file=sys.stderr)
        return 2
    capnp = sys.argv[2] if len(sys.argv) > 2 else "capnp"
    schemas = sorted(ROOT.glob("*.capnp"))
    problems = [f"lock/{path.name}: there is no such schema" for path in ROOT.glob("lock/*.txt")
                if not (ROOT / f"{path.stem}.capnp").exists()]
    for schema in schemas:
        path = ROOT / "lock" / f"{schema.stem}.txt"
        now = canonical(capnp, schema)
        locked = path.read_text() if path.exists() else ""
        gone = sorted(facts(locked) - facts(now))
        problems += [f"{schema.name}: changed or gone, but it was locked: {fact}" for fact in gone]
        if now == locked or gone:
            continue
        if sys.argv[1] == "write":
            path.parent.mkdir(exist_ok=True)
            path.write_text(now)
            print(f"locked {schema.name}")
        else:
            diff = difflib.unified_diff(locked.splitlines(), now.splitlines(), str(path),
                                        schema.name, lineterm="", n=1)
            problems += [f"{schema.name}: not locked yet; run schemas/lock.py write", *diff]
    print("\n".join(problems) or f"{len(schemas)} schemas are as they were locked")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
