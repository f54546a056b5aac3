#!/usr/bin/env python3
"""Turn a training checkpoint into a GGUF file that any qwen3moe reader loads.

    export_gguf.py DIR/checkpoint.pt [--out conclave-demo.gguf]
"""

import argparse
from pathlib import Path

import torch

import gguf_io
from bpe import CHAT_TEMPLATE, SPECIALS, Tokenizer
from gguf_io import ARRAY, BOOL, F32, I32, STRING, U32, Metadata
from model import Config

DEMO = Path(__file__).with_name("conclave-demo.gguf")
DESCRIPTION = ("A small Mixture-of-Experts model that does sums, letters, sequences, units and "
               "Roman numerals; made to try out Conclave without a download.")
ARCHITECTURE = "qwen3moe"
FILE_TYPE_Q8_0 = 7
NORMAL, CONTROL = 1, 3
IN_BLOCK = {
    "attn_norm": "attn_norm.weight", "attn_q": "attn.q.weight", "attn_k": "attn.k.weight",
    "attn_v": "attn.v.weight", "attn_output": "attn.output.weight",
    "attn_q_norm": "attn.q_norm.weight", "attn_k_norm": "attn.k_norm.weight",
    "ffn_norm": "ffn_norm.weight", "ffn_gate_inp": "ffn.router.weight",
    "ffn_gate_exps": "ffn.gate", "ffn_up_exps": "ffn.up", "ffn_down_exps": "ffn.down"}


def parameter_names(layers: int) -> dict[str, str]:
    """GGUF tensor name -> parameter of model.Model, in file order."""
    names = {"token_embd.weight": "embd.weight"}
    for i in range(layers):
        names |= {f"blk.{i}.{g}.weight": f"blocks.{i}.{p}" for g, p in IN_BLOCK.items()}
    return names | {"output_norm.weight": "norm.weight"}


def is_quantised(name: str) -> bool:
    """Matrices are; norms and the small, sensitive gates stay F32."""
    return "norm" not in name and "ffn_gate_inp" not in name


def metadata(c: Config, tok: Tokenizer) -> Metadata:
    """Everything a reader needs to know besides the weights."""
    shape = [
        ("block_count", U32, c.layers), ("context_length", U32, c.context),
        ("embedding_length", U32, c.hidden), ("feed_forward_length", U32, c.expert_ffn * c.top_k),
        ("attention.head_count", U32, c.heads), ("attention.head_count_kv", U32, c.kv_heads),
        ("attention.key_length", U32, c.head_dim), ("attention.value_length", U32, c.head_dim),
        ("attention.layer_norm_rms_epsilon", F32, c.eps), ("rope.freq_base", F32, c.theta),
        ("rope.dimension_count", U32, c.head_dim), ("vocab_size", U32, c.vocab),
        ("expert_count", U32, c.experts), ("expert_used_count", U32, c.top_k),
        ("expert_feed_forward_length", U32, c.expert_ffn)]
    types = [CONTROL if t in SPECIALS else NORMAL for t in tok.tokens]
    return [
        ("general.architecture", STRING, ARCHITECTURE), ("general.type", STRING, "model"),
        ("general.name", STRING, "Conclave Demo"), ("general.license", STRING, "apache-2.0"),
        ("general.description", STRING, DESCRIPTION),
        ("general.quantization_version", U32, 2), ("general.file_type", U32, FILE_TYPE_Q8_0),
        *((f"{ARCHITECTURE}.{key}", kind, value) for key, kind, value in shape),
        ("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, "qwen2"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, tok.tokens)),
        ("tokenizer.ggml.token_type", ARRAY, (I32, types)),
        ("tokenizer.ggml.merges", ARRAY, (STRING, [f"{a} {b}" for a, b in tok.merges])),
        ("tokenizer.ggml.bos_token_id", U32, tok.pad),
        ("tokenizer.ggml.eos_token_id", U32, tok.end),
        ("tokenizer.ggml.padding_token_id", U32, tok.pad),
        ("tokenizer.ggml.add_bos_token", BOOL, False),
        ("tokenizer.chat_template", STRING, CHAT_TEMPLATE)]


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("checkpoint", type=Path)
    ap.add_argument("--out", type=Path, default=DEMO)
    args = ap.parse_args()
    saved = torch.load(args.checkpoint)
    config: Config = saved["config"]
    tensors = {name: saved["model"][parameter].numpy()
               for name, parameter in parameter_names(config.layers).items()}
    gguf_io.write(args.out, metadata(config, Tokenizer(saved["merges"])), tensors,
                  {name for name in tensors if is_quantised(name)})
    print(f"{args.out}: step {saved['step']}, {saved['seconds'] / 60:.1f} minutes of training, "
          f"{args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
