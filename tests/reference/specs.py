"""The golden models: which exist, their shapes, and the prompts they are asked.

Seeds were picked by `make_golden.py --seek` so that no prompt meets a near-tie, neither between
the two likeliest tokens nor between the last expert chosen and the first one left out.
"""
from dataclasses import dataclass
from typing import Any

from vocabulary import ByteLevelVocabulary, SentencePieceVocabulary

PROMPTS = (
    "hello world",
    "a mixture of experts",
    "the router sends every token to a few of the experts and waits for the slowest of them",
)


@dataclass(frozen=True)
class Spec:
    """One model.  Counts are in values, not bytes; types are names of block types."""

    name: str
    architecture: str
    seed: int
    matrix_type: str = "F32"
    expert_type: str = ""           # empty: as matrix_type
    fallback_type: str = "F16"      # where a row is no multiple of the block
    tied: bool = False
    parts: int = 1                  # files; more than one gives a split model
    expert_layout: str = "stacked"  # stacked | fused (gate and up in one) | separate (old Mixtral)

    hidden: int = 32
    blocks: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dims: int = 16
    experts: int = 8
    experts_used: int = 2
    expert_ffn: int = 8
    decided_router: bool = False    # most of the weight goes to a token's first experts
    shared_ffn: int = 12
    window: int = 8
    rope_base: float = 10000.0
    rope_factors: bool = False      # with a rope_freqs tensor
    yarn_factor: float = 0.0        # 0: no scaling
    yarn_context: int = 32

    latent_layout: str = "new"      # new: attn_k_b and attn_v_b; old: attn_kv_b
    latent_rank: int = 32
    query_rank: int = 24            # 0: a plain attn_q
    plain_dims: int = 24            # of a latent head, beside 16 rotary ones
    value_dims: int = 16
    dense_blocks: int = 1
    dense_ffn: int = 24
    gating: int = 1                 # 1 softmax, 2 sigmoid
    groups: int = 1
    groups_used: int = 1
    weights_scale: float = 1.0
    weights_norm: bool = False
    log_multiplier: float = 0.1

    def vocabulary(self) -> ByteLevelVocabulary | SentencePieceVocabulary:
        if self.architecture == "llama":
            return SentencePieceVocabulary()
        return ByteLevelVocabulary({"olmoe": "olmo", "gpt-oss": "gpt-4o",
                                    "deepseek2": "deepseek-v3"}.get(self.architecture, "qwen2"))

    def file_names(self) -> list[str]:
        if self.parts == 1:
            return [self.name + ".gguf"]
        return [f"{self.name}-{i + 1:05}-of-{self.parts:05}.gguf" for i in range(self.parts)]


def _qwen3moe(name: str, seed: int, **choices: Any) -> Spec:
    return Spec("qwen3moe-" + name, "qwen3moe", seed, rope_base=1e6, **choices)


def _rounded(name: str, seed: int, matrix_type: str, **choices: Any) -> Spec:
    """A model of a type that invites rounded activations.

    Rounding changes close calls between experts, so the experts at the edge of the selection
    get little weight: more of them are used, and the router is more decided.
    """
    shape = dict(experts_used=4, decided_router=True)
    return _qwen3moe(name, seed, matrix_type=matrix_type, **{**shape, **choices})


def _k_quant(name: str, seed: int, matrix_type: str) -> Spec:
    """Rows of 256, which K-quants need; down projections and attn_output have shorter rows."""
    return _rounded(name, seed, matrix_type, fallback_type="Q4_0", tied=True, hidden=256, blocks=1,
                    heads=2, kv_heads=1, experts=4, experts_used=3, expert_ffn=32)


def _deepseek2(name: str, seed: int, **choices: Any) -> Spec:
    return Spec("deepseek2-" + name, "deepseek2", seed, heads=2, yarn_factor=40.0, **choices)


# One block and four experts where a model is about a layout or a type rather than a network:
# the set has to stay small.
SPECS = (
    Spec("llama-f32", "llama", 1, rope_base=500000.0, rope_factors=True, tied=True),
    Spec("llama-yarn-f32", "llama", 4, blocks=1, experts=4, yarn_factor=4.0, tied=True),
    Spec("llama-split-experts-f32", "llama", 7, blocks=1, experts=4, expert_layout="separate",
         tied=True),
    Spec("olmoe-f32", "olmoe", 5, kv_heads=4, head_dims=8),
    Spec("qwen2moe-f32", "qwen2moe", 2, head_dims=8, rope_base=1e6, tied=True),
    _qwen3moe("f32", 1),
    _qwen3moe("fused-f32", 9, blocks=1, experts=4, expert_layout="fused", tied=True),
    _qwen3moe("split-f32", 4, blocks=1, experts=4, parts=2, tied=True),
    _rounded("tied-f16", 7, "F16", tied=True),
    _rounded("bf16", 2, "BF16", tied=True),
    _rounded("q8_0", 13, "Q8_0", expert_ffn=32),
    _rounded("q4_0", 8, "Q4_0", expert_ffn=32),
    _k_quant("q4_k", 13, "Q4_K"),
    _k_quant("q5_k", 8, "Q5_K"),
    _k_quant("q6_k", 4, "Q6_K"),
    _rounded("mxfp4", 8, "BF16", expert_type="MXFP4", expert_ffn=32, tied=True),
    Spec("gpt-oss-f32", "gpt-oss", 6, experts_used=3, rope_base=150000.0, yarn_factor=4.0),
    Spec("gpt-oss-mxfp4", "gpt-oss", 4, matrix_type="Q8_0", expert_type="MXFP4", experts_used=4,
         expert_ffn=32, decided_router=True, rope_base=150000.0, yarn_factor=32.0,
         yarn_context=4096),
    _deepseek2("v3-f32", 4, experts=12, experts_used=3, gating=2, groups=4, groups_used=2,
               weights_scale=2.5, weights_norm=True),
    _deepseek2("v2-lite-f32", 6, latent_layout="old", query_rank=0, yarn_context=4096,
               log_multiplier=0.0707),
)
