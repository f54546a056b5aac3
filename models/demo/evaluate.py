#!/usr/bin/env python3
"""Ask the GGUF file every held-out question (greedy decoding) and count the right answers.

    evaluate.py                 accuracy per kind of question
    evaluate.py --experts       also which experts the kinds use
    evaluate.py --ask "What is 12 + 30?"
"""

import argparse
import json
from collections import Counter
from math import log2
from pathlib import Path

import torch

import gguf_io
from bpe import Tokenizer
from export_gguf import ARCHITECTURE, DEMO, parameter_names
from model import Config, Layout, Model

HELD_OUT = Path(__file__).with_name("heldout.jsonl")
LONGEST_ANSWER = 40


def load(path: Path) -> tuple[Model, Tokenizer]:
    """The model with its dequantised weights, and the tokenizer, both from the file alone."""
    keys, tensors = gguf_io.read(path)

    def key(name: str) -> float:
        return keys[f"{ARCHITECTURE}.{name}"]

    config = Config(
        vocab=len(keys["tokenizer.ggml.tokens"]), hidden=key("embedding_length"),
        layers=key("block_count"), heads=key("attention.head_count"),
        kv_heads=key("attention.head_count_kv"), head_dim=key("attention.key_length"),
        experts=key("expert_count"), top_k=key("expert_used_count"),
        expert_ffn=key("expert_feed_forward_length"), context=key("context_length"),
        eps=key("attention.layer_norm_rms_epsilon"), theta=key("rope.freq_base"))
    model = Model(config)
    model.load_state_dict({parameter: torch.from_numpy(tensors[name].copy())
                           for name, parameter in parameter_names(config.layers).items()})
    merges = [tuple(m.split(" ")) for m in keys["tokenizer.ggml.merges"]]
    return model.eval(), Tokenizer(merges)


@torch.no_grad()
def answer_all(model: Model, tok: Tokenizer, questions: list[str]) -> list[list[int]]:
    """The greedy answer to every question, without its end mark."""
    prompts = [tok.prompt(q) for q in questions]
    answers: list[list[int]] = [[] for _ in questions]
    waiting = list(range(len(questions)))
    for _ in range(LONGEST_ANSWER):
        rows = [prompts[i] + answers[i] for i in waiting]
        lengths = [len(r) for r in rows]
        last = torch.tensor(lengths).cumsum(0) - 1
        tokens = torch.tensor([t for r in rows for t in r])
        best = model(tokens, Layout(lengths), last)[0].argmax(-1).tolist()
        for i, token in zip(waiting, best):
            if token != tok.end:
                answers[i].append(token)
        waiting = [i for i, token in zip(waiting, best) if token != tok.end]
        if not waiting:
            break
    return answers


@torch.no_grad()
def expert_use(model: Model, tok: Tokenizer, examples: list[dict[str, str]],
               answers: list[list[int]]) -> list[dict[str, Counter[int]]]:
    """Per layer and kind: how often each expert came first where the answer's tokens are made."""
    rows = [tok.prompt(e["question"]) + a for e, a in zip(examples, answers)]
    lengths = [len(r) for r in rows]
    tokens = torch.tensor([t for r in rows for t in r])
    _, chosen, _ = model(tokens, Layout(lengths), torch.tensor([0]))
    use: list[dict[str, Counter[int]]] = [{} for _ in chosen]
    for layer, ids in enumerate(chosen):
        for e, a, first in zip(examples, answers, ids[:, 0].split(lengths)):
            use[layer].setdefault(e["kind"], Counter()).update(first[-len(a) - 1:].tolist())
    return use


def mutual_information(table: dict[str, Counter[int]]) -> float:
    """Normalised to 0..1: how much the expert tells of the kind and the kind of the expert,
    every kind counted equally."""
    joint = {(k, e): n / c.total() / len(table) for k, c in table.items() for e, n in c.items()}
    by_kind, by_expert = Counter(), Counter()
    for (k, e), p in joint.items():
        by_kind[k] += p
        by_expert[e] += p

    def entropy(share: dict) -> float:
        return -sum(p * log2(p) for p in share.values() if p > 0)

    h_kind, h_expert = entropy(by_kind), entropy(by_expert)
    return 2 * (h_kind + h_expert - entropy(joint)) / (h_kind + h_expert)


def show_experts(use: list[dict[str, Counter[int]]]) -> None:
    """The favourite expert of each kind in each layer with its share, and the layer's summary."""
    print("\n" + f"{'favourite expert':16s}" + "".join(f"  layer {i}  " for i in range(len(use))))
    for kind in use[0]:
        cells = [layer[kind].most_common(1)[0] + (layer[kind].total(),) for layer in use]
        print(f"{kind:16s}"
              + "".join(f"  {e:2d}  {100 * n / total:3.0f} %" for e, n, total in cells))
    print(f"{'mutual info':16s}" + "".join(f"  {mutual_information(t):9.2f}" for t in use))


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", type=Path, default=DEMO)
    ap.add_argument("--experts", action="store_true", help="which experts the kinds use")
    ap.add_argument("--wrong", action="store_true", help="list the wrong answers")
    ap.add_argument("--ask", metavar="QUESTION", help="answer one question and stop")
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    model, tok = load(args.model)
    if args.ask:
        print(tok.decode(answer_all(model, tok, [args.ask])[0]))
        return

    examples = [json.loads(line) for line in HELD_OUT.read_text(encoding="utf-8").splitlines()]
    answers = answer_all(model, tok, [e["question"] for e in examples])
    right, asked = Counter(), Counter()
    for e, ids in zip(examples, answers):
        asked[e["kind"]] += 1
        right[e["kind"]] += tok.decode(ids) == e["answer"]
        if args.wrong and tok.decode(ids) != e["answer"]:
            print(f"{e['question']}  {tok.decode(ids)}  (right: {e['answer']})")
    for kind, n in asked.items():
        print(f"{kind:16s}{right[kind]:5d} of {n:5d}  {100 * right[kind] / n:6.2f} %")
    print(f"{'all':16s}{right.total():5d} of {asked.total():5d}  "
          f"{100 * right.total() / asked.total():6.2f} %")
    if args.experts:
        show_experts(expert_use(model, tok, examples, answers))


if __name__ == "__main__":
    main()
