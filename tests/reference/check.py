#!/usr/bin/env python3
"""Holds the reference against golden files made elsewhere.

  check.py DIRECTORY [--tolerance 1e-2]

For every JSON file with a GGUF model beside it, prints how often the most likely token agrees
and the largest difference of any recorded logit or log-sum-exp.  A quantised model is judged by
its `exact` block where there is one: numbers free of the other side's 8-bit activations.
"""
import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from forward import Network
from model import Model


def log_sum_exp(logits: np.ndarray) -> float:
    peak = logits.max()
    return float(peak + np.log(np.exp(logits - peak).sum()))


class Comparison:
    """Worst differences between one golden file and the reference."""

    def __init__(self) -> None:
        self.logit = 0.0
        self.log_sum = 0.0
        self.same = 0
        self.total = 0

    def position(self, logits: np.ndarray, token: int, lse: float,
                 expected: list[tuple[int, float]]) -> None:
        self.same += int(logits.argmax() == token)
        self.total += 1
        self.log_sum = max(self.log_sum, abs(log_sum_exp(logits) - lse))
        for index, value in expected:
            self.logit = max(self.logit, abs(float(logits[index]) - value))

    def case(self, network: Network, case: dict[str, Any]) -> None:
        """Feeds the recorded tokens, so that one differing step does not spoil the rest."""
        logits = network.run(case["tokens"] + case["generated"][:-1]).logits
        for row, (token, value, lse) in zip(logits, case["prefill"]):
            self.position(row, token, lse, [(token, value)])
        for row, step in zip(logits[len(case["tokens"]) - 1:], case["steps"]):
            self.position(row, step["token"], step["lse"], [(t, v) for t, v, _ in step["top"]])


def compare(path: Path, block: str) -> Comparison:
    golden = json.loads(path.read_text())
    network = Network(Model(path.with_name(golden["model"])))
    comparison = Comparison()
    for case in golden[block]:
        comparison.case(network, case)
    return comparison


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-2)
    arguments = parser.parse_args()
    failed = False
    for path in sorted(arguments.directory.glob("*.json")):
        golden = json.loads(path.read_text())
        if "model" not in golden:
            continue
        block = "exact" if "exact" in golden else "prompts"
        result = compare(path, block)
        failed |= max(result.logit, result.log_sum) > arguments.tolerance
        print(f"{path.stem:32} {block:8} argmax {result.same}/{result.total}  "
              f"logit {result.logit:.1e}  log-sum-exp {result.log_sum:.1e}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
