"""Rotary position embedding: frequencies (plain, linear, YaRN, per-dimension factors), rotation.

Semantics of llama.cpp, whose converters define what the metadata means.
"""
import math
from dataclasses import dataclass
from typing import Any, Callable, Optional

import numpy as np

Array = np.ndarray
Lookup = Callable[..., Any]


@dataclass(frozen=True)
class Rope:
    """Angle per position of each pair, and what cos and sin are multiplied with."""

    frequencies: Array          # (pairs,)
    magnitude: float = 1.0


def magnitude_of(factor: float, weight: float) -> float:
    """YaRN's correction for stretching the context `factor` times."""
    return 1 + 0.1 * weight * math.log(factor) if factor > 1 else 1.0


def _yarn_share(pairs: int, base: float, context: int, fast: float, slow: float) -> Array:
    """Share of the stretched frequency per pair: 0 for fast pairs, 1 for slow, a ramp between.

    A pair that turns `beta` times within the original context sits at index
    dims * ln(context / (2 pi beta)) / (2 ln base).
    """
    def index(beta: float) -> float:
        return 2 * pairs * math.log(context / (2 * math.pi * beta)) / (2 * math.log(base))

    low = max(0, math.floor(index(fast)))
    high = min(2 * pairs - 1, math.ceil(index(slow)))
    return np.clip((np.arange(pairs) - low) / max(0.001, high - low), 0, 1)


def make_rope(get: Lookup, dims: int, factors: Optional[Array], log_multiplier: float) -> Rope:
    """Plan for the first `dims` values of a head.

    `get(key, default)` looks up metadata of the architecture; `factors` is the tensor
    `rope_freqs`; `log_multiplier` is non-zero only for architectures that move YaRN's magnitude
    correction from the rotation into the attention scale, where it also reaches the values
    that are not rotated.
    """
    base = get("rope.freq_base", 10000.0)
    frequencies = base ** (-2.0 * np.arange(dims // 2) / dims)
    if factors is not None:
        frequencies = frequencies / factors
    factor = get("rope.scaling.factor", 0.0) or 1.0
    scaling = get("rope.scaling.type", "linear")
    if scaling == "linear":
        return Rope(frequencies / factor)
    if scaling != "yarn":
        return Rope(frequencies)
    context = get("rope.scaling.original_context_length", get("context_length"))
    share = _yarn_share(dims // 2, base, context, get("rope.scaling.yarn_beta_fast", 32.0),
                        get("rope.scaling.yarn_beta_slow", 1.0))
    mixed = frequencies / factor * share + frequencies * (1 - share)
    magnitude = 1.0 if log_multiplier else magnitude_of(factor, 1.0)
    return Rope(mixed, magnitude * get("rope.scaling.attn_factor", 1.0))


def rotate(x: Array, rope: Rope, halves: bool) -> Array:
    """Rotates x (tokens, heads, dims) by the token's position.

    A pair is (i, i + dims/2) when `halves` is set (NEOX), else (2i, 2i + 1) (NORM).  Values past
    the rotary dimensions stay as they are.
    """
    pairs = len(rope.frequencies)
    angle = np.arange(len(x))[:, None, None] * rope.frequencies
    cos, sin = np.cos(angle) * rope.magnitude, np.sin(angle) * rope.magnitude
    if halves:
        first, second = slice(0, pairs), slice(pairs, 2 * pairs)
    else:
        first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    out = x.copy()
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., first] * sin + x[..., second] * cos
    return out
