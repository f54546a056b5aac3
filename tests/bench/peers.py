#!/usr/bin/env python3
"""How fast Conclave runs a model, row by row, and beside llama.cpp if that is there: the sides take turns
round by round, so that a slow minute of the machine counts for both. Medians and their ratios.

Usage: peers.py CONCLAVE MODEL [--tiny MODEL] [--rows decode,prefill,..] [--rounds 3] [--threads N]
                [--llama-bin PREFIX [--llama-models FOLDER]] [-o table|json]

PREFIX is what a llama.cpp tool's name is put behind: "" if they are in PATH, or "chroot DIR".
FOLDER is where such a tool sees the folder of MODEL, if that is elsewhere; servers of both sides listen
on loopback. One client, `conclave bench serve`, drives them both.
"""
import argparse
import contextlib
import dataclasses
import http.client
import itertools
import json
import os
import pathlib
import select
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from stack import Stack  # noqa: E402

READY_SECONDS = 300
# A run of prompts that is ended when what it disturbs is over.
ENDLESS_SECONDS = 3600


def output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


class Client:
    """`conclave bench serve`. Every run has prompts that no server has seen."""

    def __init__(self, conclave: str, vocab: int):
        self.command = [conclave, "bench", "serve", "-o", "json", "--vocab", str(vocab)]
        self.seeds = itertools.count(int(time.time()) % 1_000_000 * 1000)

    def arguments(self, url: str, prompt: int, new: int, connections: int, **more) -> list[str]:
        more.setdefault("seed", next(self.seeds))
        options = [f"--{key.replace('_', '-')}={value}" for key, value in more.items()]
        return [*self.command, url, f"--prompt-tokens={prompt}", f"--new-tokens={new}",
                f"--concurrency={connections}", *options]

    def run(self, *arguments, **more) -> dict:
        return json.loads(output(self.arguments(*arguments, **more)))["levels"][0]

    @contextlib.contextmanager
    def background(self, *arguments) -> Iterator[None]:
        command = self.arguments(*arguments, duration=ENDLESS_SECONDS)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as process:
            try:
                yield
                if process.poll() is not None:
                    sys.exit(f"{shlex.join(command)}: ended by itself")
            finally:
                process.send_signal(signal.SIGINT)


class Conclave:
    name = "conclave"

    def __init__(self, program: str, threads: int):
        self.program, self.threads = program, threads

    def speed(self, model: str, prompt: int, new: int) -> float:
        """Tokens a second of one prompt, or of decoding one sequence."""
        command = [self.program, "bench", "-m", model, "--prompt", str(prompt), "--generate", str(new),
                   "--parallel", "0", "--repetitions", "1", "--threads", str(self.threads)]
        test, = json.loads(output([*command, "-o", "json"]))["models"][0]["tests"]
        self.share = f"{100 * test['of_limit']:.0f} % of {test['limit']}"
        return test["tokens_per_s"]["median"]

    @contextlib.contextmanager
    def server(self, model: str, parallel: int, tokens: int, _: bool = False) -> Iterator[str]:
        isa = os.environ.get("CONCLAVE_ISA")
        room = max(parallel * (tokens + 16), 65536)
        with Stack(self.program, "serve", model, "--threads", str(self.threads),
                   "--batch.kv-tokens-max", str(room), *(["--isa", isa] if isa else [])) as stack:
            yield stack.url

    @contextlib.contextmanager
    def up(self, model: str) -> Iterator[str]:
        with Stack(self.program, "up", "-m", model, "--workers", "2") as stack:
            yield stack.url


