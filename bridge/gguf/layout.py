"""How a GGUF file stores a GPT-2: the names, axes and types of llama.cpp's tensors.

Matrices of blocks are [out, in] in the file, and [in, out] in a bundle. `GGUFWriter` takes shapes
in NumPy's order; the file lists them reversed.
"""

from dataclasses import replace
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as StorageType

from valyrian_jax.bundle.names import parameter_axes
from valyrian_jax.config import ModelConfig

ARCHITECTURE = gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.GPT2]
STORAGE_TYPES = (StorageType.F32, StorageType.F16, StorageType.BF16, StorageType.Q8_0)
"""The types that the reader knows; the writer does not use bfloat16."""
PREFIX = "valyrian."
"""Prefix of the keys that only this project reads."""


def tensor_names(model: ModelConfig) -> dict[str, str]:
    """Return llama.cpp's name of every parameter by its name in a bundle, with an untied head."""
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, model.n_layer)
    names = {}
    for name in parameter_axes(replace(model, tie_word_embeddings=False)):
        stored = table.get_name(name, (".weight", ".bias"))
        assert stored is not None
        names[name] = stored
    return names


def is_transposed(name: str, tensor: npt.NDArray[np.floating]) -> bool:
    """Return whether a parameter is a matrix of a block, which a file stores as [out, in]."""
    return ".h." in name and tensor.ndim == 2


def choose_type(name: str, shape: tuple[int, ...], matrix_type: StorageType) -> StorageType:
    """Return the type in which llama.cpp's converter stores a tensor.

    Norms, biases and positions stay float32. A matrix whose rows are not whole blocks of
    `matrix_type` becomes float16.

    Args:
        name: llama.cpp's name of the tensor.
        shape: Its shape in the file, in NumPy's order.
        matrix_type: Type of the other matrices.
    """
    if len(shape) < 2 or name.startswith("position_embd"):
        return StorageType.F32
    block_size = gguf.GGML_QUANT_SIZES[matrix_type][0]
    return StorageType.F16 if shape[-1] % block_size else matrix_type


def count_bytes(shape: tuple[int, ...], storage: StorageType) -> int:
    """Return the bytes of a tensor; its rows are whole blocks."""
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[storage]
    return int(np.prod(shape, dtype=object)) // block_size * block_bytes


def decode(stored: npt.NDArray[Any], storage: StorageType) -> npt.NDArray[np.float32]:
    """Return stored rows as float32; damaged rows can hold numbers that are not finite."""
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(stored, storage)
