"""A loaded model: metadata of its architecture and tensors as doubles."""
from pathlib import Path
from typing import Any, Optional

import numpy as np

import block_types
from gguf_file import read_gguf

Array = np.ndarray


class Model:
    """Looks up metadata without the architecture's prefix, and decodes tensors once."""

    def __init__(self, path: Path) -> None:
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

    def linear(self, x: Array, name: str) -> Array:
        """x times the matrix `name`.weight, plus `name`.bias where there is one."""
        y = x @ self.tensor(name + ".weight").T
        bias = self.tensor(name + ".bias")
        return y if bias is None else y + bias
