#!/usr/bin/env python3
"""The `conclave` command as a user meets it: output, errors, exit codes.

Usage: command_test.py CONCLAVE SOURCE_DIR [unittest arguments]
"""
import contextlib
import fcntl
import json
import os
import pathlib
import pty
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest

from openai_server import OpenAiServer, event, piece, says

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from stack import Stack  # noqa: E402

CONCLAVE = ""
SOURCE = pathlib.Path()


def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if not k.startswith("CONCLAVE_")} | environment
    return subprocess.run([CONCLAVE, *arguments], input=stdin, capture_output=True, text=True,
                          env=env, timeout=120, check=False)


def golden(name: str) -> tuple[str, dict]:
    folder = SOURCE / "tests/golden/models"
    document = json.loads((folder / f"{name}.json").read_text())
    return str(folder / document["model"]), document


class CommandCase(unittest.TestCase):
    def ok(self, *arguments: str, **kwargs: str) -> str:
        done = run(*arguments, **kwargs)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def ok_json(self, *arguments: str, **kwargs: str) -> dict:
        return json.loads(self.ok(*arguments, "-o", "json", **kwargs))

    def fails(self, code: int, *arguments: str, says: str, **kwargs: str) -> None:
        done = run(*arguments, **kwargs)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertIn(says, done.stderr + done.stdout)


class Inspect(CommandCase):
    def test_json_has_the_sizes_of_the_model(self) -> None:
        model, _ = golden("qwen3moe-q8_0")
        report = self.ok_json("inspect", model)
        self.assertEqual(report["architecture"], "qwen3moe")
        self.assertEqual(report["file_bytes"], os.path.getsize(model))
        experts = report["experts"]
        layers = report["layers"] - report["dense_layers"]
        self.assertEqual(experts["bytes"],
                         layers * experts["per_layer"] * experts["bytes_each_max"])
        self.assertIn("Q8_0", report["block_types"])
        tensor_bytes = sum(t["bytes"] for t in report["block_types"].values())
        self.assertEqual(report["backbone_bytes"] + experts["bytes"], tensor_bytes)

    def test_table_names_what_people_look_for(self) -> None:
        model, _ = golden("deepseek2-v3-f32")
        table = self.ok("inspect", model)
        for word in ("deepseek2", "experts a layer", "bytes per expert", "F32"):
            self.assertIn(word, table)

    def test_a_split_model_counts_its_parts(self) -> None:
        model, _ = golden("qwen3moe-split-f32")
        self.assertEqual(self.ok_json("inspect", model)["parts"], 2)

    def test_bad_files_are_runtime_errors_that_say_why(self) -> None:
        self.fails(1, "inspect", "/no/such/file.gguf", says="not_found")
        self.fails(1, "inspect", str(SOURCE), says="not a regular file")
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"this is not a model")
            file.flush()
            self.fails(1, "inspect", file.name, says="corrupt_data")
            model, _ = golden("qwen3moe-f32")
            file.seek(0)
            file.truncate()
            file.write(pathlib.Path(model).read_bytes()[:-100])
            file.flush()
            self.fails(1, "inspect", file.name, says="corrupt_data")


class Tokenize(CommandCase):
    def test_ids_equal_the_reference(self) -> None:
        model, document = golden("llama-f32")
        for prompt in document["prompts"]:
            if not prompt.get("prompt"):
                continue
            report = self.ok_json("tokenize", "-m", model, "--parse-special", prompt["prompt"])
            self.assertEqual(report["tokens"], prompt["tokens"])

    def test_reads_standard_input_and_prints_ids(self) -> None:
        model, document = golden("qwen3moe-f32")
        prompt = next(p for p in document["prompts"] if p.get("prompt"))
        printed = self.ok("tokenize", "-m", model, "-", stdin=prompt["prompt"])
        self.assertEqual([int(word) for word in printed.split()], prompt["tokens"])

    def test_special_tokens_are_literal_unless_asked(self) -> None:
        model = str(SOURCE / "models/demo/conclave-demo.gguf")
        literal = self.ok_json("tokenize", "-m", model, "<|im_end|>")["tokens"]
        parsed = self.ok_json("tokenize", "-m", model, "--parse-special", "<|im_end|>")
        self.assertGreater(len(literal), 1)
        self.assertEqual(parsed["pieces"], ["<|im_end|>"])


