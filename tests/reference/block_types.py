"""Decodes and encodes the block types of GGML tensors.

A type stores its values in blocks of fixed size.  Decoding is exact in double precision;
encoding is simple and valid, not the best possible: tests need known values, not quality.
"""
import math
from dataclasses import dataclass
from typing import Callable

import numpy as np

Array = np.ndarray

MXFP4_MAGNITUDES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def _half(raw: Array) -> Array:
    """Two bytes per row -> one double per row, as a column."""
    return np.ascontiguousarray(raw).view("<f2").astype(np.float64)


def _half_bytes(values: Array) -> Array:
    return values.astype("<f2").reshape(-1, 1).view(np.uint8)


def _nibbles(raw: Array) -> Array:
    """Low halves of all bytes first, then the high halves."""
    return np.concatenate([raw & 15, raw >> 4], axis=-1)


def _pack_nibbles(codes: Array) -> Array:
    low, high = np.split(codes.astype(np.uint8), 2, axis=-1)
    return low | (high << 4)


def _ratio(values: Array, scale: Array) -> Array:
    """values / scale with 0 where the scale is 0 (a block of zeros)."""
    return np.divide(values, scale, out=np.zeros_like(values), where=scale != 0)


# --- plain numbers ---------------------------------------------------------------------------
def _decode_f32(blocks: Array) -> Array:
    return blocks.view("<f4").astype(np.float64)


def _encode_f32(values: Array) -> Array:
    return values.astype("<f4").view(np.uint8)


def _decode_bf16(blocks: Array) -> Array:
    wide = blocks.view("<u2").astype("<u4") << 16
    return wide.view("<f4").astype(np.float64)


def _encode_bf16(values: Array) -> Array:
    bits = values.astype("<f4").view("<u4").astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16          # to nearest, ties to even
    return rounded.astype("<u2").view(np.uint8)


# --- blocks of 32 ----------------------------------------------------------------------------
def _decode_q8_0(blocks: Array) -> Array:
    return _half(blocks[:, :2]) * blocks[:, 2:].view(np.int8)


def _encode_q8_0(values: Array) -> Array:
    scale = np.abs(values).max(axis=1, keepdims=True) / 127
    codes = np.rint(_ratio(values, scale)).astype(np.int8)
    return np.hstack([_half_bytes(scale), codes.view(np.uint8)])


def _decode_q4_0(blocks: Array) -> Array:
    return _half(blocks[:, :2]) * (_nibbles(blocks[:, 2:]).astype(np.float64) - 8)


def _encode_q4_0(values: Array) -> Array:
    """The value of largest magnitude gets code 0, that is -8 times the (signed) scale."""
    peak = np.take_along_axis(values, np.abs(values).argmax(axis=1)[:, None], axis=1)
    scale = peak / -8
    codes = np.clip(np.rint(_ratio(values, scale)) + 8, 0, 15)
    return np.hstack([_half_bytes(scale), _pack_nibbles(codes)])


def _decode_mxfp4(blocks: Array) -> Array:
    """One exponent byte (bias 127) and 32 signed 4-bit floats."""
    codes = _nibbles(blocks[:, 1:])
    magnitude = MXFP4_MAGNITUDES[codes & 7]
    scale = np.ldexp(1.0, blocks[:, :1].astype(np.int32) - 127)
    return np.where(codes & 8, -magnitude, magnitude) * scale


def _encode_mxfp4(values: Array) -> Array:
    """The exponent brings the peak into [4, 8); the part above 6 is rounded down to 6."""
    _, exponent = np.frexp(np.abs(values).max(axis=1, keepdims=True))
    exponent = np.clip(exponent - 3, -127, 127)
    scaled = np.ldexp(values, -exponent)
    limits = (MXFP4_MAGNITUDES[1:] + MXFP4_MAGNITUDES[:-1]) / 2
    codes = np.searchsorted(limits, np.abs(scaled))
    codes = np.where((scaled < 0) & (codes > 0), codes | 8, codes)
    return np.hstack([(exponent + 127).astype(np.uint8), _pack_nibbles(codes)])


