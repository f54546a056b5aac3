#!/usr/bin/env python3
"""Train the demo model.

    train.py --out DIR                     from the start
    train.py --out DIR --resume            go on from DIR/checkpoint.pt

Everything drawn is a pure function of the seed and the step, so a resumed run continues exactly.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import tasks
from bpe import Tokenizer, train_merges
from model import Config, Layout, Model

SEED = 20261121
MERGES = 253
PER_KIND = 134
HELD_OUT = Path(__file__).with_name("heldout.jsonl")
BATCH = 256                # questions a step
CONVERSATION_EVERY = 8     # every eighth batch holds conversations of TURNS questions
TURNS = 3
SYSTEM = ["You are a helpful assistant.", "You are Conclave Demo.", "Answer briefly."]
PEAK, WARMUP, CLIP = 2e-3, 300, 1.0
DECAY, BETAS, BALANCE = 0.05, (0.9, 0.98), 0.01
REPORT, EVALUATE = 50, 500

Row = tuple[list[int], list[int]]  # token ids; places whose next token is answered for


def make_tokenizer() -> Tokenizer:
    """The tokenizer, trained on the text of the first training questions."""
    rng = random.Random(f"bpe/{SEED}")
    problems = [tasks.draw_training(rng) for _ in range(20_000)]
    return Tokenizer(train_merges(
        [text for p in problems for text in (f"user\n{p.question}", f"assistant\n{p.answer}")]
        + [f"system\n{s}" for s in SYSTEM] * 50, MERGES))


def make_row(tok: Tokenizer, problems: list[tasks.Problem], system: str = "") -> Row:
    """A rendered conversation; only the answers, with their end mark, are learnt."""
    ids = tok.message("system", system) if system else []
    places: list[int] = []
    for p in problems:
        ids += tok.prompt(p.question)
        answer = tok.encode(p.answer) + [tok.end]
        places += range(len(ids) - 1, len(ids) - 1 + len(answer))
        ids += answer + tok.encode("\n")
    return ids[:places[-1] + 2], places


def training_rows(tok: Tokenizer, step: int) -> list[Row]:
    """The batch of a step."""
    talk = step % CONVERSATION_EVERY == CONVERSATION_EVERY - 1
    rows = []
    for i in range(BATCH // TURNS if talk else BATCH):
        rng = random.Random(f"{SEED}/{step}/{i}")
        problems = [tasks.draw_training(rng) for _ in range(TURNS if talk else 1)]
        system = rng.choice(SYSTEM) if talk and rng.random() < 0.5 else ""
        rows.append(make_row(tok, problems, system))
    return rows


def pack(rows: list[Row]) -> tuple[Tensor, Layout, Tensor, Tensor]:
    """-> packed tokens, their layout, the places of the answers, the right tokens there"""
    ids: list[int] = []
    wanted: list[int] = []
    for row, places in rows:
        wanted += [len(ids) + p for p in places]
        ids += row
    tokens, at = torch.tensor(ids), torch.tensor(wanted)
    return tokens, Layout([len(row) for row, _ in rows]), at, tokens[at + 1]


@torch.no_grad()
def held_out_accuracy(model: Model, tok: Tokenizer,
                      problems: list[tasks.Problem]) -> dict[str, float]:
    """Share of questions per kind whose every answer token is the most likely one, given the
    ones before: the same as exact match of greedy decoding, in one pass."""
    right: dict[str, list[bool]] = {}
    for start in range(0, len(problems), 402):
        some = problems[start:start + 402]
        rows = [make_row(tok, [p]) for p in some]
        tokens, layout, wanted, answers = pack(rows)
        hits = (model(tokens, layout, wanted)[0].argmax(-1) == answers).split(
            [len(places) for _, places in rows])
        for p, h in zip(some, hits):
            right.setdefault(p.kind, []).append(bool(h.all()))
    return {kind: sum(r) / len(r) for kind, r in right.items()}


def learning_rate(step: int, steps: int, decay_steps: int) -> float:
    """Warm up, hold, then fall to zero along a straight line over the last `decay_steps`."""
    return PEAK * min((step + 1) / WARMUP, 1.0, (steps - step) / decay_steps)


def write_held_out(problems: list[tasks.Problem]) -> None:
    """heldout.jsonl, the questions that are kept from training."""
    lines = [json.dumps({"kind": p.kind, "question": p.question, "answer": p.answer}) + "\n"
             for p in problems]
    HELD_OUT.write_text("".join(lines), encoding="utf-8")


def show(step: int, steps: int, loss: float, started: float, done: int) -> None:
    """A bar on a terminal, a line now and then elsewhere."""
    pace = (time.time() - started) / max(done, 1)
    text = f"step {step}/{steps}  loss {loss:.4f}  {pace * 1000:.0f} ms/step  " \
           f"{pace * (steps - step) / 60:.1f} min left"
    if sys.stdout.isatty():
        full = 30 * step // steps
        print(f"\r[{'#' * full}{'.' * (30 - full)}] {text} ", end="", flush=True)
    else:
        print(text, flush=True)


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    ap.add_argument("--resume", action="store_true", help="go on from the checkpoint there")
    ap.add_argument("--steps", type=int, default=6_400, help="length of the whole run")
    ap.add_argument("--decay-steps", type=int, default=3_400,
                    help="last steps, over which the learning rate falls to zero")
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / "checkpoint.pt"
    problems = list(tasks.held_out_set(PER_KIND, SEED))
    write_held_out(problems)

    tok = make_tokenizer()
    model = Model(Config(vocab=len(tok.tokens)))
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": DECAY},
                                   {"params": vectors, "weight_decay": 0.0}],
                                  lr=PEAK, betas=BETAS, foreach=True)
    first, seconds = 0, 0.0
    if args.resume:
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first, seconds = saved["step"], saved["seconds"]
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, "
          f"{len(tok.tokens)} tokens, step {first} of {args.steps}", flush=True)

    started = time.time()
    mean_loss = 0.0
    for step in range(first, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.decay_steps)
        tokens, layout, wanted, answers = pack(training_rows(tok, step))
        logits, _, balance = model(tokens, layout, wanted)
        loss = F.cross_entropy(logits, answers)
        optimizer.zero_grad(set_to_none=True)
        (loss + BALANCE * balance).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        mean_loss += (loss.item() - mean_loss) / ((step - first) % REPORT + 1)

        done = step + 1
        if done % REPORT == 0:
            show(done, args.steps, mean_loss, started, done - first)
        if done % EVALUATE == 0 or done == args.steps:
            by_kind = held_out_accuracy(model, tok, problems)
            print(f"\nheld-out {100 * sum(by_kind.values()) / len(by_kind):.2f} %  balance "
                  f"{balance.item():.3f}  "
                  + "  ".join(f"{k} {100 * v:.1f}" for k, v in by_kind.items()), flush=True)
            spent = seconds + time.time() - started
            scratch = checkpoint.with_suffix(".tmp")
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                        "config": model.c, "merges": tok.merges, "step": done,
                        "seconds": spent}, scratch)
            scratch.replace(checkpoint)


if __name__ == "__main__":
    main()
