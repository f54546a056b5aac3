#!/usr/bin/env python3
"""Write golden.json: small vocabularies, and the ids of awkward texts under them.

The ids come from this file's own tokenizer, which is written for being obviously right and shares
nothing with the C++ one: Python's `re` with Unicode categories spelt out from `unicodedata`, the
patterns as the models' authors publish them, and merging by the definition. It has been checked
against ids that llama.cpp gave:

  make_golden.py                          write golden.json beside this file
  make_golden.py --check DIR              compare with DIR/tokenizers.json (DIR as in
                                          CONCLAVE_GOLDEN_DIR), of the vocabularies made there
  make_golden.py --check-real DIR         compare with DIR/tokenizers-real.json

Only the standard library is needed.
"""
import argparse
import collections
import json
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import unicodedata

HERE = pathlib.Path(__file__).resolve().parent

# --------------------------------------------------------------------------
# Patterns
# --------------------------------------------------------------------------
WHITE = [*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]


def as_class(points):
    """The inside of a character class that holds the sorted code points."""
    out, run = [], []
    for p in [*points, None]:
        if run and p == run[1] + 1:
            run[1] = p
            continue
        if run:
            out.append("\\U%08x" % run[0] if run[0] == run[1] else "\\U%08x-\\U%08x" % tuple(run))
        run = [p, p]
    return "".join(out)


def categories():
    points = collections.defaultdict(list)
    for p in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(p))
        points[category].append(p)
        points[category[0]].append(p)
    return {name: as_class(sorted(p)) for name, p in points.items()}


CATEGORIES = categories()
CATEGORIES["White"] = as_class(WHITE)


def compile_pattern(pattern):
    r"""`re` with \p{..}, \s and \S; \p{L-a-z} is the letters except a to z."""
    def category(name):
        if name == "L-a-z":
            return "A-Z" + CATEGORIES["NonAsciiL"]
        if name == "L-A-Z":
            return "a-z" + CATEGORIES["NonAsciiL"]
        return CATEGORIES[name]

    out, inside, i = "", False, 0
    while i < len(pattern):
        c = pattern[i]
        if c != "\\":
            inside = c != "]" if inside else c == "["
            out += c
            i += 1
            continue
        escaped = pattern[i + 1]
        i += 2
        if escaped == "p":
            end = pattern.index("}", i)
            points = category(pattern[i + 1:end])
            i = end + 1
        elif escaped in "sS":
            points = CATEGORIES["White"]
        else:
            out += "\\" + escaped
            continue
        out += points if inside else ("[^" if escaped == "S" else "[") + points + "]"
    return re.compile(out)


CATEGORIES["NonAsciiL"] = as_class([p for p in range(128, sys.maxunicode + 1) if unicodedata.category(chr(p))[0] == "L"])

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SHORT = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
END = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + END
QWEN2 = SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + END
QWEN35 = SHORT + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + END
CASED = r"[^\r\n\p{L}\p{N}]?[\p{L-a-z}]*[\p{L-A-Z}]+%s|[^\r\n\p{L}\p{N}]?[\p{L-a-z}]+[\p{L-A-Z}]*%s"
GPT4O = CASED % (SHORT + "?", SHORT + "?") + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + END
TEKKEN = CASED % ("", "") + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + END
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
DEEPSEEK3 = [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
             r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
             r" ?[\p{P}\p{S}]+[\r\n]*|" + END]
