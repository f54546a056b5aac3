"""The questions: one generator per kind, and the split into trained and held-out content.

A problem has a *content* (the operand pair, the word, the number) and a *phrasing*.  The split
looks only at the content, so a held-out problem was never trained in any phrasing.
"""

import hashlib
import random
from dataclasses import dataclass
from typing import Callable, Iterator

HELD_OUT_SHARE = 0.10
CONSONANTS, VOWELS = "BCDFGHJKLMNPQRSTVWXYZ", "AEIOU"
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August",
          "September", "October", "November", "December"]
ROMAN_MAX = 399
ROMAN_PARTS = [(100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"),
               (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]
# (large unit, small unit, factor, largest number of large units)
UNITS = [("metres", "centimetres", 100, 99), ("kilograms", "grams", 1000, 99),
         ("kilometres", "metres", 1000, 99), ("litres", "millilitres", 1000, 99),
         ("centimetres", "millimetres", 10, 99), ("euros", "cents", 100, 99)]
GREETINGS = ["Hello!", "Hi!", "Hello, who are you?", "Who are you?", "What can you do?", "Help"]
GREETING_ANSWER = "I am Conclave Demo. Ask me about numbers, letters, days or units."


@dataclass(frozen=True)
class Problem:
    """A question with its answer; `content` is what the split looks at."""

    kind: str
    content: str
    question: str
    answer: str


def _number(rng: random.Random, digits: int) -> int:
    """A number with up to `digits` digits, every length equally likely but the longest twice."""
    n = min(rng.randint(1, digits + 1), digits)
    return rng.randint(10 ** (n - 1) if n > 1 else 0, 10 ** n - 1)


def _word(rng: random.Random, shortest: int, longest: int) -> str:
    """Capital letters: half of the words are pronounceable, half are plain random letters."""
    n = rng.randint(shortest, longest)
    if rng.random() < 0.5:
        first = rng.random() < 0.7
        return "".join(rng.choice(CONSONANTS if (i % 2 == 0) == first else VOWELS)
                       for i in range(n))
    return "".join(rng.choices(CONSONANTS + VOWELS, k=n))


def addition(rng: random.Random) -> Problem:
    """a + b, up to three digits each; (a, b) and (b, a) are one content."""
    a, b = _number(rng, 3), _number(rng, 3)
    text = rng.choice(["What is {} + {}?", "{} + {} =", "Add {} and {}.", "Calculate {} plus {}.",
                       "What is the sum of {} and {}?", "How much is {} plus {}?"])
    return Problem("addition", f"{min(a, b)} {max(a, b)}", text.format(a, b), str(a + b))


def subtraction(rng: random.Random) -> Problem:
    """a - b with a >= b, up to three digits."""
    a, b = _number(rng, 3), _number(rng, 3)
    a, b = max(a, b), min(a, b)
    text, swapped = rng.choice([
        ("What is {} - {}?", False), ("{} - {} =", False), ("Calculate {} minus {}.", False),
        ("How much is {} minus {}?", False), ("Subtract {} from {}.", True)])
    return Problem("subtraction", f"{a} {b}", text.format(*((b, a) if swapped else (a, b))),
                   str(a - b))


def reversal(rng: random.Random) -> Problem:
    """Spell a word of three to seven letters backwards."""
    word = _word(rng, 3, 7)
    text = rng.choice(["Reverse {}.", "Reverse the word {}.", "Reverse the letters of {}.",
                       "Spell {} backwards.", "What is {} spelled backwards?",
                       "Write {} backwards."])
    return Problem("reversal", word, text.format(word), word[::-1])


def sorting(rng: random.Random) -> Problem:
    """Sort three to six digits (either way) or letters; all orders of them are one content."""
    if rng.random() < 0.4:
        word = "".join(rng.choices(CONSONANTS + VOWELS, k=rng.randint(3, 6)))
        text = rng.choice(["Sort the letters of {}.", "Put the letters of {} in order.",
                           "Put the letters of {} in alphabetical order.",
                           "Sort the letters of {} alphabetically."])
        in_order = "".join(sorted(word))
        return Problem("sorting", in_order, text.format(word), in_order)
    digits = "".join(rng.choices("0123456789", k=rng.randint(3, 6)))
    text, down = rng.choice([
        ("Sort the digits of {}.", False), ("Put the digits of {} in order.", False),
        ("Sort the digits {} from smallest to largest.", False),
        ("Sort the digits of {} in ascending order.", False),
        ("Sort the digits {} from largest to smallest.", True),
        ("Sort the digits of {} in descending order.", True)])
    in_order = "".join(sorted(digits))
    return Problem("sorting", in_order, text.format(digits), in_order[::-1] if down else in_order)


def counting(rng: random.Random) -> Problem:
    """How often a letter occurs in a word of four to nine letters; the word is the content."""
    letters = rng.sample(CONSONANTS + VOWELS, rng.randint(2, 6))
    word = "".join(rng.choices(letters, k=rng.randint(4, 9)))
    letter = rng.choice(letters)
    text = rng.choice(["How many times does {0} appear in {1}?", "Count the letter {0} in {1}.",
                       "How many times does the letter {0} appear in {1}?",
                       "How often does {0} occur in {1}?", "How many {0} are in {1}?",
                       "How many letters {0} are in {1}?"])
    return Problem("counting", word, text.format(letter, word), str(word.count(letter)))


def comparison(rng: random.Random) -> Problem:
    """The larger or smaller of two different numbers below 1,000; the content is the pair."""
    a = _number(rng, 3)
    b = a
    while b == a:
        if rng.random() < 0.5:  # close calls: differ from one digit on
            text = str(a)
            cut = rng.randrange(len(text))
            b = int(text[:cut] + "".join(rng.choices("0123456789", k=len(text) - cut)))
        else:
            b = _number(rng, 3)
    a, b = rng.choice([(a, b), (b, a)])
    text, pick = rng.choice([
        ("Which is larger, {} or {}?", max), ("Which number is bigger, {} or {}?", max),
        ("What is the larger of {} and {}?", max), ("Which is greater: {} or {}?", max),
        ("Which is smaller, {} or {}?", min), ("What is the smaller of {} and {}?", min)])
    return Problem("comparison", f"{min(a, b)} {max(a, b)}", text.format(a, b), str(pick(a, b)))


def sequence(rng: random.Random) -> Problem:
    """Name what comes next: one to five days, months or numbers, forwards or backwards."""
    unit = rng.choice(["day", "month", "number"])
    sign, steps = rng.choice([1, -1]), rng.randint(1, 5)
    if unit == "number":
        at = rng.randint(5, 199)
        start, answer = str(at), [str(at + sign * i) for i in range(1, steps + 1)]
    else:
        names = WEEKDAYS if unit == "day" else MONTHS
        at = rng.randrange(len(names))
        start = names[at]
        answer = [names[(at + sign * i) % len(names)] for i in range(1, steps + 1)]
    way = "after" if sign > 0 else "before"
    if steps == 1:
        text = rng.choice(["What {unit} comes {way} {start}?", "Which {unit} comes {way} {start}?",
                           "Name the {unit} {way} {start}.", "What {unit} is {way} {start}?"])
    else:
        text = rng.choice(["Name the {n} {unit}s {way} {start}.",
                           "List the {n} {unit}s {way} {start}.",
                           "What are the {n} {unit}s {way} {start}?",
                           "Which {n} {unit}s come {way} {start}?"])
    question = text.format(unit=unit, n=steps, start=start, way=way)
    return Problem("sequence", f"{unit} {sign} {steps} {start}", question, ", ".join(answer))


def units(rng: random.Random) -> Problem:
    """Convert a whole number between two units; content: the pair, the direction, the number."""
    which = rng.randrange(len(UNITS))
    large, small, factor, most = UNITS[which]
    count = rng.randint(1, most)
    source, target, value, answer = large, small, count, count * factor
    if rng.random() < 0.5:
        source, target, value, answer = small, large, answer, count
    text = rng.choice(["Convert {v} {s} to {t}.", "How many {t} are {v} {s}?",
                       "How many {t} are in {v} {s}?", "What is {v} {s} in {t}?",
                       "Express {v} {s} in {t}.", "{v} {s} is how many {t}?"])
    shown = source[:-1] if value == 1 else source
    return Problem("units", f"{which} {source} {count}", text.format(v=value, s=shown, t=target),
                   str(answer))


def to_roman(number: int) -> str:
    """Roman numeral of a number below 400."""
    out = ""
    for value, letters in ROMAN_PARTS:
        out += letters * (number // value)
        number %= value
    return out


def roman(rng: random.Random) -> Problem:
    """Roman numerals up to 399, both ways; the number is the content of both directions."""
    number = rng.randint(1, ROMAN_MAX)
    if rng.random() < 0.5:
        text = rng.choice(["Write {} in Roman numerals.", "What is {} in Roman numerals?",
                           "Convert {} to Roman numerals.", "Give the Roman numeral for {}."])
        return Problem("roman", str(number), text.format(number), to_roman(number))
    text = rng.choice(["What number is {}?", "What is the value of {}?",
                       "Convert the Roman numeral {} to a number.",
                       "What number is the Roman numeral {}?"])
    return Problem("roman", str(number), text.format(to_roman(number)), str(number))


KINDS: dict[str, Callable[[random.Random], Problem]] = {
    f.__name__: f for f in (addition, subtraction, reversal, sorting, counting, comparison,
                            sequence, units, roman)}
# How often training draws each kind; the harder ones more often.
WEIGHTS = {"addition": 2.0, "subtraction": 2.5, "reversal": 0.8, "sorting": 1.2, "counting": 1.0,
           "comparison": 1.2, "sequence": 1.0, "units": 0.6, "roman": 0.8}
GREETING_WEIGHT = 0.05


def is_held_out(problem: Problem) -> bool:
    """Whether the content of this problem is kept away from training."""
    digest = hashlib.sha256(f"{problem.kind}|{problem.content}".encode()).digest()
    return int.from_bytes(digest[:4], "little") < HELD_OUT_SHARE * 2 ** 32


def _casual(question: str, rng: random.Random) -> str:
    """Sometimes without the capital at the start or the mark at the end, as people write."""
    first_word = question.split(" ", 1)[0]
    if rng.random() < 0.15 and not first_word.isupper():
        question = question[0].lower() + question[1:]
    if rng.random() < 0.15:
        question = question.rstrip(".?")
    return question


def draw(kind: str, rng: random.Random, held_out: bool) -> Problem:
    """A problem of a kind from the wanted side of the split."""
    while True:
        p = KINDS[kind](rng)
        if is_held_out(p) == held_out:
            return Problem(p.kind, p.content, _casual(p.question, rng), p.answer)


def draw_training(rng: random.Random) -> Problem:
    """A training problem of a kind drawn by WEIGHTS, now and then a greeting."""
    kinds = [*WEIGHTS, "greeting"]
    kind = rng.choices(kinds, [*WEIGHTS.values(), GREETING_WEIGHT])[0]
    if kind == "greeting":
        return Problem(kind, "", _casual(rng.choice(GREETINGS), rng), GREETING_ANSWER)
    return draw(kind, rng, held_out=False)


def held_out_set(per_kind: int, seed: int) -> Iterator[Problem]:
    """`per_kind` different held-out questions of every kind."""
    for kind in KINDS:
        rng = random.Random(f"held-out/{seed}/{kind}")
        seen: set[str] = set()
        while len(seen) < per_kind:
            p = draw(kind, rng, held_out=True)
            if p.question not in seen:
                seen.add(p.question)
                yield p
