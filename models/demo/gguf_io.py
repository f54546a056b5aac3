"""Just enough GGUF (version 3) to write this model and read it back: F32 and Q8_0 tensors."""

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10
SCALARS = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q"}
TYPE_F32, TYPE_Q8_0 = 0, 8
BLOCK, BLOCK_BYTES = 32, 34
ALIGNMENT = 32

Metadata = list[tuple[str, int, Any]]  # key, type, value; an ARRAY's value is (type, elements)


def to_q8_0(x: np.ndarray) -> np.ndarray:
    """Blocks of 32 weights: an f16 scale and 32 signed bytes."""
    blocks = x.reshape(-1, BLOCK).astype(np.float32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    scaled = blocks * inverse
    rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))  # half away from zero
    return np.hstack([scale.astype("<f2").view(np.uint8), rounded.astype(np.int8).view(np.uint8)])


def from_q8_0(raw: np.ndarray) -> np.ndarray:
    """The weights that the blocks stand for."""
    blocks = raw.reshape(-1, BLOCK_BYTES)
    scale = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
    return (scale * blocks[:, 2:].view(np.int8)).reshape(-1)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _string(value)
    if kind == ARRAY:
        element, items = value
        return struct.pack("<IQ", element, len(items)) + b"".join(
            _value(element, item) for item in items)
    return struct.pack(SCALARS[kind], value)


def write(path: Path, metadata: Metadata, tensors: dict[str, np.ndarray],
          quantised: set[str]) -> None:
    """Write a GGUF file; the tensors named in `quantised` become Q8_0, the others stay F32."""
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    head += [_string(key) + struct.pack("<I", kind) + _value(kind, value)
             for key, kind, value in metadata]
    body, offset = [], 0
    for name, x in tensors.items():
        q8 = name in quantised
        data = to_q8_0(x).tobytes() if q8 else x.astype("<f4").tobytes()
        # GGUF counts dimensions from the contiguous one outwards.
        head.append(_string(name) + struct.pack(f"<I{x.ndim}Q", x.ndim, *x.shape[::-1])
                    + struct.pack("<IQ", TYPE_Q8_0 if q8 else TYPE_F32, offset))
        body.append(data + bytes(-len(data) % ALIGNMENT))
        offset += len(body[-1])
    header = b"".join(head)
    path.write_bytes(header + bytes(-len(header) % ALIGNMENT) + b"".join(body))


class _Reader:
    """A place in the bytes of a file."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def numbers(self, fmt: str) -> tuple[Any, ...]:
        values = struct.unpack_from(fmt, self.data, self.at)
        self.at += struct.calcsize(fmt)
        return values

    def string(self) -> str:
        size, = self.numbers("<Q")
        self.at += size
        return self.data[self.at - size:self.at].decode()

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            element, count = self.numbers("<IQ")
            return [self.value(element) for _ in range(count)]
        return self.numbers(SCALARS[kind])[0]


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """-> metadata and tensors (as float32) of a file that `write` wrote"""
    r = _Reader(path.read_bytes())
    magic, version, tensor_count, key_count = r.numbers("<4sIQQ")
    if magic != b"GGUF" or version != 3:
        raise ValueError(f"{path} is not a GGUF file of version 3")
    metadata = {}
    for _ in range(key_count):
        key = r.string()
        metadata[key] = r.value(r.numbers("<I")[0])
    infos = []
    for _ in range(tensor_count):
        name = r.string()
        shape = r.numbers(f"<{r.numbers('<I')[0]}Q")[::-1]
        infos.append((name, shape, *r.numbers("<IQ")))
    base = r.at + -r.at % ALIGNMENT
    tensors = {}
    for name, shape, kind, offset in infos:
        count = math.prod(shape)
        if kind == TYPE_Q8_0:
            size = count // BLOCK * BLOCK_BYTES
            flat = from_q8_0(np.frombuffer(r.data, np.uint8, size, base + offset))
        else:
            flat = np.frombuffer(r.data, "<f4", count, base + offset)
        tensors[name] = flat.reshape(shape)
    return metadata, tensors
