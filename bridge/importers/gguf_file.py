"""GPT-2 models in GGUF files, written by this project or by llama.cpp's converter."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import TokenType
from pydantic import ValidationError

from bridge.gguf.layout import ARCHITECTURE, PREFIX, tensor_names
from bridge.gguf.reader import Header, read_header, read_tensors
from valyrian_jax.bundle.hf_format import read_model_config
from valyrian_jax.bundle.memory import check_memory
from valyrian_jax.config import ModelConfig, explain_error
from valyrian_jax.errors import UserError, shorten
from valyrian_jax.files import memory_bytes, name_json_type, parse_json
from valyrian_jax.tokenizer import Tokenizer, hf_format

Array = npt.NDArray[Any]

# The key of each field of the model.
_KEYS = {
    "n_positions": f"{ARCHITECTURE}.context_length",
    "n_embd": f"{ARCHITECTURE}.embedding_length",
    "n_layer": f"{ARCHITECTURE}.block_count",
    "n_head": f"{ARCHITECTURE}.attention.head_count",
    "layer_norm_epsilon": f"{ARCHITECTURE}.attention.layer_norm_epsilon",
}
_REQUIRED = ("general.architecture", "tokenizer.ggml.model")
_TOKENIZER = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2"}
_TOKENS, _TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
_MERGES, _END = "tokenizer.ggml.merges", "tokenizer.ggml.eos_token_id"


def read_model(path: Path) -> tuple[ModelConfig, dict[str, Array]]:
    """Read a GPT-2 from a GGUF file.

    Returns:
        Its configuration, and float32 tensors by their names in a bundle. Matrices of blocks are
        [out, in], and the tensors may include a head that equals the embedding.

    Raises:
        UserError: The file is damaged, or holds another model.
    """
    header = read_header(path)
    other_model = "only GPT-2 is supported, so import another model"
    _expect(path, header, "general.architecture", ARCHITECTURE, other_model)
    _expect(path, header, "split.count", 1, "merge the files with llama-gguf-split --merge")
    model = _read_model(path, header)
    numbers = sum(math.prod(info.shape) for info in header.tensors.values())
    check_memory(
        2 * 4 * numbers, memory_bytes(), f"importing {path}", "use a machine with more memory"
    )
    names = {stored: name for name, stored in tensor_names(model).items()}
    tensors = read_tensors(path, header.tensors)
    return model, {names.get(stored, stored): tensor for stored, tensor in tensors.items()}


def _expect(path: Path, header: Header, key: str, expected: str | int, remedy: str) -> None:
    """Check that a key has a value, or, except for the architecture and tokenizer, is missing."""
    value = header.metadata.get(key, None if key in _REQUIRED else expected)
    if type(value) is not type(expected) or value != expected:
        found = "none" if value is None else shorten(str(value))
        raise UserError(f"{path} has {key} = {found}, expected {expected}; {remedy}")


def _get(path: Path, header: Header, key: str, kind: type, expected: str) -> Any:
    """Return the value of a key, or raise a UserError if it is missing or of another type."""
    value = header.metadata.get(key)
    if type(value) is not kind:
        found = "none" if value is None else shorten(repr(value))
        raise UserError(
            f"{path} has no valid {key}: expected {expected}, found {found}; convert the "
            "model again"
        )
    return value


def _read_model(path: Path, header: Header) -> ModelConfig:
    """Return the model that llama.cpp's keys describe, completed by our config if there is one."""
    values = {
        field: _get(path, header, key, float if field == "layer_norm_epsilon" else int, "a number")
        for field, key in _KEYS.items()
    }
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None:
        raise UserError(
            f"{path} has no token_embd.weight, expected the tensors of a GPT-2; convert the model "
            "again"
        )
    values["layer_norm_epsilon"] = _round_float(values["layer_norm_epsilon"])
    for key, size in (
        ("feed_forward_length", 4 * values["n_embd"]),
        ("attention.head_count_kv", values["n_head"]),
    ):
        _expect(path, header, f"{ARCHITECTURE}.{key}", size, "other shapes are not supported")
    try:
        model = ModelConfig(
            vocab_size=embedding.shape[0],
            activation="gelu_new",  # the only one that llama.cpp has
            tie_word_embeddings=True,  # until the tensors show a different head
            init_std=0.02,
            **values,
        )
    except ValidationError as error:
        raise UserError(f"{path}: {explain_error(error, _KEYS)}") from error
    content = header.metadata.get(f"{PREFIX}config")
    if content is None:
        return model
    return _read_config(path, content, model)


