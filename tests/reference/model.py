"""A loaded model: metadata of its architecture and tensors as doubles."""
from pathlib import Path
from typing import Any, Optional

import numpy as np

import block_types
from gguf_file import read_gguf

Array = np.ndarray


def round_rows(x: Array, block: int) -> Array:
    """What is left of activations after 8 bits: max / 127 a step, to nearest, ties to even.

    As many inputs share a step as share a block of the weights, 32 or 256: matrices with the same
    inputs have the same type in all our models.
    """
    blocks = x.reshape(*x.shape[:-1], -1, block)
    step = np.abs(blocks).max(axis=-1, keepdims=True) / 127
    return (np.rint(blocks / np.where(step > 0, step, 1)) * step).reshape(x.shape)


class Model:
    """Looks up metadata without the architecture's prefix, and decodes tensors once.

    With `rounds`, inputs of matrices that are stored in blocks are rounded to 8 bits, as the
    engine does: numbers that it must meet closely, where exact ones only bound it.
    """

    def __init__(self, path: Path, rounds: bool = False) -> None:
        self.rounds = rounds
        self._file = read_gguf(path, block_types.bytes_of)
        self._decoded: dict[str, Array] = {}
        self.architecture: str = self._file.metadata["general.architecture"]

    def get(self, key: str, default: Any = None) -> Any:
        """Value of `<architecture>.<key>`."""
        return self._file.metadata.get(f"{self.architecture}.{key}", default)

    def tensor(self, name: str) -> Optional[Array]:
        """Tensor with rows last, or None where the model has none of that name."""
        if name not in self._file.tensors:
            return None
        if name not in self._decoded:
            raw = self._file.tensors[name]
            self._decoded[name] = block_types.decode(raw.type_id, raw.data, raw.shape)
        return self._decoded[name]

    def has_blocks(self) -> bool:
        """Whether any matrix is stored in blocks of several values."""
        return any(block_types.BY_ID[t.type_id].values > 1 for t in self._file.tensors.values())

    def product(self, x: Array, name: str, expert: Optional[int] = None) -> Array:
        """x times the matrix `name`, or times one expert's slice of it."""
        matrix = self.tensor(name)
        block = block_types.BY_ID[self._file.tensors[name].type_id].values
        if self.rounds and block > 1:
            x = round_rows(x, block)
        return x @ (matrix if expert is None else matrix[expert]).T

    def block(self, index: int) -> "Block":
        return Block(self, index)


class Block:
    """The tensors of one transformer block."""

    def __init__(self, model: Model, index: int) -> None:
        self._model = model
        self.index = index

    def tensor(self, name: str) -> Optional[Array]:
        return self._model.tensor(f"blk.{self.index}.{name}")

    def has(self, name: str) -> bool:
        return self.tensor(name) is not None

    def product(self, x: Array, name: str, expert: Optional[int] = None) -> Array:
        return self._model.product(x, f"blk.{self.index}.{name}", expert)

    def linear(self, x: Array, name: str) -> Array:
        """x times the matrix `name`.weight, plus `name`.bias where there is one."""
        y = self.product(x, name + ".weight")
        bias = self.tensor(name + ".bias")
        return y if bias is None else y + bias
