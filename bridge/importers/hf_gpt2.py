"""GPT-2 directories as the world has them, read into a bundle: sharded or old files, half precision, old vocabularies.

Nothing is unpickled but tensors: safetensors, or `torch.load` with weights_only.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from bridge.importers.zip_safety import unpack
from valyrian_jax.bundle.bundle import (
    Bundle,
    canonical_names,
    check_bundle,
    check_vocabulary,
    read_model_config,
)
from valyrian_jax.errors import UserError
from valyrian_jax.files import read_json_object, read_text
from valyrian_jax.tokenizer import END_OF_TEXT, Tokenizer

Array = npt.NDArray[Any]
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def read_gpt2(directory: Path, vocabulary: Path | None = None) -> Bundle:
    """Read and check a GPT-2 directory.

    Args:
        directory: with config.json, weights in one of the files of `WEIGHTS`, and a tokenizer.
        vocabulary: a tokenizer.json to use instead of the directory's own.

    Raises:
        UserError: something is missing, damaged, no GPT-2, or does not fit together.
    """
    if not directory.is_dir():
        raise UserError(
            f"no directory at {directory}; expected one with config.json and the weights of a GPT-2"
        )
    model = read_model_config(read_json_object(directory / "config.json"))
    tensors = canonical_names(model, read_tensors(directory))
    check_bundle(model, tensors)
    tokenizer = Tokenizer.load(vocabulary) if vocabulary else read_tokenizer(directory)
    found = Bundle(model, tensors, tokenizer)
    check_vocabulary(found, directory)
    _ = (
        tokenizer.end_of_text
    )  # which separates documents and ends texts: refused here if there is none
    return found


def read_tensors(directory: Path) -> Mapping[str, Array]:
    """All tensors of a directory by name, whole or in shards; halves as float32."""
    name = next((name for name in WEIGHTS if (directory / name).exists()), None)
    if name is None:
        raise UserError(f"{directory} holds no weights; expected one of {', '.join(WEIGHTS)}")
    if not name.endswith(".index.json"):
        return _read_file(directory / name)
    places = read_json_object(directory / name).get("weight_map")
    if not isinstance(places, dict) or not all(
        isinstance(f, str) and Path(f).name == f for f in places.values()
    ):
        raise UserError(
            f"{directory / name} is damaged: expected a weight_map from tensors to files beside it"
        )
    shards = {file: _read_file(directory / file) for file in sorted(set(places.values()))}
    missing = sorted(tensor for tensor, file in places.items() if tensor not in shards[file])
    if missing:
        raise UserError(
            f"{directory / name} lists tensors that their files lack: {', '.join(missing)}"
        )
    return {tensor: shards[file][tensor] for tensor, file in places.items()}


def _read_file(path: Path) -> Mapping[str, Array]:
    try:
        if not path.is_file():
            raise UserError(f"{path} is missing, though the index lists it")
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            if zipfile.is_zipfile(path):
                unpack(path, "")
            found = torch.load(path, "cpu", weights_only=True)
        if not isinstance(found, dict) or not all(
            isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()
        ):
            raise UserError(
                f"{path} holds something other than named tensors; expected the state_dict of a GPT-2"
            )
        size = sum(tensor.numel() * tensor.element_size() for tensor in found.values())
        if size > 2 * path.stat().st_size:  # twice: head and embedding may be one
            raise ValueError(f"its tensors have {size:,} bytes, more than the file")
        return {name: _array(tensor) for name, tensor in found.items()}
    except UserError:
        raise
    except Exception as error:  # reading a damaged file can fail anywhere
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path} is damaged or holds more than tensors, so it was not read: {reason}"
        ) from error


def _array(tensor: Tensor) -> Array:
    tensor = tensor.detach()
    return tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()


def read_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer.json of a directory, or the vocab.json and merges.txt of older ones."""
    if (directory / "tokenizer.json").exists():
        return Tokenizer.load(directory / "tokenizer.json")
    if not (directory / "vocab.json").exists():
        raise UserError(
            f"{directory} holds neither tokenizer.json nor vocab.json; name a tokenizer with --tokenizer"
        )
    vocab: Any = read_json_object(directory / "vocab.json")
    lines = read_text(directory / "merges.txt").splitlines()
    merges = [line for line in lines if line and not line.startswith("#version")]
    return Tokenizer.from_json(
        {
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
            "model": {"type": "BPE", "vocab": vocab, "merges": merges},
            "added_tokens": [{"content": END_OF_TEXT, "id": vocab[END_OF_TEXT]}]
            if END_OF_TEXT in vocab
            else [],
        },
        directory / "vocab.json",
    )