def _read_config(path: Path, content: Any, model: ModelConfig) -> ModelConfig:
    """Return the model that the config.json in a file describes."""
    config = parse_json(content, path) if isinstance(content, str) else None
    if not isinstance(config, dict):
        raise UserError(
            f"{path} has a damaged {PREFIX}config: expected a JSON object, found "
            f"{name_json_type(config)}; export the bundle again"
        )
    exact = read_model_config(config)
    for field in ("vocab_size", *_KEYS):
        ours, theirs = getattr(exact, field), getattr(model, field)
        if _round_float(ours) != theirs:
            raise UserError(
                f"{path} is damaged: its {PREFIX}config has {field} = {ours}, the keys of "
                f"llama.cpp {theirs}; export the bundle again"
            )
    return exact


def _round_float(value: float) -> float:
    """Return the shortest number that rounds to the same float32: 1e-5, not 9.99999974e-06."""
    with np.errstate(over="ignore"):
        return float(str(np.float32(value))) if isinstance(value, float) else value


def read_tokenizer(path: Path) -> tuple[Tokenizer, str | None, int]:
    """Read the tokenizer of a GGUF file.

    Returns:
        The tokenizer without unused tokens at its end, the name of its token that ends a text, if
        it has one, and the number of unused tokens.

    Raises:
        UserError: The file is damaged, or its tokenizer is not a byte-level BPE like GPT-2's.
    """
    header = read_header(path)
    for key, expected in _TOKENIZER.items():  # Older files lack the second key; theirs is GPT-2's.
        _expect(path, header, key, expected, "pass another tokenizer with --tokenizer")
    tokens = _get_strings(path, header, _TOKENS)
    merges = _get_strings(path, header, _MERGES) if _MERGES in header.metadata else []
    types = header.metadata.get(_TYPES, np.full(len(tokens), TokenType.NORMAL))
    if (
        not isinstance(types, np.ndarray)
        or types.dtype.kind not in "iu"
        or len(types) != len(tokens)
    ):
        raise UserError(
            f"{path} has no valid {_TYPES}: expected an integer for each token; convert the model "
            "again"
        )
    kinds = types.tolist()
    used = len(kinds)
    while used and kinds[used - 1] == TokenType.UNUSED:
        used -= 1
    special = [i for i in range(used) if kinds[i] != TokenType.NORMAL]
    content = {
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "model": {
            "vocab": {tokens[i]: i for i in range(used) if kinds[i] == TokenType.NORMAL},
            "merges": merges,
        },
        "added_tokens": [{"content": tokens[i], "id": i} for i in special],
    }
    try:
        vocabulary = hf_format.from_json(content)
    except hf_format.UnsupportedTokenizerError as error:
        raise UserError(
            f"the tokenizer in {path} is not a byte-level BPE like GPT-2's: {error}"
        ) from error
    names = {i: name for name, i in vocabulary.special.items()}
    tokenizer = Tokenizer(tuple(vocabulary.tokens), tuple(vocabulary.merges), vocabulary.special)
    end = header.metadata.get(_END)
    return tokenizer, names.get(end) if type(end) is int else None, len(tokens) - used


def _get_strings(path: Path, header: Header, key: str) -> list[str]:
    strings: list[str] = _get(path, header, key, list, "a list of strings")
    return strings
