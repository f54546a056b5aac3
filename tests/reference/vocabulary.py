"""Tiny vocabularies for the golden models, and encoders for plain lower-case text.

Real tokenizers are tested elsewhere; these only make the models loadable and give the prompts
a text form.  Both kinds share one list of merges, in order of rank.
"""
import re

from gguf_file import Entry, ValueType

MERGES = (
    ("t", "h"), ("th", "e"), (" ", "the"), ("i", "n"), ("e", "r"), ("a", "n"), (" ", "a"),
    ("o", "n"), ("r", "e"), ("an", "d"), (" ", "and"), ("e", "n"), ("o", "r"), (" ", "s"),
    ("o", "u"), ("in", "g"), (" ", "w"), (" ", "o"), (" ", "f"), ("a", "t"), ("i", "s"),
    ("i", "t"), (" ", "e"), ("x", "p"), (" e", "xp"), ("er", "t"), (" ", "t"), (" ", "b"),
)
TEXT = re.compile(r"[a-z]+(?: [a-z]+)*")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' "
    "+ message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6     # token types as GGUF numbers them


def _string(key: str, value: str) -> Entry:
    return Entry("tokenizer." + key, ValueType.STRING, value)


def _uint(key: str, value: int) -> Entry:
    return Entry("tokenizer." + key, ValueType.UINT32, value)


def _flag(key: str, value: bool) -> Entry:
    return Entry("tokenizer." + key, ValueType.BOOL, value)


def _array(key: str, values: list, element: ValueType) -> Entry:
    return Entry("tokenizer." + key, ValueType.ARRAY, values, element)


def _merge_all(symbols: list[str], rank: dict[str, int]) -> list[str]:
    """Joins the neighbours whose union ranks first, leftmost first, until none is known."""
    while True:
        pairs = [(rank[a + b], i) for i, (a, b) in enumerate(zip(symbols, symbols[1:]))
                 if a + b in rank]
        if not pairs:
            return symbols
        _, i = min(pairs)
        symbols[i:i + 2] = [symbols[i] + symbols[i + 1]]


class ByteLevelVocabulary:
    """GPT-2's kind: 256 byte tokens, merges, control tokens; 288 in all."""

    def __init__(self, pre: str) -> None:
        self._pre = pre
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [b for b in range(256) if b not in printable]
        letters = [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]
        self._space = letters[len(printable) + others.index(ord(" "))]
        self._merges = [tuple(part.replace(" ", self._space) for part in pair) for pair in MERGES]
        controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
        self.tokens = letters + ["".join(pair) for pair in self._merges] + controls
        self._types = [NORMAL] * (len(self.tokens) - len(controls)) + [CONTROL] * len(controls)
        self._rank = {"".join(pair): i for i, pair in enumerate(self._merges)}

    def encode(self, text: str) -> list[int]:
        if not TEXT.fullmatch(text):
            raise ValueError(f"only lower-case words are supported: {text!r}")
        ids = []
        for word in re.findall(r" ?[a-z]+", text):
            symbols = _merge_all(list(word.replace(" ", self._space)), self._rank)
            ids += [self.tokens.index(symbol) for symbol in symbols]
        return ids

    def entries(self) -> list[Entry]:
        first_control = self._types.index(CONTROL)
        return [
            _string("ggml.model", "gpt2"), _string("ggml.pre", self._pre),
            _array("ggml.tokens", self.tokens, ValueType.STRING),
            _array("ggml.token_type", self._types, ValueType.INT32),
            _array("ggml.merges", [" ".join(pair) for pair in self._merges], ValueType.STRING),
            _uint("ggml.bos_token_id", first_control),
            _uint("ggml.eos_token_id", first_control + 2),
            _uint("ggml.padding_token_id", first_control + 3), _flag("ggml.add_bos_token", False),
            _string("chat_template", CHAT_TEMPLATE),
        ]


class SentencePieceVocabulary:
    """llama's kind: unknown, begin, end, 256 byte tokens, pieces by score, letters."""

    SPACE = "\u2581"

    def __init__(self) -> None:
        pieces = ["".join(pair).replace(" ", self.SPACE) for pair in MERGES]
        letters = [self.SPACE, *"abcdefghijklmnopqrstuvwxyz"]
        bytes_ = [f"<0x{b:02X}>" for b in range(256)]
        controls = ["<|im_start|>", "<|im_end|>"]
        self.tokens = ["<unk>", "<s>", "</s>", *bytes_, *pieces, *letters, *controls]
        self._types = ([UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256
                       + [NORMAL] * (len(pieces) + len(letters)) + [CONTROL] * 2)
        scored = [-float(i) for i in range(len(pieces) + len(letters))]
        self._scores = [0.0] * 259 + scored + [0.0] * 2
        self._rank = {piece: i for i, piece in enumerate(pieces)}

    def encode(self, text: str) -> list[int]:
        if not TEXT.fullmatch(text):
            raise ValueError(f"only lower-case words are supported: {text!r}")
        symbols = _merge_all(list((" " + text).replace(" ", self.SPACE)), self._rank)
        return [1] + [self.tokens.index(symbol) for symbol in symbols]

    def entries(self) -> list[Entry]:
        return [
            _string("ggml.model", "llama"), _string("ggml.pre", "default"),
            _array("ggml.tokens", self.tokens, ValueType.STRING),
            _array("ggml.scores", self._scores, ValueType.FLOAT32),
            _array("ggml.token_type", self._types, ValueType.INT32),
            _uint("ggml.bos_token_id", 1), _uint("ggml.eos_token_id", 2),
            _uint("ggml.unknown_token_id", 0), _flag("ggml.add_bos_token", True),
            _flag("ggml.add_eos_token", False), _flag("ggml.add_space_prefix", True),
            _string("chat_template", CHAT_TEMPLATE),
        ]
