"""Reads and writes GGUF v3 files: typed metadata, then tensors at aligned offsets.

Knows nothing about block types: a tensor is a name, a shape, a type number and bytes.
Shapes are kept in file order, so shape[0] is the contiguous dimension.
"""
import re
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Callable, NamedTuple

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32
SizeOf = Callable[[int, tuple[int, ...]], int]      # (type number, shape) -> bytes


class ValueType(IntEnum):
    """Metadata value types, numbered as in the file."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


SCALAR_FORMAT = {
    ValueType.UINT8: "B", ValueType.INT8: "b", ValueType.UINT16: "H", ValueType.INT16: "h",
    ValueType.UINT32: "I", ValueType.INT32: "i", ValueType.FLOAT32: "f", ValueType.BOOL: "?",
    ValueType.UINT64: "Q", ValueType.INT64: "q", ValueType.FLOAT64: "d",
}


class Entry(NamedTuple):
    """One metadata entry; `element` is the element type when `kind` is ARRAY."""

    key: str
    kind: ValueType
    value: Any
    element: ValueType = ValueType.UINT8


@dataclass(frozen=True)
class RawTensor:
    """A tensor as it lies in the file."""

    name: str
    shape: tuple[int, ...]
    type_id: int
    data: bytes


@dataclass(frozen=True)
class GgufFile:
    """Everything of one file (or of all parts of a split one)."""

    metadata: dict[str, Any]
    tensors: dict[str, RawTensor]


class _Cursor:
    """Takes little-endian values off a buffer one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def scalar(self, fmt: str) -> Any:
        value, = struct.unpack_from("<" + fmt, self.data, self.position)
        self.position += struct.calcsize("<" + fmt)
        return value

    def scalars(self, fmt: str, count: int) -> list[Any]:
        values = struct.unpack_from(f"<{count}{fmt}", self.data, self.position)
        self.position += struct.calcsize(f"<{count}{fmt}")
        return list(values)

    def string(self) -> str:
        size = self.scalar("Q")
        raw = self.data[self.position:self.position + size]
        self.position += size
        return raw.decode("utf-8", errors="surrogateescape")

    def value(self, kind: ValueType) -> Any:
        if kind == ValueType.STRING:
            return self.string()
        if kind != ValueType.ARRAY:
            return self.scalar(SCALAR_FORMAT[kind])
        element = ValueType(self.scalar("I"))
        count = self.scalar("Q")
        if element in SCALAR_FORMAT:
            return self.scalars(SCALAR_FORMAT[element], count)
        return [self.value(element) for _ in range(count)]


def _align(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _read_part(path: Path, bytes_of: SizeOf) -> GgufFile:
    cursor = _Cursor(path.read_bytes())
    if cursor.data[:4] != MAGIC:
        raise ValueError(f"{path}: not a GGUF file")
    cursor.position = 4
    version = cursor.scalar("I")
    if version != VERSION:
        raise ValueError(f"{path}: GGUF version {version}, expected {VERSION}")
    tensor_count, entry_count = cursor.scalars("Q", 2)
    metadata = {}
    for _ in range(entry_count):
        key = cursor.string()
        metadata[key] = cursor.value(ValueType(cursor.scalar("I")))
    heads = []
    for _ in range(tensor_count):
        name = cursor.string()
        shape = tuple(cursor.scalars("Q", cursor.scalar("I")))
        heads.append((name, shape, cursor.scalar("I"), cursor.scalar("Q")))
    base = _align(cursor.position)
    tensors = {}
    for name, shape, type_id, offset in heads:
        begin = base + offset
        data = cursor.data[begin:begin + bytes_of(type_id, shape)]
        tensors[name] = RawTensor(name, shape, type_id, data)
    return GgufFile(metadata, tensors)


def split_path(path: Path, part: int, parts: int) -> Path:
    """Name of part `part` (from 1) of a model whose first part is `path`."""
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", path.stem)
    return path.with_name(f"{stem}-{part:05}-of-{parts:05}.gguf")


def read_gguf(path: Path, bytes_of: SizeOf) -> GgufFile:
    """Reads a model; given the first part of a split one, its other parts as well.

    `bytes_of(type_id, shape)` tells how long a tensor is, which only its type knows.
    """
    first = _read_part(path, bytes_of)
    parts = first.metadata.get("split.count", 1)
    tensors = dict(first.tensors)
    for part in range(2, parts + 1):
        tensors.update(_read_part(split_path(path, part, parts), bytes_of).tensors)
    return GgufFile(first.metadata, tensors)


def _pack_string(text: str) -> bytes:
    raw = text.encode("utf-8", errors="surrogateescape")
    return struct.pack("<Q", len(raw)) + raw


def _pack_scalar(kind: ValueType, value: Any) -> bytes:
    if kind == ValueType.STRING:
        return _pack_string(value)
    return struct.pack("<" + SCALAR_FORMAT[kind], value)


def _pack_entry(entry: Entry) -> bytes:
    head = _pack_string(entry.key) + struct.pack("<I", entry.kind)
    if entry.kind != ValueType.ARRAY:
        return head + _pack_scalar(entry.kind, entry.value)
    head += struct.pack("<IQ", entry.element, len(entry.value))
    return head + b"".join(_pack_scalar(entry.element, item) for item in entry.value)


def pack_gguf(entries: list[Entry], tensors: list[RawTensor]) -> bytes:
    """The bytes of one GGUF file."""
    head = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(entries))]
    head += [_pack_entry(entry) for entry in entries]
    offset = 0
    for tensor in tensors:
        head.append(_pack_string(tensor.name))
        head.append(struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape))
        head.append(struct.pack("<IQ", tensor.type_id, offset))
        offset = _align(offset + len(tensor.data))
    out = bytearray(b"".join(head))
    for tensor in tensors:
        out += bytes(_align(len(out)) - len(out))
        out += tensor.data
    out += bytes(_align(len(out)) - len(out))
    return bytes(out)
