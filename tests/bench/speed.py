#!/usr/bin/env python3
"""Speed of `conclave generate` on one or more models: medians over interleaved runs.

Usage: speed.py CONCLAVE MODEL.. [--prompt-tokens 512] [--new-tokens 128] [--runs 5] [--threads N]

Runs of the models take turns, so that a neighbour on the machine slows all of them alike. The
prompt is text repeated to about the wanted length; its speed is that of prompt processing, decoding
is measured from the first new token to the last.
"""
import argparse
import json
import pathlib
import statistics
import subprocess

TEXT = "The quick brown fox jumps over the lazy dog, again and again, until the evening comes. "


def generate(conclave: str, model: str, prompt: str, new_tokens: int, threads: int) -> dict:
    command = [conclave, "generate", "-m", model, "-p", "-", "-n", str(new_tokens),
               "--ignore-eos", "--threads", str(threads), "-o", "json"]
    done = subprocess.run(command, input=prompt, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def prompt_of(conclave: str, model: str, tokens: int) -> str:
    """Text of about `tokens` tokens in the model's own vocabulary."""
    command = [conclave, "tokenize", "-m", model, "-o", "json", TEXT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return TEXT * max(1, round(tokens / json.loads(done.stdout)["count"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("conclave")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()

    prompts = {m: prompt_of(arguments.conclave, m, arguments.prompt_tokens)
               for m in arguments.models}
    results: dict[str, list[dict]] = {model: [] for model in arguments.models}
    for _ in range(arguments.runs):
        for model, prompt in prompts.items():
            results[model].append(generate(arguments.conclave, model, prompt,
                                           arguments.new_tokens, arguments.threads))

    print(f"{'model':32} {'prompt':>7} {'prompt tok/s':>13} {'decode tok/s':>13} {'load s':>7}")
    for model, reports in results.items():
        def median(key: str) -> float:
            return statistics.median(report["timing"][key] for report in reports)
        print(f"{pathlib.Path(model).name:32} {len(reports[0]['prompt_tokens']):7} "
              f"{median('prompt_tokens_per_s'):13.1f} {median('decode_tokens_per_s'):13.1f} "
              f"{median('load_s'):7.2f}")


if __name__ == "__main__":
    main()
