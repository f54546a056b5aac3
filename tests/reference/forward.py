"""The forward pass of the supported architectures in double precision.

An architecture is a row of choices (ARCHITECTURES).  Each part of a block is one function:
`grouped_attention`, `latent_attention` (MLA), `route` (the gate), `run_experts`.  The whole
sequence is computed at once, without a cache: slow, short, and nothing to get out of step.
"""
import math
from dataclasses import dataclass
from typing import Callable, NamedTuple, Optional

import numpy as np

from model import Block, Model
from rope import magnitude_of, make_rope, rotate

Array = np.ndarray

SOFTMAX, SIGMOID, SOFTMAX_OF_CHOSEN = 1, 2, 3       # values of expert_gating_func
WEIGHT_SUM_MIN = 2.0 ** -14     # llama.cpp divides the weights by no less (smallest normal half)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def swiglu(gate: Array, up: Array) -> Array:
    return gate * sigmoid(gate) * up


def clamped_swiglu(gate: Array, up: Array) -> Array:
    """gpt-oss: both inputs limited to 7 (the gate from above only), and `up` shifted by one."""
    gate, up = np.minimum(gate, 7), np.clip(up, -7, 7)
    return gate * sigmoid(1.702 * gate) * (up + 1)


@dataclass(frozen=True)
class Architecture:
    """What tells one architecture from another; None means that metadata decides."""

    rope_halves: bool = True                # NEOX pairs (halves), else NORM pairs (neighbours)
    qk_norm: Optional[str] = None           # "head": each head by itself; "row": all at once
    latent: bool = False                    # multi-head latent attention
    window_on_even_blocks: bool = False
    ffn_norm: str = "ffn_norm"
    gating: Optional[int] = SOFTMAX
    normalize_weights: Optional[bool] = True
    activation: Callable[[Array, Array], Array] = swiglu


ARCHITECTURES = {
    "llama": Architecture(rope_halves=False),
    "olmoe": Architecture(qk_norm="row", normalize_weights=False),
    "qwen2moe": Architecture(normalize_weights=False),
    "qwen3moe": Architecture(qk_norm="head"),
    "deepseek2": Architecture(rope_halves=False, latent=True, gating=None, normalize_weights=None),
    "gpt-oss": Architecture(window_on_even_blocks=True, ffn_norm="post_attention_norm",
                            gating=SOFTMAX_OF_CHOSEN, normalize_weights=False,
                            activation=clamped_swiglu),
}


class Choice(NamedTuple):
    """Experts of each token (tokens, k), their weights, and how narrow the closest call was."""

    experts: Array
    weights: Array
    margin: float


class Output(NamedTuple):
    """Logits (tokens, vocabulary) and the narrowest margin of any expert selection."""

    logits: Array
    gate_margin: float