class Generate(CommandCase):
    def test_greedy_tokens_equal_the_reference(self) -> None:
        for name in ("qwen3moe-f32", "gpt-oss-f32", "deepseek2-v3-f32", "llama-f32", "olmoe-f32",
                     "qwen2moe-f32", "qwen3moe-split-f32"):
            model, document = golden(name)
            prompt = next(p for p in document["prompts"] if p.get("prompt"))
            report = self.ok_json("generate", "-m", model, "-p", prompt["prompt"], "-n", "16",
                                  "--ignore-eos", "--top-logprobs", "3", "--kv-type", "f32")
            self.assertEqual(report["prompt_tokens"], prompt["tokens"], name)
            self.assertEqual(report["tokens"], prompt["generated"], name)
            for step, listed in zip(prompt["steps"], report["top_logprobs"], strict=True):
                self.assertEqual(len(listed), 3)
                for (token, _, logprob), entry in zip(step["top"], listed):
                    self.assertEqual(entry["id"], token)
                    self.assertAlmostEqual(entry["logprob"], logprob, places=3)

    def test_the_same_seed_gives_the_same_bytes_on_every_instruction_set(self) -> None:
        model, document = golden("qwen3moe-q4_k")
        prompt = next(p for p in document["prompts"] if p.get("prompt"))["prompt"]
        arguments = ("generate", "-m", model, "-p", prompt, "-n", "24", "--ignore-eos",
                     "--temperature", "1.2", "--top-p", "0.95", "--seed", "7")
        reports = []
        for isa in ("scalar", "avx2", "avx512", "amx"):
            for threads in ("1", "2"):
                done = run(*arguments, "-o", "json", CONCLAVE_ISA=isa, CONCLAVE_THREADS=threads)
                if done.returncode == 1 and "unavailable" in done.stderr:
                    continue  # this machine lacks the instructions
                self.assertEqual(done.returncode, 0, done.stderr)
                report = json.loads(done.stdout)
                reports.append((report["tokens"], report["text"]))
        self.assertGreaterEqual(len(reports), 2)
        self.assertEqual(len({str(r) for r in reports}), 1)
        other = self.ok_json(*arguments[:-1], "8")
        self.assertNotEqual(other["tokens"], reports[0][0])

    def test_chat_answers_with_the_demo_model(self) -> None:
        model = str(SOURCE / "models/demo/conclave-demo.gguf")
        report = self.ok_json("generate", "-m", model, "--chat", "-p", "What is 47 + 385?",
                              "-n", "32")
        self.assertEqual(report["text"].strip(), "432")
        self.assertEqual(report["finish_reason"], "stop")
        self.assertEqual(self.ok("generate", "-m", model, "--chat", "-p", "What is 47 + 385?",
                                 "-n", "32").strip(), "432")
        self.assertEqual(self.ok("generate", model, "What is 47 + 385?", "--chat").strip(), "432")
        self.assertEqual(self.ok("generate", "-m", model, "--chat", "What is 47 + 385?").strip(),
                         "432")

    def test_sampling_parameters_and_stops_act(self) -> None:
        model = str(SOURCE / "models/demo/conclave-demo.gguf")
        ask = ("generate", "-m", model, "--chat", "-p", "What is 47 + 385?", "-n", "32")
        plain = self.ok_json(*ask, "--logprobs")
        self.assertEqual(len(plain["logprobs"]), len(plain["tokens"]))
        self.assertTrue(all(value <= 0 for value in plain["logprobs"]))
        self.assertNotIn("top_logprobs", plain)
        stopped = self.ok_json(*ask, "--stop", "no such text", "--stop", "32")
        self.assertEqual((stopped["text"], stopped["finish_reason"]), ("4", "stop"))
        longer = self.ok_json(*ask, "--min-tokens", "12")
        self.assertGreaterEqual(len(longer["tokens"]), 12)
        self.assertEqual(longer["tokens"][:3], plain["tokens"][:3])
        other = self.ok_json(*ask[:-1], "12", "--ignore-eos", "--repetition-penalty", "5",
                             "--presence-penalty", "2", "--frequency-penalty", "2")
        self.assertEqual(len(set(other["tokens"])), 12)

    def test_bad_requests_are_refused_with_their_reason(self) -> None:
        model, _ = golden("qwen3moe-f32")
        self.fails(1, "generate", "-m", model, "-p", "", says="no tokens")
        self.fails(1, "generate", "-m", model, "-p", "hello", "-n", "1000000", says="context")
        self.fails(1, "generate", "-m", model, "-p", "hello", "--isa", "sse9", says="sse9")
        self.fails(2, "generate", "-m", model, "-p", "hello", "--temperature", "-1",
                   says="temperature")
        self.fails(2, "generate", "-m", model, "-p", "hello", "--top-p", "1.5", says="top-p")
        self.fails(2, "generate", "-m", model, "-p", "hello", "--top-p", "0", says="top-p")
        self.fails(2, "generate", "-m", model, "-p", "hello", "--seed", "-1", says="seed")
        self.fails(2, "generate", "-m", model, "-p", "hello", "--presence-penalty", "3",
                   says="presence-penalty")
        self.fails(2, "generate", "-m", model, "-p", "hello", "--repetition-penalty", "0",
                   says="repetition-penalty")
        self.fails(1, "generate", "-m", model, "-p", "hello", "-n", "4", "--min-tokens", "5",
                   says="min-tokens")
        self.fails(1, "generate", "-m", model, "-p", "hello", "--stop", "", says="stop string")
        self.fails(2, "generate", "-m", model, says="--prompt")