# --- super-blocks of 256 ---------------------------------------------------------------------
def _unpack_scales(packed: Array) -> tuple[Array, Array]:
    """12 bytes -> 8 scales and 8 minima of 6 bits.

    Entries 0-3 lie in the low 6 bits of bytes 0-3 (scales) and 4-7 (minima); of entries 4-7,
    the low 4 bits share bytes 8-11 and the high 2 bits top up bytes 0-7.
    """
    first, second, shared = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.hstack([first & 63, (shared & 15) | (first >> 6 << 4)])
    minima = np.hstack([second & 63, (shared >> 4) | (second >> 6 << 4)])
    return scales.astype(np.float64), minima.astype(np.float64)


def _pack_scales(scales: Array, minima: Array) -> Array:
    scales, minima = scales.astype(np.uint8), minima.astype(np.uint8)
    first = scales[:, :4] | (scales[:, 4:] >> 4 << 6)
    second = minima[:, :4] | (minima[:, 4:] >> 4 << 6)
    shared = (scales[:, 4:] & 15) | ((minima[:, 4:] & 15) << 4)
    return np.hstack([first, second, shared])


def _affine(blocks: Array, codes: Array) -> Array:
    """Q4_K and Q5_K: d * scale * code - dmin * minimum, per sub-block of 32."""
    scales, minima = _unpack_scales(blocks[:, 4:16])
    step = _half(blocks[:, 0:2]) * scales
    base = _half(blocks[:, 2:4]) * minima
    return (codes.reshape(-1, 8, 32) * step[:, :, None] - base[:, :, None]).reshape(-1, 256)


def _affine_codes(values: Array, levels: int) -> tuple[Array, Array]:
    """16 head bytes and the codes (blocks, 8, 32) of the affine types."""
    parts = values.reshape(-1, 8, 32)
    low = np.minimum(parts.min(axis=2), 0)
    step = (parts.max(axis=2) - low) / levels
    step_unit = (step.max(axis=1, keepdims=True) / 63).astype("<f2").astype(np.float64)
    base_unit = (-low.min(axis=1, keepdims=True) / 63).astype("<f2").astype(np.float64)
    scales = np.clip(np.rint(_ratio(step, step_unit)), 0, 63)
    minima = np.clip(np.rint(_ratio(-low, base_unit)), 0, 63)
    step, base = step_unit * scales, base_unit * minima
    wide_step = np.broadcast_to(step[:, :, None], parts.shape)
    codes = np.rint(_ratio(parts + base[:, :, None], wide_step))
    head = np.hstack([_half_bytes(step_unit), _half_bytes(base_unit), _pack_scales(scales, minima)])
    return head, np.clip(codes, 0, levels).astype(np.uint8)


def _low_nibbles_k(raw: Array) -> Array:
    """128 bytes -> (blocks, 8, 32): each 32 bytes hold two neighbouring sub-blocks."""
    return _nibbles(raw.reshape(-1, 4, 32)).reshape(-1, 8, 32)


def _decode_q4_k(blocks: Array) -> Array:
    return _affine(blocks, _low_nibbles_k(blocks[:, 16:]))


def _encode_q4_k(values: Array) -> Array:
    head, codes = _affine_codes(values, 15)
    return np.hstack([head, _pack_nibbles(codes.reshape(-1, 4, 64)).reshape(-1, 128)])


def _decode_q5_k(blocks: Array) -> Array:
    """The fifth bit of sub-block s is bit s of the 32 bytes after the head."""
    high = (blocks[:, 16:48][:, None, :] >> np.arange(8, dtype=np.uint8)[:, None]) & 1
    return _affine(blocks, _low_nibbles_k(blocks[:, 48:]) | (high << 4))


