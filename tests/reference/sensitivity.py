#!/usr/bin/env python3
"""Shows that the golden numbers notice mistakes.

Each row of MISTAKES breaks one convention of the reference; the golden file it names has to move
by more than any rounding could explain.  A convention that could be broken unnoticed needs
another model, not a looser test.
"""
import dataclasses
import json
import sys
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy as np

import forward
from forward import Network, best, sigmoid
from make_models import MODELS
from model import Model

NOTICED = 0.05      # far above what rounding to 8-bit activations does to most logits


@dataclass(frozen=True)
class Mistake:
    """What goes wrong: other metadata, a tensor overlooked, another choice, another method."""

    golden: str
    what: str
    metadata: dict[str, Any] = field(default_factory=dict)
    without: str = ""
    choices: dict[str, Any] = field(default_factory=dict)
    methods: dict[str, Callable] = field(default_factory=dict)


def unclamped(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    return gate * sigmoid(1.702 * gate) * (up + 1)


def groups_by_maximum(self: Network, selection: np.ndarray) -> tuple[np.ndarray, float]:
    grouped = selection.reshape(len(selection), self.model.get("expert_group_count"), -1)
    kept, margin = best(grouped.max(axis=2), self.model.get("expert_group_used_count"))
    mask = np.full(grouped.shape[:2], -np.inf)
    np.put_along_axis(mask, kept, 0.0, axis=1)
    return (grouped + mask[:, :, None]).reshape(selection.shape), margin


def biased_weights(self: Network, x: np.ndarray, block: Any) -> forward.Choice:
    """Weights taken from the scores that the selection bias was added to."""
    experts, _, margin = Network.route(self, x, block)
    scores = sigmoid(block.linear(x, "ffn_gate_inp")) + block.tensor("exp_probs_b.bias")
    weights = np.take_along_axis(scores, experts, axis=1)
    weights = weights / weights.sum(axis=1, keepdims=True)
    return forward.Choice(experts, weights * self.model.get("expert_weights_scale"), margin)


def latent_mistakes(golden: str) -> list[Mistake]:
    """What can go wrong in either layout of latent attention."""
    return [
        Mistake(golden, "no YaRN", {"rope.scaling.type": "none"}),
        Mistake(golden, "log multiplier taken times 0.1",
                methods={"latent_scale": lambda self, dims, magnitude, multiplier:
                         Network.latent_scale(self, dims, magnitude, 0.1 * multiplier)}),
        Mistake(golden, "no attention scale correction",
                methods={"latent_scale": lambda self, dims, *_: dims ** -0.5}),
        Mistake(golden, "YaRN magnitude on the rotation", {"rope.scaling.attn_factor": 1.3689}),
        Mistake(golden, "NEOX pairs", choices={"rope_halves": True}),
        Mistake(golden, "no shared expert", without="_shexp"),
    ]


def gpt_oss_mistakes(golden: str) -> list[Mistake]:
    return [
        Mistake(golden, "no sinks", without="attn_sinks"),
        Mistake(golden, "window one longer", {"attention.sliding_window": 9}),
        Mistake(golden, "window on odd blocks too", {"attention.sliding_window": 8},
                methods={"attend": lambda self, q, k, v, scale, window=None, sinks=None:
                         Network.attend(self, q, k, v, scale, 8, sinks)}),
        Mistake(golden, "no clamp", choices={"activation": unclamped}),
        Mistake(golden, "plain SwiGLU", choices={"activation": forward.swiglu}),
        Mistake(golden, "no router bias", without="ffn_gate_inp.bias"),
        Mistake(golden, "no expert down bias", without="ffn_down_exps.bias"),
        Mistake(golden, "no attention output bias", without="attn_output.bias"),
        Mistake(golden, "softmax before the choice", choices={"gating": forward.SOFTMAX}),
        Mistake(golden, "no YaRN", {"rope.scaling.type": "none"}),
        Mistake(golden, "no YaRN magnitude", {"rope.scaling.attn_factor": 0.8}),
    ]


MISTAKES = [
    Mistake("llama-f32", "no frequency factors", without="rope_freqs"),
    Mistake("llama-f32", "NEOX pairs", choices={"rope_halves": True}),
    Mistake("llama-f32", "weights not normalised", choices={"normalize_weights": False}),
    Mistake("llama-yarn-f32", "linear scaling", {"rope.scaling.type": "linear"}),
    Mistake("llama-yarn-f32", "no YaRN magnitude", {"rope.scaling.attn_factor": 0.87824}),
    Mistake("llama-yarn-f32", "another ramp", {"rope.scaling.yarn_beta_slow": 2.0}),
    Mistake("llama-split-experts-f32", "weights not normalised",
            choices={"normalize_weights": False}),
    Mistake("olmoe-f32", "no query and key norm", choices={"qk_norm": None}),
    Mistake("olmoe-f32", "weights normalised", choices={"normalize_weights": True}),
    Mistake("qwen2moe-f32", "weights normalised", choices={"normalize_weights": True}),
    Mistake("qwen2moe-f32", "shared expert not gated", without="ffn_gate_inp_shexp"),
    Mistake("qwen2moe-f32", "no query bias", without="attn_q.bias"),
    Mistake("qwen2moe-f32", "no key bias", without="attn_k.bias"),
    Mistake("qwen2moe-f32", "no value bias", without="attn_v.bias"),
    Mistake("qwen3moe-f32", "no query and key norm", choices={"qk_norm": None}),
    Mistake("qwen3moe-f32", "NORM pairs", choices={"rope_halves": False}),
    Mistake("qwen3moe-f32", "weights not normalised", choices={"normalize_weights": False}),
    *gpt_oss_mistakes("gpt-oss-f32"),
    *gpt_oss_mistakes("gpt-oss-mxfp4"),
    *latent_mistakes("deepseek2-v3-f32"),
    *latent_mistakes("deepseek2-v2-lite-f32"),
    Mistake("deepseek2-v3-f32", "softmax", {"expert_gating_func": forward.SOFTMAX}),
    Mistake("deepseek2-v3-f32", "no selection bias", without="exp_probs_b"),
    Mistake("deepseek2-v3-f32", "selection bias in the weights",
            methods={"route": biased_weights}),
    Mistake("deepseek2-v3-f32", "no groups", {"expert_group_count": 1}),
    Mistake("deepseek2-v3-f32", "groups by their best expert",
            methods={"keep_best_groups": groups_by_maximum}),
    Mistake("deepseek2-v3-f32", "weights not normalised", {"expert_weights_norm": False}),
    Mistake("deepseek2-v3-f32", "weights not scaled", {"expert_weights_scale": 1.0}),
    Mistake("deepseek2-v2-lite-f32", "sigmoid", {"expert_gating_func": forward.SIGMOID}),
    Mistake("deepseek2-v2-lite-f32", "weights normalised", {"expert_weights_norm": True}),
]


class MistakenModel(Model):
    """A model with other metadata, or one that overlooks some tensors."""

    def __init__(self, golden_model: str, mistake: Mistake) -> None:
        super().__init__(MODELS / golden_model)
        self._mistake = mistake

    def get(self, key: str, default: Any = None) -> Any:
        return self._mistake.metadata.get(key, super().get(key, default))

    def tensor(self, name: str) -> Any:
        overlooked = self._mistake.without and self._mistake.without in name
        return None if overlooked else super().tensor(name)


def effect(mistake: Mistake) -> float:
    """Largest change of a recorded logit of the prompts."""
    golden = json.loads((MODELS / f"{mistake.golden}.json").read_text())
    kind = type("MistakenNetwork", (Network,), mistake.methods)
    network = kind(MistakenModel(golden["model"], mistake))
    network.choices = dataclasses.replace(network.choices, **mistake.choices)
    worst = 0.0
    for case in golden["prompts"]:
        logits = network.run(case["tokens"]).logits
        for row, (token, value, _) in zip(logits, case["prefill"]):
            worst = max(worst, abs(float(row[token]) - value))
    return worst


def main() -> int:
    unnoticed = 0
    for mistake in MISTAKES:
        change = effect(mistake)
        unnoticed += change < NOTICED
        remark = "" if change >= NOTICED else "   <- unnoticed"
        print(f"{mistake.golden:24} {mistake.what:32} {change:7.3f}{remark}")
    return int(unnoticed > 0)


if __name__ == "__main__":
    sys.exit(main())