class Bench(CommandCase):
    def test_a_model_gets_its_speeds_and_the_limits_of_the_machine(self) -> None:
        model, _ = golden("qwen3moe-q8_0")
        report = self.ok_json("bench", "-m", model, "--prompt", "12", "--generate", "6",
                              "--parallel", "1,3", "--repetitions", "2", "--threads", "1")
        self.assertEqual(report["settings"]["threads"], 1)
        self.assertGreater(report["limits"]["memory_gb_per_s"]["median"], 0)
        self.assertGreater(report["limits"]["int8_gop_per_s"]["median"], 0)
        tests = {(t["test"], t["parallel"]): t for t in report["models"][0]["tests"]}
        self.assertEqual(list(tests), [
            ("pp12", 1), ("tg6", 1), ("batch pp", 1), ("batch tg", 1), ("batch total", 1),
            ("batch pp", 3), ("batch tg", 3), ("batch total", 3)])
        for name, test in tests.items():
            speed = test["tokens_per_s"]
            self.assertEqual(len(speed["samples"]), 2, name)
            self.assertGreater(speed["min"], 0, name)
            self.assertLessEqual(speed["min"], speed["median"], name)
            self.assertLessEqual(speed["median"], speed["max"], name)
        self.assertEqual(tests["tg6", 1]["limit"], "memory")
        self.assertEqual(tests["pp12", 1]["limit"], "int8")
        self.assertGreater(tests["tg6", 1]["of_limit"], 0)

    def test_models_take_turns_and_tests_can_be_left_out(self) -> None:
        models = [golden(name)[0] for name in ("qwen3moe-q8_0", "gpt-oss-mxfp4")]
        report = self.ok_json("bench", "-m", models[0], "-m", models[1], "--prompt", "0",
                              "--generate", "4", "--parallel", "0", "--repetitions", "1")
        self.assertEqual([m["model"] for m in report["models"]], models)
        for model in report["models"]:
            self.assertEqual([t["test"] for t in model["tests"]], ["tg4"])
        table = self.ok("bench", "-m", models[0], "--prompt", "4", "--generate", "0",
                        "--parallel", "0", "--repetitions", "1")
        self.assertRegex(table, r"pp4 +1 +[0-9.]+ .* % of int8")

    def test_wrong_settings_are_refused(self) -> None:
        model, _ = golden("qwen3moe-q8_0")
        self.fails(2, "bench", says="--model")
        self.fails(2, "bench", "-m", model, "--repetitions", "0", says="repetitions")
        self.fails(2, "bench", "-m", model, "--parallel", "1,x", says="parallel")
        self.fails(1, "bench", "-m", "/no/such/file", says="not_found")
        self.fails(1, "bench", "-m", model, "--prompt", "100000", says="context")


def completes(*texts: str, usage: dict | None = None):
    """A script that answers a streamed completion with `texts`, a piece each."""
    def script(_, write) -> None:
        for text in texts:
            write(event({"choices": [{"index": 0, "text": text, "finish_reason": None}]}))
        write(event({"choices": [{"index": 0, "text": "", "finish_reason": "length"}]}))
        if usage:
            write(event({"choices": [], "usage": usage}))
        write(event("[DONE]"))
    return script