def _encode_q5_k(values: Array) -> Array:
    head, codes = _affine_codes(values, 31)
    high = np.bitwise_or.reduce((codes >> 4) << np.arange(8, dtype=np.uint8)[:, None], axis=1)
    low = _pack_nibbles((codes & 15).reshape(-1, 4, 64)).reshape(-1, 128)
    return np.hstack([head, high, low])


def _decode_q6_k(blocks: Array) -> Array:
    """Two halves of 128 values; a half is 4 rows of 32: row r takes its low 4 bits from the
    low (r < 2) or high nibbles of 64 bytes and its high 2 bits from bits 2r of 32 bytes."""
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    high = (blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shifts) & 3
    codes = (low | (high << 4)).astype(np.float64).reshape(-1, 16, 16) - 32
    scales = _half(blocks[:, 208:]) * blocks[:, 192:208].view(np.int8)
    return (codes * scales[:, :, None]).reshape(-1, 256)


def _encode_q6_k(values: Array) -> Array:
    parts = values.reshape(-1, 16, 16)
    step = np.abs(parts).max(axis=2) / 31
    unit = (step.max(axis=1, keepdims=True) / 127).astype("<f2").astype(np.float64)
    scales = np.rint(_ratio(step, np.broadcast_to(unit, step.shape)))
    step = np.broadcast_to((unit * scales)[:, :, None], parts.shape)
    codes = (np.clip(np.rint(_ratio(parts, step)), -32, 31) + 32).astype(np.uint8)
    codes = codes.reshape(-1, 2, 4, 32)
    low = _pack_nibbles((codes & 15).reshape(-1, 2, 128)).reshape(-1, 128)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    high = np.bitwise_or.reduce((codes >> 4) << shifts, axis=2).reshape(-1, 64)
    return np.hstack([low, high, scales.astype(np.int8).view(np.uint8), _half_bytes(unit)])


@dataclass(frozen=True)
class BlockType:
    """How many values and bytes one block has, and how to go from one to the other."""

    name: str
    type_id: int
    values: int
    size: int
    decode_blocks: Callable[[Array], Array]
    encode_blocks: Callable[[Array], Array]


BLOCK_TYPES = (
    BlockType("F32", 0, 1, 4, _decode_f32, _encode_f32),
    BlockType("F16", 1, 1, 2, _half, _half_bytes),
    BlockType("Q4_0", 2, 32, 18, _decode_q4_0, _encode_q4_0),
    BlockType("Q8_0", 8, 32, 34, _decode_q8_0, _encode_q8_0),
    BlockType("Q4_K", 12, 256, 144, _decode_q4_k, _encode_q4_k),
    BlockType("Q5_K", 13, 256, 176, _decode_q5_k, _encode_q5_k),
    BlockType("Q6_K", 14, 256, 210, _decode_q6_k, _encode_q6_k),
    BlockType("BF16", 30, 1, 2, _decode_bf16, _encode_bf16),
    BlockType("MXFP4", 39, 32, 17, _decode_mxfp4, _encode_mxfp4),
)
BY_ID = {kind.type_id: kind for kind in BLOCK_TYPES}
BY_NAME = {kind.name: kind for kind in BLOCK_TYPES}


def bytes_of(type_id: int, shape: tuple[int, ...]) -> int:
    """Length in bytes of a tensor."""
    kind = BY_ID[type_id]
    return math.prod(shape) // kind.values * kind.size


def decode(type_id: int, data: bytes, shape: tuple[int, ...]) -> Array:
    """Tensor bytes -> doubles, rows last: the numpy shape is the file's shape reversed."""
    kind = BY_ID[type_id]
    blocks = np.frombuffer(data, np.uint8).reshape(-1, kind.size)
    return kind.decode_blocks(blocks).reshape(shape[::-1])


def encode(name: str, values: Array) -> bytes:
    """Doubles -> tensor bytes of the type called `name`."""
    kind = BY_NAME[name]
    return kind.encode_blocks(np.asarray(values, np.float64).reshape(-1, kind.values)).tobytes()