class Network:
    """One model and its architecture's choices."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.choices = ARCHITECTURES[model.architecture]
        self.heads: int = model.get("attention.head_count")
        self.rms_epsilon: float = model.get("attention.layer_norm_rms_epsilon")

    # --- shared pieces ---
    def norm(self, x: Array, weight: Array) -> Array:
        scale = np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.rms_epsilon)
        return x / scale * weight

    def attend(self, q: Array, k: Array, v: Array, scale: float,
               window: Optional[int] = None, sinks: Optional[Array] = None) -> Array:
        """Causal attention; q (tokens, heads, d), k and v (tokens, kv heads, d) -> (tokens, ..).

        With a `window`, a token sees itself and the window - 1 tokens before it.  A sink is a
        logit per head that takes its share of the softmax and contributes no value.
        """
        tokens, heads, _ = q.shape
        share = heads // k.shape[1]
        k, v = np.repeat(k, share, axis=1), np.repeat(v, share, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) * scale
        distance = np.arange(tokens)[:, None] - np.arange(tokens)
        hidden = distance < 0
        if window:
            hidden |= distance >= window
        scores = np.where(hidden, -np.inf, scores)
        if sinks is not None:
            column = np.broadcast_to(sinks[:, None, None], (heads, tokens, 1))
            scores = np.concatenate([scores, column], axis=2)
        shares = softmax(scores)[:, :, :tokens]
        return np.einsum("hqk,khd->qhd", shares, v).reshape(tokens, -1)

    # --- attention ---
    def grouped_attention(self, x: Array, block: Block) -> Array:
        get, tokens = self.model.get, len(x)
        kv_heads = get("attention.head_count_kv", self.heads)
        dims = get("attention.key_length", get("embedding_length") // self.heads)
        q, k, v = (block.linear(x, f"attn_{name}") for name in "qkv")
        q_norm, k_norm = block.tensor("attn_q_norm.weight"), block.tensor("attn_k_norm.weight")
        if self.choices.qk_norm == "row":
            q, k = self.norm(q, q_norm), self.norm(k, k_norm)
        q, k = q.reshape(tokens, self.heads, dims), k.reshape(tokens, kv_heads, dims)
        v = v.reshape(tokens, kv_heads, -1)
        if self.choices.qk_norm == "head":
            q, k = self.norm(q, q_norm), self.norm(k, k_norm)
        rope = make_rope(get, get("rope.dimension_count", dims),
                         self.model.tensor("rope_freqs.weight"), log_multiplier=0.0)
        q, k = (rotate(part, rope, self.choices.rope_halves) for part in (q, k))
        windowed = self.choices.window_on_even_blocks and block.index % 2 == 0
        window = get("attention.sliding_window") if windowed else None
        mixed = self.attend(q, k, v, dims ** -0.5, window, block.tensor("attn_sinks.weight"))
        return block.linear(mixed, "attn_output")

    def latent_attention(self, x: Array, block: Block) -> Array:
        """MLA: keys and values of all heads are expanded from one short row per token."""
        get, tokens = self.model.get, len(x)
        rank, rotary = get("attention.kv_lora_rank"), get("rope.dimension_count")
        dims = get("attention.key_length_mla", get("attention.key_length"))
        plain = dims - rotary
        log_multiplier = get("rope.scaling.yarn_log_multiplier", 0.0)
        rope = make_rope(get, rotary, None, log_multiplier)

        if block.has("attn_q.weight"):
            q = block.linear(x, "attn_q")
        else:
            short = self.norm(block.linear(x, "attn_q_a"), block.tensor("attn_q_a_norm.weight"))
            q = block.linear(short, "attn_q_b")
        q = q.reshape(tokens, self.heads, dims)
        row = block.linear(x, "attn_kv_a_mqa")
        latent = self.norm(row[:, :rank], block.tensor("attn_kv_a_norm.weight"))
        k, v = self.expand_latent(latent, block, plain)

        q_rotary = rotate(q[..., plain:], rope, self.choices.rope_halves)
        k_rotary = rotate(row[:, None, rank:], rope, self.choices.rope_halves)
        q = np.concatenate([q[..., :plain], q_rotary], axis=2)
        k = np.concatenate([k, np.repeat(k_rotary, self.heads, axis=1)], axis=2)
        mixed = self.attend(q, k, v, self.latent_scale(dims, rope.magnitude, log_multiplier))
        return block.linear(mixed, "attn_output")

    def expand_latent(self, latent: Array, block: Block, plain: int) -> tuple[Array, Array]:
        """Keys (without their rotary part) and values per head, from either tensor layout."""
        if block.has("attn_kv_b.weight"):
            both = block.linear(latent, "attn_kv_b").reshape(len(latent), self.heads, -1)
            return both[..., :plain], both[..., plain:]
        k = np.einsum("tr,hrd->thd", latent, block.tensor("attn_k_b.weight"))
        v = np.einsum("tr,hdr->thd", latent, block.tensor("attn_v_b.weight"))
        return k, v

    def latent_scale(self, dims: int, magnitude: float, log_multiplier: float) -> float:
        """1/sqrt(dims) times the square of YaRN's correction: once for the keys, once for the
        queries.  The file's log multiplier already holds the factor 0.1 of the formula."""
        get = self.model.get
        if get("rope.scaling.type") != "yarn":
            return dims ** -0.5
        correction = magnitude_of(get("rope.scaling.factor"), log_multiplier / 0.1)
        return (magnitude * correction) ** 2 * dims ** -0.5

    # --- experts ---
    def route(self, x: Array, block: Block) -> Choice:
        get = self.model.get
        logits = block.linear(x, "ffn_gate_inp")
        gating = self.choices.gating or get("expert_gating_func", 0) or SOFTMAX
        scores = {SOFTMAX: softmax, SIGMOID: sigmoid}.get(gating, np.copy)(logits)
        bias = block.tensor("exp_probs_b.bias")
        selection = scores if bias is None else scores + bias   # the bias never enters a weight
        group_margin = math.inf
        if get("expert_group_count", 1) > 1:
            selection, group_margin = self.keep_best_groups(selection)
        experts, margin = best(selection, get("expert_used_count"))
        weights = np.take_along_axis(scores, experts, axis=1)
        if gating == SOFTMAX_OF_CHOSEN:
            weights = softmax(weights)
        normalize = self.choices.normalize_weights
        if normalize is None:
            normalize = get("expert_weights_norm", False)
        if normalize:
            weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), WEIGHT_SUM_MIN)
        weights = weights * (get("expert_weights_scale", 0.0) or 1.0)
        return Choice(experts, weights, min(margin, group_margin))

    def keep_best_groups(self, selection: Array) -> tuple[Array, float]:
        """A group is worth the sum of its two best experts; the losers' experts drop out."""
        grouped = selection.reshape(len(selection), self.model.get("expert_group_count"), -1)
        worth = np.sort(grouped, axis=2)[:, :, -2:].sum(axis=2)
        kept, margin = best(worth, self.model.get("expert_group_used_count"))
        mask = np.full(worth.shape, -np.inf)
        np.put_along_axis(mask, kept, 0.0, axis=1)
        return (grouped + mask[:, :, None]).reshape(selection.shape), margin

    def run_experts(self, x: Array, block: Block, choice: Choice) -> Array:
        out = np.zeros_like(x)
        for expert in np.unique(choice.experts):
            tokens, slot = np.nonzero(choice.experts == expert)
            gate, up = expert_inputs(x[tokens], block, expert)
            hidden = self.choices.activation(gate, up)
            y = expert_linear(hidden, block, "down", expert)
            out[tokens] += choice.weights[tokens, slot][:, None] * y
        return out

    def dense_ffn(self, x: Array, block: Block, suffix: str) -> Array:
        hidden = swiglu(block.linear(x, "ffn_gate" + suffix), block.linear(x, "ffn_up" + suffix))
        return block.linear(hidden, "ffn_down" + suffix)

    def ffn(self, x: Array, block: Block) -> tuple[Array, float]:
        if not block.has("ffn_gate_inp.weight"):
            return self.dense_ffn(x, block, ""), math.inf
        choice = self.route(x, block)
        out = self.run_experts(x, block, choice)
        if block.has("ffn_up_shexp.weight"):
            shared = self.dense_ffn(x, block, "_shexp")
            gate = block.tensor("ffn_gate_inp_shexp.weight")
            out += shared if gate is None else shared * sigmoid(x @ gate.reshape(-1, 1))
        return out, choice.margin

    # --- the whole ---
    def run(self, tokens: list[int]) -> Output:
        model, margin = self.model, math.inf
        attention = self.latent_attention if self.choices.latent else self.grouped_attention
        x = model.tensor("token_embd.weight")[tokens]
        for index in range(model.get("block_count")):
            block = model.block(index)
            x = x + attention(self.norm(x, block.tensor("attn_norm.weight")), block)
            ffn_norm = block.tensor(self.choices.ffn_norm + ".weight")
            y, block_margin = self.ffn(self.norm(x, ffn_norm), block)
            x = x + y
            margin = min(margin, block_margin)
        output = model.tensor("output.weight")
        if output is None:
            output = model.tensor("token_embd.weight")
        return Output(self.norm(x, model.tensor("output_norm.weight")) @ output.T, margin)


