"""Files of weights: safetensors, whole or sharded, and PyTorch's .bin, .pt and .pth.

Only tensors and plain values are unpickled: `torch.load` runs with weights_only.
"""

import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt
import torch
from safetensors.torch import load
from torch import Tensor

from bridge.importers.mapped_file import copy_mapped
from bridge.importers.zip_safety import check_zip
from valyrian_jax.bundle.memory import check_memory
from valyrian_jax.bundle.weights_file import check_weights_file
from valyrian_jax.errors import UserError
from valyrian_jax.files import check_regular, memory_bytes, read_bytes, read_json_object

Array = npt.NDArray[Any]

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "ckpt.pt",  # nanoGPT
)
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
# What a training program writes beside weights.
_NO_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state).*")
# Keys under which training programs store the weights, in a dictionary with other things.
_CONTAINERS = ("model", "model_state_dict", "state_dict", "module")
# Parts of PyTorch's errors, whose other lines advise unpickling without limits.
_FOREIGN_CLASS = re.compile(r"nsupported (?:global: )?GLOBAL (\S{1,100})")
_REASON = re.compile(r"WeightsUnpickler error: (.*)")
_OTHER_FORMATS = {  # by their first bytes
    b"GGUF": "a GGUF file",
    struct.pack("<i", 20240326): "a checkpoint of llm.c",
    b"\x89HDF": "a file of TensorFlow",
}


class Checkpoint(NamedTuple):
    """The content of a file of weights.

    Attributes:
        tensors: Tensors by their names in the file; floating-point tensors are float32.
        model_args: What nanoGPT stores under this name; None if it is not there.
    """

    tensors: dict[str, Array]
    model_args: Any