BAILING = (r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
           r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
# Cased letters as DeepSeek lists them are the cased letters of Unicode but for a few rare blocks;
# over the texts below the two are the same.
CASED_LETTERS = r"\s?[\p{Lu}\p{Ll}\p{Lt}]+"
DEEPSEEK_LLM = [r"[\r\n]", CASED_LETTERS, "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
                r"\s+\Z", CJK, r"\p{N}+"]
DEEPSEEK_CODER = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"]

RULES = {
    "default": [r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    "gpt-2": [GPT2], "olmo": [GPT2],
    "falcon": [r"[\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"],
    "starcoder": [r"\p{N}", GPT2],
    "llama-bpe": [LLAMA3], "dbrx": [LLAMA3], "smaug-bpe": [LLAMA3], "glm4": [LLAMA3],
    "qwen2": [QWEN2], "qwen35": [QWEN35],
    "deepseek-llm": DEEPSEEK_LLM, "deepseek-coder": DEEPSEEK_CODER, "deepseek-v3": DEEPSEEK3,
    "gpt-4o": [GPT4O], "tekken": [TEKKEN], "bailingmoe": [BAILING],
}
IGNORE_MERGES = {"llama-bpe", "tekken"}
ADD_BOS = {"llama-bpe", "tekken"}


def split(text, patterns):
    pieces = [text] if text else []
    for pattern in patterns:
        cut = []
        for piece in pieces:
            done = 0
            for match in pattern.finditer(piece):
                cut += [piece[done:match.start()], match.group()]
                done = match.end()
            cut.append(piece[done:])
        pieces = [p for p in cut if p]
    return pieces


# --------------------------------------------------------------------------
# The two models
# --------------------------------------------------------------------------
def byte_alphabet():
    keep = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in keep]
    return {b: chr(b) if b in keep else chr(0x100 + others.index(b)) for b in range(256)}


ALPHABET = byte_alphabet()
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
END_TEXTS = {"<|im_end|>", "<|endoftext|>", "</s>", "<|eot_id|>", "<|end|>", "<｜end▁of▁sentence｜>",
             "<fim_pad>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<｜fim▁hole｜>", "<｜fim▁begin｜>",
             "<｜fim▁end｜>"}


class Tokenizer:
    def __init__(self, metadata):
        get = lambda key, default=None: metadata.get("tokenizer.ggml." + key, default)
        self.model, self.pre = get("model"), get("pre")
        self.tokens = get("tokens")
        self.ids = {t: i for i, t in enumerate(self.tokens)}
        self.types = get("token_type")
        self.ranks = {}
        for rank, line in enumerate(get("merges", [])):
            at = line.index(" ", 1)
            self.ranks.setdefault((line[:at], line[at + 1:]), rank)
        self.scores = get("scores")
        self.bos, self.eos = get("bos_token_id"), get("eos_token_id")
        self.add_bos = get("add_bos_token", self.model == "llama" or self.pre in ADD_BOS)
        self.add_eos = get("add_eos_token", False)
        self.patterns = [compile_pattern(p) for p in RULES[self.pre]] if self.model == "gpt2" else []
        self.phi3 = "phi3" in metadata.get("general.name", "").lower()

    def specials(self, parse_special):
        out = []
        for i, (text, kind) in enumerate(zip(self.tokens, self.types)):
            control = kind in (UNKNOWN, CONTROL) or text in END_TEXTS
            if control and parse_special or kind == USER_DEFINED and not control:
                out.append(i)
        return sorted(out, key=lambda i: -len(self.tokens[i].encode()))

    def fragments(self, text, parse_special):
        parts = [text] if text else []
        for i in self.specials(parse_special):
            strip = self.phi3 and self.tokens[i] not in ("<unk>", "<s>", "<|endoftext|>")
            new = []
            for part in parts:
                while isinstance(part, str) and self.tokens[i] in part:
                    left, part = part.split(self.tokens[i], 1)
                    part = part.lstrip(" \t\n\v\f\r") if strip else part
                    new += [left, i]
                new.append(part)
            parts = [p for p in new if p != ""]
        return parts

    def merge(self, row, best):
        """Joins the pair that `best` puts first, the leftmost of equals, until it knows none."""
        while True:
            pairs = [(best(row[i], row[i + 1]), i) for i in range(len(row) - 1)]
            pairs = [p for p in pairs if p[0] is not None]
            if not pairs:
                return row
            i = min(pairs)[1]
            row[i:i + 2] = [row[i] + row[i + 1]]

    def encode_bpe(self, text):
        ids = []
        for word in split(text, self.patterns):
            spelt = "".join(ALPHABET[b] for b in word.encode())
            if self.pre in IGNORE_MERGES and spelt in self.ids:
                row = [spelt]
            else:
                row = self.merge(list(spelt), lambda a, b: self.ranks.get((a, b)))
            ids += [self.ids[t] for t in row if t in self.ids]
        return ids

    def encode_spm(self, text, after_special):
        text = (" " if after_special else "") + text
        score = lambda a, b: -self.scores[self.ids[a + b]] if a + b in self.ids else None
        ids = []
        for piece in self.merge(list(text.replace(" ", "▁")), score):
            ids += [self.ids[piece]] if piece in self.ids else [self.ids[f"<0x{b:02X}>"] for b in piece.encode()]
        return ids

    def encode(self, text, add_special, parse_special):
        ids = [self.bos] if add_special and self.add_bos else []
        after_special = True
        for part in self.fragments(text, parse_special):
            if isinstance(part, int):
                ids.append(part)
            elif self.model == "gpt2":
                ids += self.encode_bpe(part)
            else:
                ids += self.encode_spm(part, after_special)
            after_special = isinstance(part, int)
        return ids + ([self.eos] if add_special and self.add_eos else [])


# --------------------------------------------------------------------------
# Our vocabularies and texts
# --------------------------------------------------------------------------
CORPUS = """\
A conclave meets behind closed doors; each member speaks on what it knows best, and only then do they vote.
So does a mixture of experts: the router asks two of eight, weighs their answers and moves on to the next word.
Can't we ask all of them? We could, but we'd wait for the slowest. It's the router's job to know whom to ask,
and I'm told that they've learnt it well: you'll see 2 experts of 64 do what 1 large network did in 2023.

struct Pair { int expert; float weight; };   // 16 bytes, 4 of them padding
for (int i = 0; i < 1000; ++i) { total += pairs[i].weight * 0.125f; }
    if (total > 99.5) return "done";
def route(token, k=2):
    return sorted(experts, key=lambda e: -e.score(token))[:k]

Les experts répondent à voix basse; où est passé le café? Die Prüfung dauert länger als üblich, größtenteils.
El año próximo habrá más señales. Žluté květy. Эксперты отвечают тихо, мир слушает. Καλημέρα, κόσμε.
专家们在会议室里等待结果。会議室で専門家が待っている。전문가들이 기다린다. שלום מרحبا नमस्ते สวัสดี 🙂🚀👩‍💻
"""

TEXTS = [
    "", " ", "  ", "      ", "\n", "\r\n\r\n", "\t\tx", " \n \n x", "a\r\nb\r\n\r\nc", "trailing   ", "   leading",
    "The router asks two of eight experts.", "  The  router   asks\n\n\n    twice", "hello world", "Hello, World!",
    "I'm you're he'll WE'VE they'D it's 'tis O'Neil can't ''", "1 12 123 1234 12345 1234567 1,000.50 99.5%",
    "camelCase PascalCase snake_case SCREAMING_CASE HTTPServer2", "x=y+z;a[i]={b:c}; ~a ~ b ~~ `q` $x^2|y",
    "....!!!???---***=== /// <>", "https://example.org/path?q=1&r=2#top", "naïve café größtenteils où",
    "e\u0301 vs \u00e9, a\u0323\u0308b", "Привет, мир! Эксперты", "Καλημέρα ΚΌΣΜΕ", "你好,世界! 专家们 123元",
    "日本語のテキスト、会議室カナ", "전문가들이 기다린다", "नमस्ते สวัสดี مرحبا שלום", "🙂🚀👩\u200d💻🏳️\u200d🌈🇫🇷",
    "Ａ１ ½ ² Ⅳ ①", "\u00a0nbsp\u2003em\u3000ideographic\u200bzero\ufeffbom", "nul\u0000and\u0001control\u007f",
    "<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n", "<|endoftext|>text<|im_end|> after",
    "<s>not</s> <unk> [keep] [keep][keep]", "<|im_start", "a" * 70, "0" * 40, "ab" * 60, "word " * 14,
    "for (int i = 0; i < 10; ++i) {\n        total += i;\n    }\n",
]


def learn(words, limit):
    """The most frequent pairs of {tuple: count}, joined one after the other; ties by text."""
    merges = []
    while len(merges) < limit:
        pairs = collections.Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        joined = collections.Counter()
        for word, n in words.items():
            row, i = [], 0
            while i < len(word):
                step = 2 if word[i:i + 2] == best else 1
                row.append("".join(word[i:i + step]))
                i += step
            joined[tuple(row)] += n
        words = joined
    return merges


def make_bpe():
    words = collections.Counter(tuple(ALPHABET[b] for b in w.encode())
                                for w in split(CORPUS, [compile_pattern(GPT2)]))
    merges = learn(words, 420)
    tokens = sorted(ALPHABET.values()) + list(dict.fromkeys(a + b for a, b in merges))
    types = [NORMAL] * len(tokens)
    tokens += ["Ġexperts.", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "[keep]"]
    types += [NORMAL, CONTROL, CONTROL, CONTROL, USER_DEFINED]
    key = "tokenizer.ggml."
    return {key + "model": "gpt2", key + "tokens": tokens, key + "token_type": types,
            key + "merges": [a + " " + b for a, b in merges], key + "bos_token_id": tokens.index("<|endoftext|>"),
            key + "eos_token_id": tokens.index("<|im_end|>")}


def make_spm():
    words = collections.Counter(tuple(w) for line in CORPUS.splitlines()
                                for w in re.findall(r"▁*[^▁]+", line.replace(" ", "▁")))
    merges = learn(words, 400)
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256
    pieces = list(dict.fromkeys([a + b for a, b in merges] + sorted({c for w in words for c in w if ord(c) < 0x3000})))
    scores = [0.0] * len(tokens) + [-1.0 - i for i in range(len(pieces))] + [0.0, 0.0]
    tokens += pieces + ["<|im_end|>", "[keep]"]
    types += [NORMAL] * len(pieces) + [CONTROL, USER_DEFINED]
    key = "tokenizer.ggml."
    return {key + "model": "llama", key + "tokens": tokens, key + "token_type": types, key + "scores": scores,
            key + "bos_token_id": 1, key + "eos_token_id": 2}


def cases(tokenizer):
    out = []
    for text in TEXTS:
        case = {"text": text, "ids": tokenizer.encode(text, True, True)}
        plain = tokenizer.encode(text, False, False)
        out.append(case if plain == case["ids"] else {**case, "ids_plain": plain})
    return out


def write():
    vocabularies = []
    for metadata, rules in ((make_bpe(), [r for r in RULES if r not in ("olmo", "dbrx", "smaug-bpe")]),
                            (make_spm(), ["default"])):
        entry = {"metadata": metadata, "rules": []}
        for rule in rules:
            tokenizer = Tokenizer({**metadata, "tokenizer.ggml.pre": rule})
            entry["rules"].append({"pre": rule, "cases": cases(tokenizer)})
        vocabularies.append(entry)
    out = HERE / "golden.json"
    text = json.dumps({"vocabularies": vocabularies}, ensure_ascii=False, separators=(",", ":"))
    # A case a line, so that a change shows where it is.
    out.write_text(text.replace('{"text"', '\n{"text"').replace('{"pre"', '\n{"pre"') + "\n")
    print(f"{out}: {out.stat().st_size} bytes")


# --------------------------------------------------------------------------
# Comparison with recorded ids
# --------------------------------------------------------------------------
def read_metadata(path):
    data = pathlib.Path(path).read_bytes()
    at = 16
    formats = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def take(fmt):
        nonlocal at
        value = struct.unpack_from("<" + fmt, data, at)[0]
        at += struct.calcsize("<" + fmt)
        return value

    def take_value(kind):
        nonlocal at
        if kind == 8:
            size = take("Q")
            at += size
            return data[at - size:at].decode("utf-8", "replace")
        if kind == 9:
            element, count = take("I"), take("Q")
            return [take_value(element) for _ in range(count)]
        return take(formats[kind])

    out = {}
    for _ in range(take("Q")):
        key = take_value(8)
        out[key] = take_value(take("I"))
    return out


def compare(folder, name):
    folder = pathlib.Path(folder)
    equal = different = 0
    for vocabulary in json.loads((folder / name).read_text())["vocabs"]:
        with tempfile.TemporaryDirectory() as scratch:
            if "vocab" in vocabulary:
                path = folder.parent / "vocabs" / vocabulary["vocab"]
            else:
                path = pathlib.Path(scratch) / "made.gguf"
                subprocess.run([sys.executable, "-B", folder.parent / "tools" / "make_gguf.py",
                                *vocabulary["make_gguf"].split(), "--out", path], check=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            tokenizer = Tokenizer(read_metadata(path))
        for case in vocabulary["cases"]:
            for key, flag in (("ids", True), ("ids_plain", False)):
                ids = tokenizer.encode(case["text"], flag, flag)
                equal += ids == case[key]
                if ids != case[key]:
                    different += 1
                    print(path.name, tokenizer.pre, key, repr(case["text"]), ids, case[key], sep="\n  ")
    print(f"{name}: {equal} equal, {different} different")
    return different == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", metavar="DIR")
    parser.add_argument("--check-real", metavar="DIR")
    args = parser.parse_args()
    if args.check:
        sys.exit(not compare(args.check, "tokenizers.json"))
    if args.check_real:
        sys.exit(not compare(args.check_real, "tokenizers-real.json"))
    write()


if __name__ == "__main__":
    main()
