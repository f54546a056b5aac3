"""A byte-level BPE tokenizer: training, encoding, decoding, and the chat template around it.

GPT-2's byte alphabet and Qwen2's pre-tokenizer.  One rule is ours: no merge has a capital letter
on its right side, so words in capitals are spelled letter by letter and letter tasks are learnable.
"""

import re
from collections import Counter
from typing import Iterable

# Qwen2's pattern with \p{L} and \p{N} narrowed to ASCII, which is all that is trained on.
PIECE = re.compile(
    r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]|"
    r" ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}")


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for every byte value."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shifted = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(shifted)) for b in range(256)]


ALPHABET = byte_alphabet()
BYTES = {c: b for b, c in enumerate(ALPHABET)}


def _symbols(piece: str) -> tuple[str, ...]:
    return tuple(ALPHABET[b] for b in piece.encode())


def _merge(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    for s in symbols:
        if out and (out[-1], s) == pair:
            out[-1] += s
        else:
            out.append(s)
    return tuple(out)


def train_merges(texts: Iterable[str], count: int) -> list[tuple[str, str]]:
    """Up to `count` merges, most frequent pair first (ties by the pair itself)."""
    words = Counter(_symbols(p) for text in texts for p in PIECE.findall(text))
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, n in words.items():
            for a, b in zip(word, word[1:]):
                if not "A" <= b[0] <= "Z":
                    pairs[a, b] += n
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        merged: Counter[tuple[str, str]] = Counter()
        for word, n in words.items():
            merged[_merge(word, best)] += n
        words = merged
    return merges


class Tokenizer:
    """Text to token ids and back, as a `gpt2` tokenizer with pre-tokenizer `qwen2` does it."""

    def __init__(self, merges: list[tuple[str, str]]) -> None:
        self.merges = merges
        self.tokens = ALPHABET + [a + b for a, b in merges] + SPECIALS
        self._id = {t: i for i, t in enumerate(self.tokens)}
        self._rank = {pair: i for i, pair in enumerate(merges)}
        self._cache: dict[str, list[int]] = {}
        self.pad, self.start, self.end = (self._id[s] for s in SPECIALS)

    def _piece(self, piece: str) -> list[int]:
        if piece not in self._cache:
            symbols = _symbols(piece)
            while len(symbols) > 1:
                best = min(zip(symbols, symbols[1:]), key=lambda p: self._rank.get(p, 1 << 30))
                if best not in self._rank:
                    break
                symbols = _merge(symbols, best)
            if len(self._cache) > 100_000:
                self._cache.clear()
            self._cache[piece] = [self._id[s] for s in symbols]
        return self._cache[piece]

    def encode(self, text: str) -> list[int]:
        """Ids of plain text (special tokens are not recognised in it)."""
        return [i for piece in PIECE.findall(text) for i in self._piece(piece)]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, special tokens left out."""
        symbols = "".join(self.tokens[i] for i in ids if i < self.pad)
        return bytes(BYTES[c] for c in symbols).decode("utf-8", "replace")

    def message(self, role: str, content: str) -> list[int]:
        """One message as the chat template renders it."""
        return [self.start, *self.encode(f"{role}\n{content}"), self.end, *self.encode("\n")]

    def prompt(self, question: str) -> list[int]:
        """A user's question and the opening of the answer."""
        return self.message("user", question) + self.opening()

    def opening(self) -> list[int]:
        """What `add_generation_prompt` appends."""
        return [self.start, *self.encode("assistant\n")]
