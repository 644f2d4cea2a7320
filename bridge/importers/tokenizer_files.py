"""The tokenizer of a directory: tokenizer.json, or the two files of older directories."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from valyrian_jax.errors import UserError
from valyrian_jax.files import read_json_object, read_text
from valyrian_jax.tokenizer import END_OF_TEXT, Tokenizer

_VOCABULARIES = {"vocab.json": "merges.txt", "encoder.json": "vocab.bpe"}  # with their merges


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.json, or the tokenizer of a directory.

    Raises:
        UserError: There is none, or it is not a byte-level BPE like GPT-2's.
    """
    if path.is_file():
        return read_tokenizer(path.parent) if path.name in _VOCABULARIES else Tokenizer.load(path)
    if (path / "tokenizer.json").exists():
        return Tokenizer.load(path / "tokenizer.json")
    name = next((name for name in _VOCABULARIES if (path / name).exists()), None)
    if name is None:
        raise UserError(
            f"{path} has no tokenizer: expected tokenizer.json, or vocab.json and merges.txt; pass "
            "one with --tokenizer"
        )
    vocab: dict[str, Any] = read_json_object(path / name)
    lines = read_text(path / _VOCABULARIES[name]).splitlines()
    has_version = bool(lines) and lines[0].startswith("#version")
    merges = [line for line in lines[has_version:] if line]
    added = _read_optional(path / "added_tokens.json")
    named = {END_OF_TEXT, *_special_names(path)} & vocab.keys()
    special = {name: vocab[name] for name in named} | added
    content = {
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
        "added_tokens": [{"content": token, "id": i} for token, i in special.items()],
    }
    return Tokenizer.from_json(content, path / name)


def read_end_name(path: Path) -> str | None:
    """Return the name of the token that ends a text, as the files beside a tokenizer say."""
    directory = path if path.is_dir() else path.parent
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        if name := _token_name(_read_optional(directory / file).get("eos_token")):
            return name
    return None


def _read_optional(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.exists() else {}


def _special_names(directory: Path) -> Iterator[str]:
    """Yield the names of special tokens in special_tokens_map.json."""
    for value in _read_optional(directory / "special_tokens_map.json").values():
        for token in value if isinstance(value, list) else [value]:
            if name := _token_name(token):
                yield name


def _token_name(token: Any) -> str | None:
    """Return the name of a token, which is a string or an object."""
    name = token.get("content") if isinstance(token, Mapping) else token
    return name if isinstance(name, str) and name else None
