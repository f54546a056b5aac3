#!/usr/bin/env python3
"""Promise 1 across shapes: the same 50 requests, greedy and sampled, through `generate`, `serve`, and
`up` with 1, 2, 3 and 8 workers and two routers, alone and all at once. Every token id and every
log-probability must be the same, bit for bit.

Usage: same_bytes_test.py CONCLAVE MODEL SHAPE
SHAPE: serve, or WORKERSxROUTERS such as 3x2; then -frames if calls shall not go through shared memory,
-plain if they shall not be encrypted either, as between hosts of a trusted network.
"""
import concurrent.futures
import json
import subprocess
import sys

from stack import Stack

QUESTIONS = ["What is 47 + 385?", "Sort: 9 3 7 1", "Reverse: conclave", "Is 17 larger than 71?",
             "Count the letters in banana", "What comes next: 2 4 6 8", "Write 1987 in Roman numerals",
             "How many centimetres are 3 metres?", "What is 900 - 13?", "a"]
SAMPLINGS = [
    {},
    {"temperature": 1.0, "seed": 1},
    {"temperature": 1.5, "seed": 2, "top_k": 20, "top_p": 0.9},
    {"temperature": 0.8, "seed": 3, "min_p": 0.05, "repetition_penalty": 1.3},
    {"temperature": 1.2, "seed": 4, "presence_penalty": 0.7, "frequency_penalty": 0.4},
]
MAX_TOKENS = 24
FRAMES = ["--set", "fabric.data.shared-memory=false"]
ROADS = {"": [], "frames": FRAMES, "plain": [*FRAMES, "--data-encryption", "none"]}
TOP = 3


def requests() -> list[dict]:
    return [{"prompt": question, **({"temperature": 0.0} | sampling)}
            for question in QUESTIONS for sampling in SAMPLINGS]


def by_generate(conclave: str, model: str, request: dict) -> tuple:
    flags = []
    for name, value in request.items():
        flags += [f"--{name.replace('_', '-')}", str(value)]
    done = subprocess.run(
        [conclave, "generate", "-m", model, "-n", str(MAX_TOKENS), "--ignore-eos", "-o", "json",
         "--top-logprobs", str(TOP), *flags], capture_output=True, text=True, check=True)
    out = json.loads(done.stdout)
    return tuple(out["tokens"]), tuple(out["logprobs"])


def by_server(stack: Stack, model: str, request: dict) -> tuple:
    status, body = stack.call("/v1/completions", {
        "model": model, "max_tokens": MAX_TOKENS, "ignore_eos": True, "logprobs": TOP,
        "return_token_ids": True, **request})
    assert status == 200, body
    choice = body["choices"][0]
    return tuple(choice["token_ids"]), tuple(choice["logprobs"]["token_logprobs"])


def main() -> int:
    conclave, model, shape = sys.argv[1:4]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        expected = list(pool.map(lambda r: by_generate(conclave, model, r), requests()))
    assert len({tokens for tokens, _ in expected}) > 25, "the requests hardly differ"

    arguments = ["serve", model]
    if shape != "serve":
        fleet, _, road = shape.partition("-")
        workers, routers = fleet.split("x")
        arguments = ["up", "-m", model, "--workers", workers, "--routers", routers, *ROADS[road]]
    with Stack(conclave, *arguments) as stack:
        name = stack.call("/v1/models")[1]["data"][0]["id"]
        different = []
        alone = [by_server(stack, name, request) for request in requests()]
        with concurrent.futures.ThreadPoolExecutor(len(expected)) as pool:
            together = list(pool.map(lambda r: by_server(stack, name, r), requests()))
        for kind, answers in (("alone", alone), ("together", together)):
            different += [f"{kind}: {request}\n  expected {want}\n  got      {got}"
                          for request, want, got in zip(requests(), expected, answers)
                          if want != got]
        print(f"{shape}: {len(expected)} requests alone and together,"
              f" {len(different)} answers differ")
        print("\n".join(different[:5]))
        return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
