#!/usr/bin/env python3
"""Writes the golden numbers of the models that make_models.py wrote.

  make_golden.py              write tests/golden/models/*.json and print the narrowest margins
  make_golden.py --check      recompute from the models there and compare with the JSON there
  make_golden.py --seek       print the first seed of each model that keeps clear of near-ties
"""
import argparse
import dataclasses
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

from check import log_sum_exp
from forward import Network
from make_models import MODELS, model_files
from model import Model
from specs import PROMPTS, SPECS, Spec

STEPS = 16
BEST = 10
DIGITS = 9
CHECK_TOLERANCE = 1e-9
MIN_STEP_MARGIN = 0.02      # between the two likeliest tokens of a greedy step
MIN_PREFILL_MARGIN = 0.002  # the same at a position of the prompt, where nothing is chosen
MIN_GATE_MARGIN = 1e-4      # between the last expert chosen and the first left out
MIN_LIGHT_GATE_MARGIN = 1e-6    # the same where the router gives either hardly any weight
MIN_VARIETY = 6             # different tokens in a continuation
SEEDS = 200


def rounded(value: float) -> float:
    return round(float(value), DIGITS)


def top_margin(logits: Any) -> float:
    second, first = sorted(logits)[-2:]
    return float(first - second)


def greedy(network: Network, tokens: list[int]) -> list[int]:
    """The continuation that always takes the likeliest token."""
    generated: list[int] = []
    for _ in range(STEPS):
        generated.append(int(network.run(tokens + generated).logits[-1].argmax()))
    return generated


def describe(network: Network, prompt: str, tokens: list[int],
             generated: list[int]) -> dict[str, Any]:
    """One prompt's entry, given the continuation."""
    logits, gate_margin = network.run(tokens + generated[:-1])
    prefill, steps = [], []
    for row in logits[:len(tokens)]:
        token = int(row.argmax())
        prefill.append([token, rounded(row[token]), rounded(log_sum_exp(row))])
    step_rows = logits[len(tokens) - 1:]
    for row in step_rows:
        lse = log_sum_exp(row)
        order = (-row).argsort(kind="stable")[:BEST]
        steps.append({"token": int(order[0]), "lse": rounded(lse),
                      "top": [[int(i), rounded(row[i]), rounded(row[i] - lse)] for i in order]})
    return {"prompt": prompt, "tokens": tokens, "generated": generated,
            "min_step_margin": rounded(min(map(top_margin, step_rows))),
            "min_prefill_margin": rounded(min(map(top_margin, logits[:len(tokens)]))),
            "min_gate_margin": rounded(gate_margin), "prefill": prefill, "steps": steps}


def cases_of(spec: Spec, directory: Path) -> list[dict[str, Any]]:
    network, vocabulary = Network(Model(directory / spec.file_names()[0])), spec.vocabulary()
    cases = []
    for prompt in PROMPTS:
        tokens = vocabulary.encode(prompt)
        cases.append(describe(network, prompt, tokens, greedy(network, tokens)))
    return cases


def smallest(cases: list[dict[str, Any]]) -> tuple[float, ...]:
    keys = ("min_step_margin", "min_prefill_margin", "min_gate_margin")
    return tuple(min(case[key] for case in cases) for key in keys)


def to_json(spec: Spec, cases: list[dict[str, Any]]) -> str:
    """One line per step, so that a change shows up as a readable difference."""
    head = {"model": spec.file_names()[0], "reference": "tests/reference, double precision",
            "numerics": "weights decoded exactly, activations never rounded",
            "format": "prefill: [argmax, its logit, log-sum-exp] per prompt position; "
                      "top: [id, logit, logprob]"}
    out = [json.dumps(head)[:-1] + ', "prompts": [']
    for case in cases:
        fields = {key: value for key, value in case.items() if key != "steps"}
        out.append(" " + json.dumps(fields)[:-1] + ', "steps": [')
        out.append(",\n".join("  " + json.dumps(step) for step in case["steps"]) + "]}"
                   + ("," if case is not cases[-1] else "]}"))
    return "\n".join(out) + "\n"


def write_all() -> None:
    print(f"{'model':28} {'step':>8} {'prefill':>8} {'gate':>8}")
    for spec in SPECS:
        cases = cases_of(spec, MODELS)
        (MODELS / f"{spec.name}.json").write_text(to_json(spec, cases))
        step, prefill, gate = smallest(cases)
        print(f"{spec.name:28} {step:8.4f} {prefill:8.4f} {gate:8.0e}")


def difference(left: Any, right: Any) -> float:
    """Largest difference of any number of two documents; infinite if their shapes differ."""
    if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
        return max((difference(left[key], right[key]) for key in left), default=0.0)
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return max(map(difference, left, right), default=0.0)
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return abs(left - right)
    return 0.0 if left == right else math.inf


def check_all() -> bool:
    """Recomputes along the recorded tokens: far cheaper than generating anew, and every
    recorded token is still compared with the likeliest one."""
    good = True
    for spec in SPECS:
        golden = json.loads((MODELS / f"{spec.name}.json").read_text())
        network = Network(Model(MODELS / golden["model"]))
        again = [describe(network, case["prompt"], spec.vocabulary().encode(case["prompt"]),
                          case["generated"]) for case in golden["prompts"]]
        greedily = all([step["token"] for step in case["steps"]] == case["generated"]
                       for case in again)
        worst = difference(again, golden["prompts"])
        if worst > 1.5 * CHECK_TOLERANCE or not greedily:
            print(f"{spec.name}: differs by {worst:.1e}")
            good = False
    return good


def seek(spec: Spec) -> str:
    """First seed whose margins are all wide enough, else the one that comes closest."""
    gate_margin = MIN_LIGHT_GATE_MARGIN if spec.decided_router else MIN_GATE_MARGIN
    limits = (MIN_STEP_MARGIN, MIN_PREFILL_MARGIN, gate_margin, MIN_VARIETY)
    best, best_seed = 0.0, 0
    for seed in range(1, SEEDS + 1):
        candidate = dataclasses.replace(spec, seed=seed)
        with tempfile.TemporaryDirectory() as directory:
            for name, data in model_files(candidate).items():
                (Path(directory) / name).write_bytes(data)
            cases = cases_of(candidate, Path(directory))
        margins = (*smallest(cases), min(len(set(case["generated"])) for case in cases))
        worst = min(margin / limit for margin, limit in zip(margins, limits))
        if worst > best:
            best, best_seed = worst, seed
        if worst >= 1:
            break
    return f"{spec.name:28} seed {best_seed} at {best:.2f} of the wanted margins"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="write nothing, compare")
    mode.add_argument("--seek", action="store_true", help="write nothing, look for seeds")
    arguments = parser.parse_args()
    if arguments.check:
        return int(not check_all())
    if arguments.seek:
        for spec in SPECS:
            print(seek(spec), flush=True)
        return 0
    write_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
