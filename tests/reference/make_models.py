#!/usr/bin/env python3
"""Writes the golden models: tiny, random weights, same bytes on every machine.

  make_models.py            write tests/golden/models/*.gguf
  make_models.py --check    compare the files there with what would be written

Weights are sums of uniform integers taken from SHAKE-256 of seed, model and tensor name, scaled
with correctly rounded operations only, so that no mathematical library has a say in them.
"""
import argparse
import hashlib
import math
import sys
from pathlib import Path

import numpy as np

import block_types
from gguf_file import Entry, RawTensor, ValueType, pack_gguf
from specs import SPECS, Spec

MODELS = Path(__file__).resolve().parent.parent / "golden" / "models"
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K": 14, "Q5_K": 16, "Q6_K": 18,
              "BF16": 32, "MXFP4": 38}
ROTARY_DIMS = 16

# Spread of a matrix' outputs for inputs of spread 1: attention neither flat nor one-hot, experts
# that change the residual, logits of spread 2 to 3.
GAIN = {"attention": 1.4, "ffn": 1.5, "router": 2.0, "decided_router": 4.0,
        "output": 2.5}
TIED_GAIN = 0.8
# gpt-oss: wide enough inputs of the activation for its limit of 7 to bite.
CLAMPED_INPUT_GAIN, CLAMPED_OUTPUT_GAIN = 4.0, 0.3


def random_values(key: str, shape: tuple[int, ...], spread: float, centre: float) -> np.ndarray:
    """Nearly normal numbers: four 16-bit uniforms summed, cut at 3.5 times `spread`."""
    count = math.prod(shape)
    raw = hashlib.shake_256(key.encode()).digest(8 * count)
    sums = np.frombuffer(raw, "<u2").reshape(count, 4).astype(np.int64).sum(axis=1)
    unit = math.sqrt(3.0) / 65535                   # the sum's spread is 65535 / sqrt(3)
    return ((sums - 2 * 65535) * (unit * spread) + centre).reshape(shape[::-1])