def best(scores: Array, count: int) -> tuple[Array, float]:
    """Columns of the `count` largest scores of each row, best first, and the smallest distance
    between a chosen score and one left out."""
    order = np.argsort(-scores, axis=1, kind="stable")
    if count == scores.shape[1]:
        return order, math.inf
    edge = np.take_along_axis(scores, order[:, count - 1:count + 1], axis=1)
    return order[:, :count], float((edge[:, 0] - edge[:, 1]).min())


def expert_linear(x: Array, block: Block, name: str, expert: int) -> Array:
    """One matrix of one expert: a slice of the stacked tensor, or a tensor of its own."""
    if block.has(f"ffn_{name}.{expert}.weight"):
        return block.linear(x, f"ffn_{name}.{expert}")
    y = x @ block.tensor(f"ffn_{name}_exps.weight")[expert].T
    bias = block.tensor(f"ffn_{name}_exps.bias")
    return y if bias is None else y + bias[expert]


def expert_inputs(x: Array, block: Block, expert: int) -> tuple[Array, Array]:
    """Gate and up projections; a fused tensor holds the gate's rows first."""
    if block.has("ffn_gate_up_exps.weight"):
        both = expert_linear(x, block, "gate_up", expert)
        return both[:, :both.shape[1] // 2], both[:, both.shape[1] // 2:]
    return expert_linear(x, block, "gate", expert), expert_linear(x, block, "up", expert)
