#!/usr/bin/env python3
"""The `conclave` command as a user meets it: output, errors, exit codes.

Usage: command_test.py CONCLAVE SOURCE_DIR [unittest arguments]
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

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
                                  "--ignore-eos", "--top-logprobs", "3")
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
        for isa in ("scalar", "avx2", "avx512"):
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


if __name__ == "__main__":
    CONCLAVE = sys.argv[1]
    SOURCE = pathlib.Path(sys.argv[2]).resolve()
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