class ModelBuilder:
    """Collects the tensors of one model in file order."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.vocabulary = spec.vocabulary()
        self.tensors: list[RawTensor] = []

    # --- kinds of tensors ---
    def add(self, name: str, shape: tuple[int, ...], kind: str, values: np.ndarray) -> None:
        type_id = block_types.BY_NAME[kind].type_id
        self.tensors.append(RawTensor(name, shape, type_id, block_types.encode(kind, values)))

    def small(self, name: str, shape: tuple[int, ...], spread: float, centre: float = 0.0) -> None:
        """Norms, biases and the like, which always stay F32."""
        key = f"{self.spec.seed}/{self.spec.name}/{name}"
        self.add(name, shape, "F32", random_values(key, shape, spread, centre))

    def matrix(self, name: str, shape: tuple[int, ...], gain: float, kind: str = "") -> None:
        kind = kind or self.spec.matrix_type
        if shape[0] % block_types.BY_NAME[kind].values:
            kind = self.spec.fallback_type
        key = f"{self.spec.seed}/{self.spec.name}/{name}"
        self.add(name, shape, kind, random_values(key, shape, gain / math.sqrt(shape[0]), 0.0))

    def norm(self, name: str, dims: int, centre: float = 1.0) -> None:
        self.small(name + ".weight", (dims,), 0.1 * centre, centre)

    def projection(self, name: str, inputs: int, outputs: int, gain: float, biased: bool) -> None:
        self.matrix(name + ".weight", (inputs, outputs), gain)
        if biased:
            self.small(name + ".bias", (outputs,), 0.2)

    # --- parts of a block ---
    def grouped_attention(self, block: str) -> None:
        spec, gain = self.spec, GAIN["attention"]
        q_dims, kv_dims = spec.heads * spec.head_dims, spec.kv_heads * spec.head_dims
        biased = spec.architecture in ("qwen2moe", "gpt-oss")
        self.projection(block + "attn_q", spec.hidden, q_dims, gain, biased)
        self.projection(block + "attn_k", spec.hidden, kv_dims, gain, biased)
        self.projection(block + "attn_v", spec.hidden, kv_dims, gain, biased)
        self.projection(block + "attn_output", q_dims, spec.hidden, gain,
                        spec.architecture == "gpt-oss")
        if spec.architecture == "olmoe":
            self.norm(block + "attn_q_norm", q_dims)
            self.norm(block + "attn_k_norm", kv_dims)
        elif spec.architecture == "qwen3moe":
            self.norm(block + "attn_q_norm", spec.head_dims)
            self.norm(block + "attn_k_norm", spec.head_dims)
        elif spec.architecture == "gpt-oss":
            self.small(block + "attn_sinks.weight", (spec.heads,), 1.0)

    def latent_attention(self, block: str) -> None:
        spec, gain, name = self.spec, GAIN["attention"], block + "attn_"
        q_dims = spec.heads * (spec.plain_dims + ROTARY_DIMS)
        if spec.query_rank:
            self.projection(name + "q_a", spec.hidden, spec.query_rank, gain, False)
            self.norm(name + "q_a_norm", spec.query_rank)
            self.projection(name + "q_b", spec.query_rank, q_dims, gain, False)
        else:
            self.projection(name + "q", spec.hidden, q_dims, gain, False)
        rank = spec.latent_rank
        self.projection(name + "kv_a_mqa", spec.hidden, rank + ROTARY_DIMS, gain, False)
        self.norm(name + "kv_a_norm", rank)
        if spec.latent_layout == "old":
            self.projection(name + "kv_b", rank, spec.heads * (spec.plain_dims + spec.value_dims),
                            gain, False)
        else:
            self.matrix(name + "k_b.weight", (spec.plain_dims, rank, spec.heads), gain)
            self.matrix(name + "v_b.weight", (rank, spec.value_dims, spec.heads), gain)
        self.projection(name + "output", spec.heads * spec.value_dims, spec.hidden, gain, False)

    def dense_ffn(self, block: str, width: int, suffix: str) -> None:
        hidden, gain = self.spec.hidden, GAIN["ffn"]
        self.projection(f"{block}ffn_gate{suffix}", hidden, width, gain, False)
        self.projection(f"{block}ffn_up{suffix}", hidden, width, gain, False)
        self.projection(f"{block}ffn_down{suffix}", width, hidden, gain, False)

    def experts(self, block: str) -> None:
        spec, name = self.spec, block + "ffn_"
        hidden, width, count = spec.hidden, spec.expert_ffn, spec.experts
        input_gain = output_gain = GAIN["ffn"]
        if spec.architecture == "gpt-oss":
            input_gain, output_gain = CLAMPED_INPUT_GAIN, CLAMPED_OUTPUT_GAIN
        kind = spec.expert_type
        shapes = {"gate": (hidden, width), "up": (hidden, width), "down": (width, hidden)}
        if spec.expert_layout == "fused":
            shapes = {"gate_up": (hidden, 2 * width), "down": (width, hidden)}
        for part, shape in shapes.items():
            gain = output_gain if part == "down" else input_gain
            if spec.expert_layout == "separate":
                for expert in range(count):
                    self.matrix(f"{name}{part}.{expert}.weight", shape, gain, kind)
            else:
                self.matrix(f"{name}{part}_exps.weight", (*shape, count), gain, kind)
            if spec.architecture == "gpt-oss":
                self.small(f"{name}{part}_exps.bias", (shape[1], count), 0.2)

    def expert_ffn(self, block: str) -> None:
        spec = self.spec
        gain = GAIN["decided_router" if spec.decided_router else "router"]
        spread = gain / math.sqrt(spec.hidden)
        self.small(block + "ffn_gate_inp.weight", (spec.hidden, spec.experts), spread)
        if spec.architecture == "gpt-oss":
            self.small(block + "ffn_gate_inp.bias", (spec.experts,), 0.3)
        if spec.gating == 2:
            self.small(block + "exp_probs_b.bias", (spec.experts,), 0.2)
        self.experts(block)
        if spec.architecture in ("qwen2moe", "deepseek2"):
            self.dense_ffn(block, spec.shared_ffn, "_shexp")
        if spec.architecture == "qwen2moe":
            spread = 1 / math.sqrt(spec.hidden)
            self.small(block + "ffn_gate_inp_shexp.weight", (spec.hidden,), spread)

    # --- the whole ---
    def all_tensors(self) -> list[RawTensor]:
        spec, latent = self.spec, self.spec.architecture == "deepseek2"
        rows = (spec.hidden, len(self.vocabulary.tokens))
        # A tied embedding is kept small, and the last norm makes up for it: else every token
        # would predict itself.
        self.matrix("token_embd.weight", rows, TIED_GAIN if spec.tied else math.sqrt(spec.hidden))
        if spec.rope_factors:
            factors = np.array([1, 1, 1, 1.5, 3, 8, 8, 8])
            self.add("rope_freqs.weight", factors.shape, "F32", factors)
        for index in range(spec.blocks):
            block = f"blk.{index}."
            self.norm(block + "attn_norm", spec.hidden)
            if latent:
                self.latent_attention(block)
            else:
                self.grouped_attention(block)
            ffn_norm = "post_attention_norm" if spec.architecture == "gpt-oss" else "ffn_norm"
            self.norm(block + ffn_norm, spec.hidden)
            if latent and index < spec.dense_blocks:
                self.dense_ffn(block, spec.dense_ffn, "")
            else:
                self.expert_ffn(block)
        self.norm("output_norm", spec.hidden, GAIN["output"] / TIED_GAIN if spec.tied else 1.0)
        if not spec.tied:
            self.matrix("output.weight", rows, GAIN["output"])
        return self.tensors


class Metadata:
    """Entries of one model, keyed under its architecture."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self.entries: list[Entry] = []

    def string(self, key: str, value: str) -> None:
        self._add(key, ValueType.STRING, value)

    def uint(self, key: str, value: int) -> None:
        self._add(key, ValueType.UINT32, value)

    def real(self, key: str, value: float) -> None:
        self._add(key, ValueType.FLOAT32, value)

    def flag(self, key: str, value: bool) -> None:
        self._add(key, ValueType.BOOL, value)

    def _add(self, key: str, kind: ValueType, value: object) -> None:
        prefix = "" if key.startswith("general.") else self._spec.architecture + "."
        self.entries.append(Entry(prefix + key, kind, value))


