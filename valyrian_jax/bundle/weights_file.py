"""The weights file of a model, in the safetensors format: its size is checked before its data.

The file is read and not mapped into memory: a mapped file that someone shortens would kill the
process with SIGBUS, without a message.
"""

import os
import struct
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load

from valyrian_jax.bundle.names import count_parameters
from valyrian_jax.config import ModelConfig
from valyrian_jax.errors import UserError
from valyrian_jax.files import check_regular, open_regular, read_bytes

MAX_HEADER = 1 << 22  # bytes; 14 tensors for each of 1,024 blocks need half of it
_HEADER_SIZE = struct.Struct("<Q")
_MAX_ITEMSIZE = 8  # bytes of a number


def max_file_size(model: ModelConfig) -> int:
    """Return the largest size in bytes of a model's weights file, with GPT-2's mask buffers."""
    numbers = count_parameters(model) + model.n_layer * model.n_positions**2
    return _HEADER_SIZE.size + MAX_HEADER + _MAX_ITEMSIZE * numbers


def check_weights_file(path: Path, max_bytes: int) -> None:
    """Check the size of a weights file and of its header; no tensor is read.

    Raises:
        UserError: The file is too large, or is not a safetensors file of a GPT-2.
        OSError: It cannot be read.
    """
    check_regular(path, max_bytes=max_bytes)
    with open_regular(path) as file:
        start = file.read(_HEADER_SIZE.size)
        size = file.seek(0, os.SEEK_END)
    header = _HEADER_SIZE.unpack(start)[0] if len(start) == _HEADER_SIZE.size else 0
    if not 0 < header <= min(MAX_HEADER, size - _HEADER_SIZE.size):
        raise UserError(
            f"{path} is damaged: expected a header of 1 to {MAX_HEADER:,} bytes within its "
            f"{size:,} bytes, found {header:,}; copy it again"
        )


def read_weights(path: Path, max_bytes: int) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a weights file, in the order of their names."""
    try:
        check_weights_file(path, max_bytes)
        return dict(sorted(load(read_bytes(path, max_bytes=max_bytes)).items()))
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or error}; expected a weights file that can be "
            "read: check the path"
        ) from error
    except (KeyError, TypeError, AttributeError) as error:  # bfloat16 and smaller types
        raise UserError(
            f"{path} contains a data type that NumPy lacks: {error}; convert it to float32"
        ) from error
    except (SafetensorError, ValueError) as error:  # ValueError: a shape that NumPy cannot have
        raise UserError(f"{path} is damaged: {error}; copy it again") from error