class Llama:
    name = "llama.cpp"

    def __init__(self, prefix: str, models: str, threads: int):
        self.prefix, self.models, self.threads = shlex.split(prefix), models, threads

    def model(self, path: str) -> str:
        return str(pathlib.PurePosixPath(self.models) / pathlib.Path(path).name) if self.models else path

    def speed(self, model: str, prompt: int, new: int) -> float:
        text = output([*self.prefix, "llama-bench", "-m", self.model(model), "-p", str(prompt), "-n",
                       str(new), "-r", "1", "-t", str(self.threads), "-o", "json"])
        test, = json.loads(text[text.index("["):text.rindex("]") + 1])
        return test["avg_ts"]

    @contextlib.contextmanager
    def server(self, model: str, parallel: int, tokens: int, reuse: bool = False) -> Iterator[str]:
        """`reuse`: prompts come again. Where none does, looking for them costs it a third."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        # A slot's share of the context is a multiple of 256.
        context = parallel * -(-(tokens + 64) // 256) * 256
        command = [*self.prefix, "llama-server", "-m", self.model(model), "--host", "127.0.0.1",
                   "--port", str(port), "-t", str(self.threads), "-np", str(parallel), "-c",
                   str(context), "--no-webui"]
        if not reuse:
            command += ["--no-cache-prompt", "--cache-ram", "0"]
        with tempfile.TemporaryFile() as log, \
                subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                self.wait_ready(process, port, log)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()

    @staticmethod
    def wait_ready(process: subprocess.Popen, port: int, log) -> None:
        end = time.monotonic() + READY_SECONDS
        pause = select.poll()  # waits without a busy loop; nothing is registered
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(
                    http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            pause.poll(100)
        log.seek(0)
        sys.exit(f"llama-server is not ready:\n{log.read()[-2000:].decode(errors='replace')}")


@dataclasses.dataclass
class Row:
    """One line of the table. `measure` makes one value of one side, again each round."""
    title: str
    unit: str
    goal: str            # of the ratio to llama.cpp, or of the value itself
    measure: Callable    # (side, what `prepare` made) -> float
    prepare: Callable = lambda side: contextlib.nullcontext()
    against_peer: bool = True  # False: the value is a ratio already, of the side to itself
    ours_only: bool = False


class Table:
    def __init__(self, options: argparse.Namespace):
        self.model, self.tiny = options.model, options.tiny or options.model
        about = self.inspect(options.conclave, self.model)
        small = self.inspect(options.conclave, self.tiny)
        self.client = Client(options.conclave, about["vocab"])
        self.tiny_client = Client(options.conclave, small["vocab"])
        context = about["context_length"]
        self.long = min(8192, context - 128)
        self.cold = min(2048, context - 64)
        self.prompt = min(512, context // 2)
        self.output = min(400, context - 128)  # tokens whose gaps are measured
        self.each = min(128, context // 4)  # tokens of a prompt, and of an output

    @staticmethod
    def inspect(conclave: str, model: str) -> dict:
        return json.loads(output([conclave, "inspect", model, "-o", "json"]))

    def rows(self) -> dict[str, Row]:
        return {
            "decode": Row("decoding, 1 sequence", "tokens/s", ">= 1.4",
                          lambda side, _: side.speed(self.model, 0, 128)),
            "prefill": Row(f"a prompt of {self.prompt}", "tokens/s", ">= 3.0",
                           lambda side, _: side.speed(self.model, self.prompt, 0)),
            "server8": self.parallel(8, ">= 3.0"),
            "server32": self.parallel(32, ">= 4.5"),
            "requests": Row(
                "tiny model, 1 token a request, 32 connections", "requests/s", ">= 2.0",
                self.requests, lambda side: side.server(self.tiny, 32, 64)),
            "gap": Row(
                f"p99 gap of 4 streams: with prompts of {self.long} / without", "x", "<= 2.0",
                self.gap, lambda side: side.server(self.model, 5, self.long + 1),
                against_peer=False),
            "prefix": Row(
                f"first token of a prompt of {self.cold}: cold / again", "x", ">= 10",
                self.prefix, lambda side: side.server(self.model, 2, self.cold + 1, True),
                against_peer=False),
            "up": Row("16 parallel: up --workers 2 / serve", "x", ">= 0.90", self.up, self.both,
                      against_peer=False, ours_only=True),
        }

    def parallel(self, connections: int, goal: str) -> Row:
        def measure(_, url: str) -> float:
            return self.throughput(url, connections)
        return Row(f"server, {connections} parallel, {self.each} in, {self.each} out", "tokens/s", goal,
                   measure, lambda side: side.server(self.model, connections, 2 * self.each))

    def throughput(self, url: str, connections: int) -> float:
        level = self.client.run(url, self.each, self.each, connections, requests=2 * connections)
        return level["output_tokens_per_s"]

    def requests(self, _, url: str) -> float:
        done = output([*self.tiny_client.arguments(url, 16, 1, 32, requests=4000), "--no-stream"])
        return json.loads(done)["levels"][0]["requests_per_s"]

    def gap(self, side, url: str) -> float:
        def p99() -> float:
            return self.client.run(url, 64, self.output, 4, requests=4)["itl_ms"]["p99"]
        alone = p99()
        with self.client.background(url, self.long, 1, 1):
            beside = p99()
        self.client.run(url, 4, 1, 1, requests=1)  # what was under way has ended
        side.share = f"{alone:.0f} -> {beside:.0f} ms"
        return beside / alone

    def prefix(self, side, url: str) -> float:
        seed = next(self.client.seeds)
        cold, again = (self.client.run(url, self.cold, 1, 1, requests=1, seed=seed)["ttft_ms"]["p50"]
                       for _ in range(2))
        side.share = f"{cold:.0f} -> {again:.1f} ms"
        return cold / again

    @contextlib.contextmanager
    def both(self, side) -> Iterator[tuple[str, str]]:
        with side.server(self.model, 16, 2 * self.each) as serve, side.up(self.model) as up:
            yield serve, up

    def up(self, _, urls: tuple[str, str]) -> float:
        serve, up = (self.throughput(url, 16) for url in urls)
        return up / serve


def measure(name: str, row: Row, sides: list, rounds: int) -> dict[str, list[float]]:
    """The values of each side; the first round of servers finds cold caches and does not count."""
    values: dict[str, list[float]] = {side.name: [] for side in sides}
    with contextlib.ExitStack() as open_servers:
        made = [open_servers.enter_context(row.prepare(side)) for side in sides]
        for round_ in range(rounds + 1):
            for side, server in zip(sides, made):
                side.share = ""
                value = row.measure(side, server)
                print(f"{name} {round_ or 'warm-up'}: {side.name} {value:.2f} {row.unit} {side.share}",
                      file=sys.stderr, flush=True)
                if round_ > 0:
                    values[side.name].append(value)
    return values


def report(row: Row, sides: list, values: dict[str, list[float]]) -> dict:
    result = {"title": row.title, "unit": row.unit, "goal": row.goal, "values": values,
              "medians": {name: statistics.median(v) for name, v in values.items()},
              "conclave_of": sides[0].share}
    if row.against_peer and len(sides) > 1:
        # Of neighbours in time.
        result["ratio"] = statistics.median(
            a / b for a, b in zip(values[sides[0].name], values[sides[1].name]))
    return result


def print_table(results: dict[str, dict]) -> None:
    print(f"{'row':9} {'what':58} {'conclave':>10} {'llama.cpp':>10} {'ratio':>6}  {'goal':7} last round")
    for name, result in results.items():
        medians = result["medians"]
        peer = f"{medians['llama.cpp']:.2f}" if "llama.cpp" in medians else "-"
        ratio = f"{result['ratio']:.2f}" if "ratio" in result else "-"
        what = f"{result['title']}, {result['unit']}"
        print(f"{name:9} {what:58} {medians['conclave']:10.2f} {peer:>10} {ratio:>6}  "
              f"{result['goal']:7} {result['conclave_of']}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("conclave")
    parser.add_argument("model")
    parser.add_argument("--tiny", help="the model of the row `requests` (default: MODEL)")
    parser.add_argument("--rows", default="all", help="names, with commas between them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--llama-bin", help="what the names of llama.cpp's tools are put behind")
    parser.add_argument("--llama-models", default="", help="where those tools see MODEL's folder")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args()
    table = Table(options)
    rows = table.rows()
    names = list(rows) if options.rows == "all" else options.rows.split(",")
    if unknown := [name for name in names if name not in rows]:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(rows)}")
    if options.rounds < 1:
        parser.error("--rounds is at least 1")
    ours = Conclave(options.conclave, options.threads)
    peers = [] if options.llama_bin is None else [
        Llama(options.llama_bin, options.llama_models, options.threads)]
    results = {}
    for name in names:
        row = rows[name]
        sides = [ours] if row.ours_only else [ours, *peers]
        results[name] = report(row, sides, measure(name, row, sides, options.rounds))
    if options.output == "json":
        print(json.dumps({"model": options.model, "threads": options.threads,
                          "rounds": options.rounds, "rows": results}))
    else:
        print_table(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
