"""Import of GPT-2 directories in Hugging Face layout: whole or sharded, new or old, any precision.

Only tensors are unpickled: weights are safetensors, or loaded by `torch.load` with weights_only.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from bridge.importers.zip_safety import check_zip
from valyrian_jax.bundle.bundle import Bundle, check_bundle, check_vocabulary
from valyrian_jax.bundle.hf_format import canonicalize_tensors, read_model_config
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


def read_gpt2(directory: Path, tokenizer_file: Path | None = None) -> Bundle:
    """Read and check a GPT-2 directory.

    Args:
        directory: Directory with config.json, one of the files of `WEIGHTS`, and a tokenizer.
        tokenizer_file: A tokenizer.json to use instead of the directory's tokenizer.

    Raises:
        UserError: A file is missing or damaged, the model is not a GPT-2, or files do not match.
    """
    if not directory.is_dir():
        raise UserError(
            f"no directory at {directory}; expected one with config.json and the weights of a GPT-2"
        )
    model = read_model_config(read_json_object(directory / "config.json"))
    tensors = canonicalize_tensors(model, read_tensors(directory))
    check_bundle(model, tensors)
    tokenizer = Tokenizer.load(tokenizer_file) if tokenizer_file else read_tokenizer(directory)
    bundle = Bundle(model, tensors, tokenizer)
    check_vocabulary(bundle, directory)
    _ = tokenizer.end_of_text  # fails now if the vocabulary has no token that ends a text
    return bundle


def read_tensors(directory: Path) -> Mapping[str, Array]:
    """Read all tensors of a directory by name; floating-point tensors become float32."""
    name = next((name for name in WEIGHTS if (directory / name).exists()), None)
    if name is None:
        raise UserError(f"{directory} holds no weights; expected one of {', '.join(WEIGHTS)}")
    if not name.endswith(".index.json"):
        return _read_file(directory / name)
    weight_map = read_json_object(directory / name).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(file, str) and Path(file).name == file for file in weight_map.values()
    ):
        raise UserError(
            f"{directory / name} is damaged: expected a weight_map from tensors to files beside "
            "it; copy it again"
        )
    shards = {file: _read_file(directory / file) for file in sorted(set(weight_map.values()))}
    missing = sorted(tensor for tensor, file in weight_map.items() if tensor not in shards[file])
    if missing:
        raise UserError(
            f"{directory / name} lists tensors that are not in their files: {', '.join(missing)}; "
            "copy the directory again"
        )
    return {tensor: shards[file][tensor] for tensor, file in weight_map.items()}


def _read_file(path: Path) -> Mapping[str, Array]:
    try:
        if not path.is_file():
            raise UserError(f"{path} is missing, though the index lists it; copy it again")
        if path.suffix == ".safetensors":
            tensors = load_file(path)
        else:
            if zipfile.is_zipfile(path):
                check_zip(path)
            tensors = torch.load(path, "cpu", weights_only=True)
        if not isinstance(tensors, dict) or not all(
            isinstance(name, str) and isinstance(value, Tensor) for name, value in tensors.items()
        ):
            raise UserError(
                f"{path} holds something other than named tensors; expected the state_dict of a "
                "GPT-2"
            )
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if size > 2 * path.stat().st_size:  # twice: the head and the embedding may share storage
            raise ValueError(f"its tensors have {size:,} bytes, more than the file")
        return {name: _to_array(tensor) for name, tensor in tensors.items()}
    except UserError:
        raise
    except Exception as error:  # a damaged file can raise any error
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path} is damaged or holds more than tensors, so it was not read: {reason}"
        ) from error


def _to_array(tensor: Tensor) -> Array:
    tensor = tensor.detach()
    return tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()


def read_tokenizer(directory: Path) -> Tokenizer:
    """Read tokenizer.json or, in an older directory, vocab.json and merges.txt."""
    if (directory / "tokenizer.json").exists():
        return Tokenizer.load(directory / "tokenizer.json")
    if not (directory / "vocab.json").exists():
        raise UserError(
            f"{directory} has no tokenizer: expected tokenizer.json, or vocab.json and merges.txt; "
            "pass one with --tokenizer"
        )
    vocab: Any = read_json_object(directory / "vocab.json")
    lines = read_text(directory / "merges.txt").splitlines()
    merges = [line for line in lines if line and not line.startswith("#version")]
    special = [{"content": END_OF_TEXT, "id": vocab[END_OF_TEXT]}] if END_OF_TEXT in vocab else []
    content = {
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
        "added_tokens": special,
    }
    return Tokenizer.from_json(content, directory / "vocab.json")