def shape_entries(spec: Spec, meta: Metadata) -> None:
    """What every architecture has."""
    meta.string("general.architecture", spec.architecture)
    meta.string("general.type", "model")
    meta.string("general.name", "Conclave golden " + spec.name)
    meta.uint("general.quantization_version", 2)
    meta.uint("general.file_type", FILE_TYPES[spec.expert_type or spec.matrix_type])
    latent = spec.architecture == "deepseek2"
    meta.uint("vocab_size", len(spec.vocabulary().tokens))
    meta.uint("context_length", 4096)
    meta.uint("block_count", spec.blocks)
    meta.uint("embedding_length", spec.hidden)
    meta.uint("feed_forward_length", spec.dense_ffn if latent else spec.expert_ffn)
    meta.uint("attention.head_count", spec.heads)
    meta.real("attention.layer_norm_rms_epsilon", 1e-5)
    meta.uint("expert_count", spec.experts)
    meta.uint("expert_used_count", spec.experts_used)
    if spec.architecture not in ("llama", "olmoe"):
        meta.uint("expert_feed_forward_length", spec.expert_ffn)
    if spec.architecture == "qwen2moe":
        meta.uint("expert_shared_feed_forward_length", spec.shared_ffn)
    if spec.architecture == "gpt-oss":
        meta.uint("attention.sliding_window", spec.window)


