"""A Docker engine for the tests of this folder, with the images that cannot be pulled everywhere. Uses
the engine that runs; where none does and we are root, starts one and ends it again. Standard library only."""
import contextlib
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DEBIAN = "debian:bookworm-slim"
# Public images that compose/ names, and the folder of images/ that stands in for each; and what tests alone use.
STAND_INS = {"postgres:15-bookworm": "postgres", "redis:7.0.15-bookworm": "redis", "prom/prometheus:v2.42.0": "prometheus",
             "prom/alertmanager:v0.25.0": "alertmanager", "conclave-test/origin:1": "origin"}


def run(*command: str, check: bool = True, capture: bool = False, to=None, **more) -> str:
    """Runs a command; its standard output if captured, or into the file `to`. Says what failed, with the end of its
    output."""
    print("+", " ".join(command), file=sys.stderr, flush=True)
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE if capture else to or sys.stderr,
                          stderr=subprocess.PIPE if capture else None, **more)
    if check and done.returncode != 0:
        said = (done.stdout or "") + (done.stderr or "")
        raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}\n{said[-8000:]}")
    return done.stdout or ""


def wait_for(what: str, probe, seconds: float):
    """The first true answer of `probe`, asked again and again until `seconds` are over."""
    end = time.monotonic() + seconds
    pause = select.poll()  # waits without a busy loop; nothing is registered
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() >= end:
            raise AssertionError(f"{what}: not within {seconds} s")
        pause.poll(200)


def answers() -> bool:
    return subprocess.run(["docker", "info"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0


@contextlib.contextmanager
def engine():
    """An engine that answers, for as long as the block runs."""
    if answers():
        yield
        return
    if os.geteuid() != 0 or not shutil.which("dockerd"):
        raise AssertionError("no Docker engine answers, and none can be started: it takes root and the package docker.io")
    with tempfile.TemporaryFile() as log:
        daemon = subprocess.Popen(["dockerd"], stdout=log, stderr=log)
        try:
            wait_for("dockerd", lambda: daemon.poll() is not None or answers(), 60)
            if daemon.poll() is not None:
                log.seek(0)
                raise AssertionError(f"dockerd ended:\n{log.read().decode(errors='replace')[-4000:]}")
            yield
        finally:
            daemon.terminate()
            daemon.wait()


def has_image(name: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", name], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0


def ensure_debian() -> None:
    """The base image: pulled, or else made of Debian's own packages."""
    if has_image(DEBIAN) or subprocess.run(["docker", "pull", "-q", DEBIAN], stdout=subprocess.DEVNULL,
                                           stderr=subprocess.DEVNULL, timeout=120).returncode == 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        run("debootstrap", "--variant=minbase", "bookworm", folder)
        # What the public image leaves out, too.
        for left_out in ("var/cache/apt", "var/lib/apt/lists", "usr/share/man", "usr/share/locale", "usr/share/info"):
            for path in (pathlib.Path(folder) / left_out).glob("*"):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        archive = subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE)
        run("docker", "import", "-", DEBIAN, stdin=archive.stdout)
        if archive.wait() != 0:
            raise AssertionError("tar of the base system failed")


def ensure_images() -> None:
    """Everything that compose/ does not build itself."""
    ensure_debian()
    for name, folder in STAND_INS.items():
        if not has_image(name):
            run("docker", "build", "-q", "-t", name, str(HERE / "images" / folder))