def find_weights(directory: Path) -> Path:
    """Return the file, or the index of the files, with the weights in a directory.

    Raises:
        UserError: There is none, or there are several.
    """
    for name in WEIGHTS:
        if (directory / name).exists():
            return directory / name
    others = [
        path
        for path in sorted(directory.iterdir())
        if path.suffix in _SUFFIXES and not _NO_WEIGHTS.fullmatch(path.name)
    ]
    if len(others) == 1:
        return others[0]
    if others:
        names = ", ".join(path.name for path in others[:8])
        raise UserError(
            f"{directory} holds several files of weights and no index: expected one, found "
            f"{names}; name the one to import"
        )
    is_run = (directory / "bundle" / WEIGHTS[0]).exists()
    raise UserError(
        f"{directory} holds no weights; expected one of {', '.join(WEIGHTS)}, or one other file "
        f"that ends in {', '.join(_SUFFIXES)}; "
        + (f"name {directory / 'bundle'}" if is_run else "check the path")
    )


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file of weights, or the files that an index lists.

    Raises:
        UserError: A file is missing or damaged, or holds something else.
    """
    if path.name.endswith(".index.json"):
        return Checkpoint(_read_shards(path), None)
    try:
        if not path.exists() or path.is_dir():
            raise UserError(f"{path} is missing or a directory, expected weights; copy it again")
        tensors, model_args = _find_tensors(_load(path))
        return Checkpoint(_to_arrays(path, tensors), model_args)
    except UserError:
        raise
    except Exception as error:  # a damaged file can raise any error
        raise UserError(_explain_error(path, str(error))) from error


def _explain_error(path: Path, message: str) -> str:
    if foreign := _FOREIGN_CLASS.search(message):
        return (
            f"{path} holds a pickled {foreign[1]}, expected tensors and plain values only, because "
            "unpickling runs code; save its state_dict, and model_args as a dictionary"
        )
    unpickling = _REASON.search(message)
    reason = (unpickling[1] if unpickling else message.partition("\n")[0]).strip()
    return (
        f"{path} is damaged or holds more than tensors, so it was not read"
        f"{f': {reason}' if reason else ''}; copy it again"
    )


def _read_shards(index: Path) -> dict[str, Array]:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(file, str) and Path(file).name == file for file in weight_map.values()
    ):
        raise UserError(
            f"{index} is damaged: expected a weight_map from tensors to files beside it; copy it "
            "again"
        )
    tensors: dict[str, Array] = {}
    for file in sorted(set(weight_map.values())):
        tensors |= read_checkpoint(index.parent / file).tensors
    missing = sorted(weight_map.keys() - tensors.keys())
    if missing:
        raise UserError(
            f"{index} lists tensors that are not in their files: {', '.join(missing)}; copy the "
            "directory again"
        )
    return {name: tensors[name] for name in weight_map}


def _load(path: Path) -> Any:
    """Return the content of a file: tensors by name, perhaps inside other values."""
    check_regular(path)
    if _is_safetensors(path):
        size = path.stat().st_size
        check_weights_file(path, size)
        _check_fits(path, 2 * size)
        return load(read_bytes(path, max_bytes=size))
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        check_zip(path)
    _check_format(path, is_zip)
    with warnings.catch_warnings(action="ignore"):  # An error says everything.
        # Mapped, because a checkpoint may hold an optimizer state twice as large as its weights;
        # see `copy_mapped`.
        return torch.load(path, "cpu", weights_only=True, mmap=is_zip)


def _is_safetensors(path: Path) -> bool:
    """Return whether a file has the suffix of safetensors, or begins like one."""
    with path.open("rb") as file:
        start = file.read(9)  # the length of a header in JSON, and its first byte
    length = int.from_bytes(start[:8], "little")
    return path.suffix == ".safetensors" or (start[8:] == b"{" and length < path.stat().st_size)


def _check_format(path: Path, is_zip: bool) -> None:
    """Check that a file is none of the other formats that models have."""
    with path.open("rb") as file:
        name = _OTHER_FORMATS.get(file.read(4))
    if is_zip:
        with zipfile.ZipFile(path) as archive:
            is_program = any(file.endswith("/constants.pkl") for file in archive.namelist())
        name = "a TorchScript file, which is a program" if is_program else None
    if name:
        raise UserError(
            f"{path} is {name}, expected a state_dict of PyTorch or safetensors; import the "
            "checkpoint that it was made from, or convert it to a Hugging Face directory"
        )


def _find_tensors(content: Any) -> tuple[Any, Any]:
    """Return the state_dict in the content of a file, and the model_args beside it."""
    model_args = None
    while isinstance(content, dict):
        key = next((key for key in _CONTAINERS if isinstance(content.get(key), dict)), None)
        if key is None:
            break
        model_args = content.get("model_args", model_args)
        content = content[key]
    return content, model_args


def _to_arrays(path: Path, tensors: Any) -> dict[str, Array]:
    """Return named tensors as arrays; tensors that share memory become one array."""
    if not (tensors and isinstance(tensors, dict)) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in tensors.items()
    ):
        raise UserError(
            f"{path} holds something other than named tensors; expected the state_dict of a GPT-2, "
            f"alone or under one of {', '.join(_CONTAINERS)}"
        )
    views = {name: _identify_view(tensor) for name, tensor in tensors.items()}
    unique = {view: tensors[name] for name, view in views.items()}
    size = sum(tensor.numel() * tensor.element_size() for tensor in unique.values())
    if size > 2 * path.stat().st_size:
        raise ValueError(f"its tensors have {size:,} bytes, more than the file")
    _check_fits(path, 2 * 4 * sum(tensor.numel() for tensor in unique.values()))
    tensors.clear()
    # Tensors are removed one by one, so converting needs little more memory than the result.
    arrays = {view: _to_array(copy_mapped(unique.pop(view))) for view in [*unique]}
    return {name: arrays[view] for name, view in views.items()}


def _check_fits(path: Path, needed: int) -> None:
    check_memory(needed, memory_bytes(), f"importing {path}", "use a machine with more memory")


def _identify_view(tensor: Tensor) -> tuple[Any, ...]:
    """Return values that are equal for two tensors if they are the same view of the same memory."""
    memory = tensor.untyped_storage().data_ptr()
    return memory, tensor.storage_offset(), tensor.dtype, tensor.shape, tensor.stride()


def _to_array(tensor: Tensor) -> Array:
    return tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()