def rope_entries(spec: Spec, meta: Metadata) -> None:
    latent = spec.architecture == "deepseek2"
    meta.uint("rope.dimension_count", ROTARY_DIMS if latent else spec.head_dims)
    meta.real("rope.freq_base", spec.rope_base)
    if spec.yarn_factor:
        meta.string("rope.scaling.type", "yarn")
        meta.real("rope.scaling.factor", spec.yarn_factor)
        meta.uint("rope.scaling.original_context_length", spec.yarn_context)
        if latent:
            meta.real("rope.scaling.yarn_log_multiplier", spec.log_multiplier)


def grouped_entries(spec: Spec, meta: Metadata) -> None:
    meta.uint("attention.head_count_kv", spec.kv_heads)
    meta.uint("attention.key_length", spec.head_dims)
    meta.uint("attention.value_length", spec.head_dims)


def latent_entries(spec: Spec, meta: Metadata) -> None:
    """New files describe the cached row as the one key head; old ones the expanded heads."""
    key_dims = spec.plain_dims + ROTARY_DIMS
    if spec.latent_layout == "new":
        meta.uint("attention.head_count_kv", 1)
        meta.uint("attention.key_length", spec.latent_rank + ROTARY_DIMS)
        meta.uint("attention.value_length", spec.latent_rank)
        meta.uint("attention.key_length_mla", key_dims)
        meta.uint("attention.value_length_mla", spec.value_dims)
    else:
        meta.uint("attention.head_count_kv", spec.heads)
        meta.uint("attention.key_length", key_dims)
        meta.uint("attention.value_length", spec.value_dims)
    if spec.query_rank:
        meta.uint("attention.q_lora_rank", spec.query_rank)
    meta.uint("attention.kv_lora_rank", spec.latent_rank)
    meta.uint("leading_dense_block_count", spec.dense_blocks)
    meta.uint("expert_shared_count", 1)
    meta.real("expert_weights_scale", spec.weights_scale)
    meta.flag("expert_weights_norm", spec.weights_norm)
    if spec.latent_layout == "new":         # files of the old layout predate the key
        meta.uint("expert_gating_func", spec.gating)
    if spec.groups > 1:
        meta.uint("expert_group_count", spec.groups)
        meta.uint("expert_group_used_count", spec.groups_used)


def metadata_of(spec: Spec) -> list[Entry]:
    meta = Metadata(spec)
    shape_entries(spec, meta)
    rope_entries(spec, meta)
    if spec.architecture == "deepseek2":
        latent_entries(spec, meta)
    else:
        grouped_entries(spec, meta)
    return meta.entries + spec.vocabulary().entries()


def split_entries(part: int, parts: int, tensors: int) -> list[Entry]:
    return [Entry("split.no", ValueType.UINT16, part),
            Entry("split.count", ValueType.UINT16, parts),
            Entry("split.tensors.count", ValueType.INT32, tensors)]


def model_files(spec: Spec) -> dict[str, bytes]:
    """File names and contents; of a split model only the first part carries the metadata."""
    entries, tensors = metadata_of(spec), ModelBuilder(spec).all_tensors()
    names = spec.file_names()
    if spec.parts == 1:
        return {names[0]: pack_gguf(entries, tensors)}
    files, share = {}, -(-len(tensors) // spec.parts)
    for part, name in enumerate(names):
        head = entries if part == 0 else []
        head = head + split_entries(part, spec.parts, len(tensors))
        files[name] = pack_gguf(head, tensors[part * share:(part + 1) * share])
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    stale = []
    for spec in SPECS:
        for name, data in model_files(spec).items():
            path = MODELS / name
            if not check:
                path.write_bytes(data)
            elif not path.exists() or path.read_bytes() != data:
                stale.append(name)
    for name in stale:
        print(f"{name}: differs from what make_models.py writes")
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
