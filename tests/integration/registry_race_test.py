#!/usr/bin/env python3
"""Two registries on one database, each behind a gateway of its own, race over the same records: every
move of an alias that was acknowledged happened after the one it was made on, none is lost, and the same
bytes are one version however often and by whomever they were registered.

Usage: registry_race_test.py CONCLAVE MODEL [MOVES]
"""
import concurrent.futures
import pathlib
import sys
import tempfile

from registry_stack import Admin, Service, admin_of, free_port, variant
from stack import Stack, wait_for

FILES = 40
THREADS = 4  # of each registry


def second_gateway(conclave: str, stack: Stack) -> Service:
    """A gateway that asks the second registry alone."""
    state = pathlib.Path(stack.state.name)
    registry = pathlib.Path(f"/proc/{stack.pids()['registry-2']}/cmdline").read_bytes().split(b"\0")
    address = registry[registry.index(b"--registry.listen") + 1].decode()
    return Service(pathlib.Path(conclave).parent / "conclave-gateway", "gateway-2", str(state / "keys"),
                   state / "gateway-2.log", "--gateway.registry", address, "--gateway.port",
                   str(free_port()))


def port_of(service: Service) -> int:
    return int(service.command[service.command.index("--gateway.port") + 1])


def move(admin: Admin, alias: str, versions: list[int], moves: int) -> list[tuple[int, int]]:
    """Moves the alias so many times, each from where it is seen to the next version; (from, to) of
    those that were acknowledged. Who was too late looks again."""
    done = []
    at = admin.get(f"/models/tiny/aliases/{alias}")["version"]
    while len(done) < moves:
        to = versions[(versions.index(at) + 1) % len(versions)]
        status, body, _ = admin.call("PUT", f"/models/tiny/aliases/{alias}",
                                     {"version": to, "if_version": at})
        assert status in (200, 412), (status, body)
        if status == 200:
            done.append((at, to))
        at = admin.get(f"/models/tiny/aliases/{alias}")["version"]
    return done


def race_moves(admins: list[Admin], moves: int) -> None:
    versions = [v["version"] for v in admins[0].list("/models/tiny/versions")]
    assert admins[0].call("PUT", "/models/tiny/aliases/race",
                          {"version": versions[0], "if_version": 0})[0] == 200
    movers = admins * THREADS
    with concurrent.futures.ThreadPoolExecutor(len(movers)) as pool:
        each = moves // len(movers)
        done = list(pool.map(lambda admin: move(admin, "race", versions, each), movers))
    acknowledged = sorted(step for steps in done for step in steps)
    records = [r for r in admins[0].list("/audit?action=alias.move&subject=tiny@race")
               if r["before"] is not None]
    history = [(r["before"]["version"], r["after"]["version"]) for r in records]
    for (_, to), (at, _) in zip(history, history[1:]):
        assert to == at, f"a move was made on {at} after one to {to}"
    assert sorted(history) == acknowledged, "what was acknowledged is not what happened"
    last = history[-1][1]
    for admin in admins:
        wait_for("both see the last move",
                 lambda a=admin: a.get("/models/tiny/aliases/race")["version"] == last)
    print(f"{len(history)} moves by two registries, each made on the one before it")


def race_registrations(admins: list[Admin], folder: pathlib.Path) -> None:
    """Every file is registered by both at about the same time, and again."""
    files = [str(variant(i, folder / f"{i}.gguf")) for i in range(FILES)]
    jobs = [(admin, file) for file in files for admin in admins] * 2
    with concurrent.futures.ThreadPoolExecutor(2 * THREADS) as pool:
        made = list(pool.map(lambda job: (job[1], job[0].register("tiny", job[1])), jobs))
    numbers: dict[str, set[int]] = {}
    for file, version in made:
        numbers.setdefault(file, set()).add(version["version"])
    assert all(len(found) == 1 for found in numbers.values()), numbers
    versions = admins[0].list("/models/tiny/versions")
    assert versions == admins[1].list("/models/tiny/versions")
    sums = [v["sha256"] for v in versions]
    assert len(sums) == len(set(sums)) == FILES, (len(sums), len(set(sums)))
    assert sorted(v["version"] for v in versions) == list(range(1, FILES + 1)), "numbers have no gaps"
    print(f"{len(jobs)} registrations of {FILES} files by two registries: {len(versions)} versions")


def main() -> int:
    conclave, model = sys.argv[1:3]
    moves = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
    with Stack(conclave, "up", "-m", model, "--workers", "1", "--postgres", "--registries", "2") as stack:
        with second_gateway(conclave, stack) as gateway, tempfile.TemporaryDirectory() as folder:
            first = admin_of(stack)
            admins = [first, Admin(port_of(gateway), first.key)]

            def answers() -> bool:
                try:
                    return admins[1].call("GET", "/models")[0] == 200
                except OSError:
                    return False
            wait_for("the second gateway has its registry", answers)
            race_registrations(admins, pathlib.Path(folder))
            race_moves(admins, moves)
            check = first.verify_audit()
            assert check["ok"], check
    return 0


if __name__ == "__main__":
    sys.exit(main())