class BenchServe(CommandCase):
    QUICK = ("--concurrency", "2", "--requests", "6", "--prompt-tokens", "5", "--new-tokens", "3")

    def bench(self, server: OpenAiServer, *arguments: str) -> subprocess.CompletedProcess:
        return run("bench", "serve", server.url, *arguments, "-o", "json")

    def test_it_counts_what_the_server_did(self) -> None:
        usage = {"prompt_tokens": 5, "completion_tokens": 3,
                 "prompt_tokens_details": {"cached_tokens": 4}}
        with OpenAiServer(completes("a", "b", "c", usage=usage)) as server:
            done = self.bench(server, *self.QUICK, "--slo-ttft", "60000", "--slo-itl", "60000",
                              "--api-key", "secret", "--prefix-share", "0.8")
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual(report["model"], "first")
        self.assertEqual(report["settings"]["slo_ttft_ms"], 60000)
        level, = report["levels"]
        self.assertEqual((level["concurrency"], level["completed"], level["failed"]), (2, 6, 0))
        self.assertEqual((level["prompt_tokens"], level["output_tokens"], level["cached_tokens"]),
                         (30, 18, 24))
        self.assertAlmostEqual(level["requests_per_s"], 6 / level["seconds"])
        self.assertAlmostEqual(level["good_requests_per_s"], level["requests_per_s"])
        for name in ("ttft_ms", "itl_ms", "e2e_ms"):
            self.assertLessEqual(level[name]["p50"], level[name]["p99"], name)
        self.assertEqual(level["errors"], {})
        bodies = server.bodies[1:]  # the first one is a trial
        self.assertEqual(len(bodies), 6)
        for body in bodies:
            self.assertEqual((body["model"], body["max_tokens"], body["stream"]),
                             ("first", 3, True))
            self.assertTrue(body["ignore_eos"])
            self.assertEqual(len(body["prompt"]), 5)
            self.assertEqual(body["prompt"][:4], bodies[0]["prompt"][:4])
        self.assertGreater(len({body["prompt"][4] for body in bodies}), 1)
        self.assertEqual({h["Authorization"] for h in server.headers}, {"Bearer secret"})

    def test_rates_texts_and_chats(self) -> None:
        with OpenAiServer(says("yes", "no")) as server:
            done = self.bench(server, "--rate", "50,100", "--requests", "5", "--input", "chat",
                              "--prompt-tokens", "4", "--model", "mine")
        self.assertEqual(done.returncode, 0, done.stderr)
        levels = json.loads(done.stdout)["levels"]
        self.assertEqual([(x["rate"], x["completed"], x["output_tokens"]) for x in levels],
                         [(50, 5, 10), (100, 5, 10)])
        self.assertEqual(len(server.bodies), 11)
        asked = {body["messages"][0]["content"] for body in server.bodies[1:]}
        self.assertEqual(len(asked), 10)  # no prompt comes twice
        with OpenAiServer(completes("a")) as server:
            table = self.ok("bench", "serve", server.url, *self.QUICK, "--input", "text")
        self.assertRegex(table, r"\n +2 +6 +0 ")
        self.assertIn("first token", table)
        self.assertIsInstance(server.bodies[1]["prompt"], str)

    def test_a_server_without_ignore_eos_is_asked_without(self) -> None:
        def picky(body, write) -> None:
            completes("a")(body, write)

        with OpenAiServer(picky, refuse="ignore_eos") as server:
            done = self.bench(server, *self.QUICK)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("does not know ignore_eos", done.stderr)
        self.assertFalse(json.loads(done.stdout)["settings"]["ignore_eos"])

    def test_failures_are_told_apart_and_make_it_fail(self) -> None:
        number = iter(range(100))

        def moody(body, write) -> None:
            which = next(number)
            if which == 2:
                write(event({"error": {"message": "no worker is left"}}))
            elif which == 3:
                write(event({"choices": [{"text": "half"}]}))
            else:
                completes("a")(body, write)

        with OpenAiServer(moody) as server:
            done = self.bench(server, *self.QUICK)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("2 requests failed", done.stderr)
        level, = json.loads(done.stdout)["levels"]
        self.assertEqual((level["completed"], level["failed"]), (4, 2))
        self.assertEqual(level["errors"], {
            "error in the stream": {"count": 1, "first": "no worker is left"},
            "broken answer": {"count": 1, "first": level["errors"]["broken answer"]["first"]}})

    def test_what_fails_at_once_is_said_at_once(self) -> None:
        with OpenAiServer(None, status=401) as server:
            done = self.bench(server, *self.QUICK)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn("the server is tired (status 401)", done.stderr)
            self.assertEqual(len(server.bodies), 1)
        with OpenAiServer(None, models=()) as server:
            self.assertIn("lists no model", self.bench(server).stderr)
            gone = server.url
        self.fails(1, "bench", "serve", gone, says="unavailable")
        self.fails(1, "bench", "serve", "nonsense://x", says="nonsense")
        self.fails(2, "bench", "serve", gone, "--rate", "1", "--concurrency", "1", says="rate")
        self.fails(2, "bench", "serve", gone, "--no-stream", "--slo-ttft", "5", says="slo-ttft")
        self.fails(2, "bench", "serve", gone, "--prefix-share", "1.5", says="prefix-share")
        self.fails(2, "bench", "serve", gone, "--concurrency", "0", says="concurrency")

    def test_an_interrupt_prints_what_was_measured(self) -> None:
        served = threading.Semaphore(0)

        def slow(body, write) -> None:
            completes("a")(body, write)
            served.release()

        with OpenAiServer(slow) as server, subprocess.Popen(
                [CONCLAVE, "bench", "serve", server.url, "--concurrency", "2", "--duration", "1000",
                 "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            for _ in range(6):
                self.assertTrue(served.acquire(timeout=60))
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, err)
        self.assertIn("interrupted", err)
        level, = json.loads(out)["levels"]
        self.assertGreaterEqual(level["completed"], 3)

    def test_conclave_itself_answers_all(self) -> None:
        demo = str(SOURCE / "models/demo/conclave-demo.gguf")
        with Stack(CONCLAVE, "serve", demo) as stack:
            report = self.ok_json("bench", "serve", stack.url, "--concurrency", "1,8",
                                  "--requests", "16", "--prompt-tokens", "20", "--new-tokens", "8")
            for level in report["levels"]:
                self.assertEqual((level["completed"], level["failed"]), (16, 0))
                self.assertEqual((level["prompt_tokens"], level["output_tokens"]), (320, 128))
            plain = self.ok_json("bench", "serve", stack.url, *self.QUICK, "--no-stream",
                                 "--input", "chat")
            self.assertEqual(plain["levels"][0]["output_tokens"], 18)
            self.assertNotIn("ttft_ms", plain["levels"][0])


class CommandLine(CommandCase):
    def test_usage_errors_are_two_and_help_is_zero(self) -> None:
        self.fails(2, says="subcommand")
        self.fails(2, "nonsense", says="subcommand")
        self.fails(2, "inspect", says="file")
        self.assertIn("generate", self.ok("--help"))
        self.assertRegex(self.ok("--version"), r"^\d+\.\d+\.\d+")

    def test_output_that_nobody_takes_is_an_error(self) -> None:
        model, _ = golden("qwen3moe-f32")
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([CONCLAVE, "inspect", model], stdout=full,
                                  stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("standard output", done.stderr)

    def test_a_settings_file_is_read_and_unknown_keys_refused(self) -> None:
        model, document = golden("qwen3moe-f32")
        prompt = next(p for p in document["prompts"] if p.get("prompt"))["prompt"]
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write("[generate]\nmax-tokens = 3\nignore-eos = true\n")
            file.flush()
            arguments = ("generate", "-m", model, "-p", prompt)
            report = self.ok_json("--config", file.name, *arguments)
            self.assertEqual(len(report["tokens"]), 3)
            report = self.ok_json("--config", file.name, *arguments, "-n", "2")
            self.assertEqual(len(report["tokens"]), 2)
            file.write("no-such-setting = 1\n")
            file.flush()
            self.fails(2, "--config", file.name, *arguments, says="no-such-setting")


class Eval(CommandCase):
    def test_the_demo_model_answers_its_held_out_questions(self) -> None:
        demo = SOURCE / "models/demo"
        report = self.ok_json("eval", "-m", str(demo / "conclave-demo.gguf"), "--set",
                              str(demo / "heldout.jsonl"), "--experts")
        self.assertGreaterEqual(report["asked"], 1000)
        self.assertGreaterEqual(len(report["kinds"]), 6)
        self.assertGreaterEqual(report["accuracy"], 0.97)
        self.assertEqual(set(report["favourite_experts"]), set(report["kinds"]))

    def test_a_broken_set_is_refused_by_line(self) -> None:
        model = str(SOURCE / "models/demo/conclave-demo.gguf")
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.write('{"kind":"a","question":"b","answer":"c"}\n{"kind":3}\n')
            file.flush()
            self.fails(1, "eval", "-m", model, "--set", file.name, says="line 2")
        self.fails(1, "eval", "-m", model, "--set", "/no/such/set", says="not_found")
        self.fails(1, "eval", "-m", model, "--set", "/dev/zero", says="not a regular file")
        self.fails(2, "eval", "-m", model, "--set", file.name, "--limit", "-1", says="limit")


class Keys(CommandCase):
    def test_keys_are_secret_and_stay(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            keys = pathlib.Path(folder) / "keys"
            printed = self.ok("keys", "fabric", "--out", str(keys)).split()
            self.assertEqual({pathlib.Path(name).name for name in printed},
                             {path.name for path in keys.iterdir()})
            for role in ("gateway", "router", "expert-worker", "scheduler", "registry", "operator"):
                secret = (keys / f"{role}.key").stat()
                self.assertEqual(stat.S_IMODE(secret.st_mode), 0o600, role)
                self.assertTrue((keys / f"{role}.pub").exists(), role)
            before = {path.name: path.read_bytes() for path in keys.iterdir()}
            self.assertIn("all keys", self.ok("keys", "fabric", "--out", str(keys)))
            self.assertEqual(before, {path.name: path.read_bytes() for path in keys.iterdir()})

    def test_what_cannot_be_written_is_said(self) -> None:
        self.fails(1, "keys", "fabric", "--out", "/proc/keys", says="/proc/keys")
        self.fails(2, "keys", says="subcommand")


class Up(CommandCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.state = pathlib.Path(folder.name) / "state"
        self.model = str(SOURCE / "models/demo/conclave-demo.gguf")

    def test_wrong_settings_are_usage_errors_before_anything_starts(self) -> None:
        up = ("up", self.model, "--state", str(self.state))
        self.fails(2, "up", says="model")
        self.fails(2, *up, "--workers", "0", says="workers")
        self.fails(2, *up, "--routers", "17", says="routers")
        self.fails(2, *up, "--port", "65536", says="port")
        self.fails(2, *up, "--host", "localhost", says="no IPv4 or IPv6 address")
        self.fails(2, *up, "--data-encryption", "rot13", says="data-encryption")
        self.fails(2, *up, "--set", "gateway.port", says="SECTION.KEY=VALUE")
        self.fails(2, *up, "--set", "worker.slots=1", says="SECTION.KEY=VALUE")
        self.assertFalse(self.state.exists())

    def test_a_model_that_cannot_be_served_is_refused_before_anything_starts(self) -> None:
        self.fails(1, "up", "/no/such.gguf", "--state", str(self.state), says="not_found: /no/such")
        self.fails(1, "up", __file__, "--state", str(self.state), says="corrupt_data")
        self.fails(1, "serve", "/no/such.gguf", says="not_found: /no/such")
        self.assertFalse(self.state.exists())

    def test_a_port_that_is_taken_is_said_at_once(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
            self.fails(1, "up", self.model, "--port", port, "--state", str(self.state),
                       says=f"port {port} of 127.0.0.1 is taken")
        self.assertFalse(self.state.exists())

    def test_two_do_not_share_a_state(self) -> None:
        self.state.mkdir()
        with open(self.state / "lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.fails(1, "up", self.model, "--port", "0", "--state", str(self.state),
                       says="--state")

    def test_a_setting_that_a_service_refuses_ends_all(self) -> None:
        self.fails(1, "up", self.model, "--port", "0", "--state", str(self.state), "--set",
                   "router.no-such-key=1", says="router-1 ended with exit code 2")
        self.assertFalse((self.state / "up.json").exists())
        self.assertEqual(processes_with(str(self.state)), [])

    def test_services_end_with_it_however_it_ends(self) -> None:
        for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, -9)):
            with subprocess.Popen(
                    [CONCLAVE, "up", self.model, "--port", "0", "--state", str(self.state)],
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as up:
                self.assertRegex(up.stdout.readline(), "^ready: http://127.0.0.1:[0-9]+ ")
                self.assertEqual(len(processes_with(str(self.state))), 7)
                up.send_signal(number)
                self.assertEqual(up.wait(60), code)
            eventually(lambda: processes_with(str(self.state)) == [])
            self.assertEqual((self.state / "up.json").exists(), code != 0)


class Status(CommandCase):
    def test_without_a_running_up_it_says_so(self) -> None:
        with tempfile.TemporaryDirectory() as state:
            self.fails(1, "status", "--state", state, says="is `conclave up` running?")
            pathlib.Path(state, "up.json").write_text("{}")
            self.fails(1, "status", "--state", state, says="corrupt_data")

    def test_a_scheduler_that_does_not_answer_is_not_waited_for_long(self) -> None:
        with tempfile.TemporaryDirectory() as keys, socket.create_server(("127.0.0.1", 0)) as deaf:
            self.ok("keys", "fabric", "--out", keys)
            address = f"tcp://127.0.0.1:{deaf.getsockname()[1]}"
            begin = time.monotonic()
            self.fails(1, "status", "--scheduler", address, "--keys", keys, says=address)
            self.assertLess(time.monotonic() - begin, 30)
            self.fails(1, "status", "--scheduler", address, "--keys", "/no/such/keys",
                       says="/no/such/keys")
            self.fails(1, "status", "--scheduler", "nonsense", "--keys", keys, says="nonsense")


class Chat(CommandCase):
    def ask(self, server: OpenAiServer, *arguments: str, **kwargs: str):
        return run("chat", "--url", server.url, *arguments, **kwargs)

    def test_an_answer_is_printed_as_it_comes(self) -> None:
        with OpenAiServer(says("Grü", "ß", "e 👋\n", "x")) as server:
            done = self.ask(server, "--system", "be kind", "-p", "hello", "-n", "9", "--seed", "3")
        self.assertEqual((done.returncode, done.stdout), (0, "Grüße 👋\nx\n"), done.stderr)
        self.assertEqual(server.bodies, [{
            "model": "first", "stream": True, "max_tokens": 9, "seed": 3,
            "messages": [{"role": "system", "content": "be kind"},
                         {"role": "user", "content": "hello"}]}])

    def test_lines_of_standard_input_are_a_conversation(self) -> None:
        answers = iter(("one", "two"))
        with OpenAiServer(lambda body, write: says(next(answers))(body, write)) as server:
            done = self.ask(server, "--model", "mine", stdin="first\nsecond\n")
        self.assertEqual((done.returncode, done.stdout), (0, "one\ntwo\n"), done.stderr)
        self.assertEqual(server.bodies[1]["model"], "mine")
        self.assertEqual([m["content"] for m in server.bodies[1]["messages"]],
                         ["first", "one", "second"])

    def test_a_prompt_and_a_key_come_from_outside_the_command_line(self) -> None:
        with OpenAiServer(says("yes")) as server:
            done = self.ask(server, "-p", "-", stdin="a\nb", CONCLAVE_API_KEY="secret")
        self.assertEqual((done.returncode, done.stdout), (0, "yes\n"), done.stderr)
        self.assertEqual(server.bodies[0]["messages"][0]["content"], "a\nb")
        self.assertEqual(server.headers[0]["Authorization"], "Bearer secret")

    def test_errors_of_the_server_are_errors_here(self) -> None:
        def breaks(_, write) -> None:
            write(piece("half"))
            write(event({"error": {"message": "no worker is left"}}))

        cases = ((breaks, 200, "no worker is left"),
                 (lambda _, write: write(piece("half")), 200, "broke off"),
                 (lambda _, write: write(event("{")), 200, "no JSON"),
                 (None, 429, "the server is tired (status 429)"))
        for script, status, problem in cases:
            with OpenAiServer(script, status) as server:
                done = self.ask(server, "-p", "hello")
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn(problem, done.stderr)
        with OpenAiServer(None, models=()) as server:
            self.assertIn("serves no model yet", self.ask(server, "-p", "hello").stderr)
            gone = server
        self.fails(1, "chat", "--url", gone.url, "-p", "hello", says="unavailable")
        self.fails(1, "chat", "--url", "nonsense://x", "-p", "hello", says="nonsense")
        self.fails(2, "chat", "--temperature", "-1", says="temperature")

    def test_text_that_is_not_utf8_is_refused(self) -> None:
        with OpenAiServer(says("yes")) as server:
            done = subprocess.run([CONCLAVE, "chat", "--url", server.url, "-p", b"\xff"],
                                  capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("UTF-8", done.stderr)
        self.assertEqual(server.bodies, [])

    def test_an_interrupt_ends_the_answer_and_the_request(self) -> None:
        with OpenAiServer(endless) as server, subprocess.Popen(
                [CONCLAVE, "chat", "--url", server.url, "-p", "hello"], stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True) as chat:
            self.assertEqual(chat.stdout.read(3), "la ")
            chat.send_signal(signal.SIGINT)
            self.assertIn("interrupted", chat.communicate(timeout=60)[1])
            self.assertEqual(chat.returncode, 1)
            self.assertTrue(server.vanished.wait(60))

    def test_a_second_interrupt_ends_it_even_if_nobody_takes_its_output(self) -> None:
        # Pieces of whole pages leave no gap in a pipe.
        with OpenAiServer(says("la" * 32768, "la" * 32768)) as server, subprocess.Popen(
                [CONCLAVE, "chat", "--url", server.url, "-p", "hello"], stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL) as chat:
            eventually(lambda: is_full(chat.stdout.fileno()))
            chat.send_signal(signal.SIGINT)
            # Two that come at once are one.
            eventually(lambda: not signal_is_pending(chat.pid, signal.SIGINT))
            chat.send_signal(signal.SIGINT)
            self.assertEqual(chat.wait(60), 130)

    def test_at_a_terminal_an_interrupt_ends_an_answer_then_the_program(self) -> None:
        answers = iter((endless, says("short")))
        with OpenAiServer(lambda body, write: next(answers)(body, write)) as server, \
                terminal(CONCLAVE, "chat", "--url", server.url) as (chat, screen):
            screen.read_until("> ")
            screen.write("go on\n")
            screen.read_until("la la la")
            screen.write("\x03")
            screen.read_until("> ")
            screen.write("be brief\n")
            screen.read_until("short")
            screen.read_until("> ")
            screen.write("\x03")
            self.assertEqual(chat.wait(60), 130)
        said = [message["content"] for message in server.bodies[1]["messages"]]
        self.assertEqual((said[0], said[2]), ("go on", "be brief"))
        self.assertTrue(said[1].startswith("la la la"), said[1])

    def test_at_a_terminal_an_error_is_not_the_end(self) -> None:
        answers = iter((lambda _, write: write(event({"error": {"message": "not now"}})),
                        says("better")))
        with OpenAiServer(lambda body, write: next(answers)(body, write)) as server, \
                terminal(CONCLAVE, "chat", "--url", server.url) as (chat, screen):
            screen.read_until("> ")
            screen.write("hello\n")
            screen.read_until("(not now)")
            screen.write("again\n")
            screen.read_until("better")
            screen.read_until("> ")
            screen.write("\x04")  # Ctrl-D
            self.assertEqual(chat.wait(60), 0)
        self.assertEqual([m["content"] for m in server.bodies[1]["messages"]], ["again"])


def endless(_, write) -> None:
    while True:
        write(piece("la "))


def is_full(pipe: int) -> bool:
    held = bytearray(4)
    fcntl.ioctl(pipe, termios.FIONREAD, held)
    return int.from_bytes(held, sys.byteorder) == fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)


def signal_is_pending(process: int, number: int) -> bool:
    status = pathlib.Path(f"/proc/{process}/status").read_text()
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("ShdPnd")]
    return any(mask >> (number - 1) & 1 for mask in masks)


def processes_with(word: str) -> list[int]:
    """Ids of running processes with `word` in their command line."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
    return found


def eventually(probe, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    pause = threading.Event()  # nobody sets it
    while not probe():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s")
        pause.wait(0.02)


class Screen:
    """The other end of a terminal."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor
        self.seen = ""

    def write(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def read_until(self, text: str) -> None:
        """Reads on after what the last call found."""
        end = time.monotonic() + 60
        while text not in self.seen:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.descriptor], [], [], left)[0]:
                raise AssertionError(f"no {text!r} in {self.seen!r}")
            self.seen += os.read(self.descriptor, 65536).decode(errors="replace")
        self.seen = self.seen.split(text, 1)[1]


@contextlib.contextmanager
def terminal(*command: str):
    """(process, its screen), as a user has it: Ctrl-C is a character that the terminal turns into a
    signal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs,
                               start_new_session=True,
                               preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    os.close(theirs)
    try:
        yield process, Screen(ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


if __name__ == "__main__":
    CONCLAVE = sys.argv[1]
    SOURCE = pathlib.Path(sys.argv[2]).resolve()
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
