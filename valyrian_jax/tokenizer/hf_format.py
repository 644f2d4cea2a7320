"""A vocabulary as a `tokenizer.json`, the file of the `tokenizers` package: both read each other's, and GPT-2's own."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .bpe import Pair

# GPT-2's byte order: the printable characters of Latin-1 first, then the rest. In tokenizer.json every byte is written
# as one visible character: printable ones as themselves, the others as U+0100 onward.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTE_ORDER = (*_PRINTABLE, *(b for b in range(256) if b not in _PRINTABLE))
_CHARACTER = {
    b: chr(b) if i < len(_PRINTABLE) else chr(256 + i - len(_PRINTABLE))
    for i, b in enumerate(BYTE_ORDER)
}
_BYTE = {character: b for b, character in _CHARACTER.items()}


class Vocabulary(NamedTuple):
    """What the file holds; `tokenizer.Tokenizer` tells more."""

    tokens: Sequence[bytes]
    merges: Sequence[Pair]
    special: Mapping[str, int]


class UnsupportedTokenizerError(Exception):
    """Why a tokenizer.json is not one of ours."""


def _written(token: bytes) -> str:
    return "".join(_CHARACTER[b] for b in token)


def to_json(vocabulary: Vocabulary) -> dict[str, Any]:
    """The contents of the file."""
    names = {i: name for name, i in vocabulary.special.items()}
    plain = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    written = [names.get(i) or _written(token) for i, token in enumerate(vocabulary.tokens)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": name, **plain} for i, name in sorted(names.items())],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {name: i for i, name in enumerate(written)},
            "merges": [[written[a], written[b]] for a, b in vocabulary.merges],
        },
    }


_UNSUPPORTED = (
    "dropout",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "byte_fallback",
    "ignore_merges",
)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UnsupportedTokenizerError(message)


def from_json(content: Any) -> Vocabulary:
    """The vocabulary in the contents of a file.

    Raises:
        RefusedError: they describe another kind of tokenizer (or another error, where they have another form).
    """
    model, pre = content["model"], content["pre_tokenizer"]
    kind = model.get("type", "BPE")  # GPT-2's own file does not say
    _require(kind == "BPE", f"model type {kind!r}, expected 'BPE'")
    _require(content.get("normalizer") is None, "it normalises text, which loses bytes")
    _require(
        pre["type"] == "ByteLevel" and not pre["add_prefix_space"] and pre.get("use_regex", True),
        f"pre_tokenizer {pre!r}, expected ByteLevel with use_regex and without add_prefix_space",
    )
    for option in _UNSUPPORTED:
        _require(
            not model.get(option), f"model option {option} = {model.get(option)!r} is not supported"
        )

    special = {str(token["content"]): token["id"] for token in content.get("added_tokens") or []}
    ids = {**model["vocab"], **special}
    _require(all(type(i) is int for i in ids.values()), "a token id is not an integer")
    _require(
        sorted(ids.values()) == list(range(len(ids))),
        f"token ids are not 0 to {len(ids) - 1}, each once",
    )

    _require("" not in ids, "a token is empty")

    tokens = [b""] * len(ids)
    for written, i in ids.items():
        try:
            tokens[i] = (
                written.encode() if written in special else bytes([_BYTE[c] for c in written])
            )
        except KeyError as error:
            raise UnsupportedTokenizerError(
                f"token {written!r} holds characters that stand for no byte"
            ) from error
    known = {written for written in ids if written not in special}
    missing = [b for b in range(256) if _CHARACTER[b] not in known]
    _require(not missing, f"{len(missing)} of the 256 single bytes have no token")

    merges = []
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        _require(
            {left, right, left + right} <= known,
            f"merge {left!r} + {right!r} uses a token not in the vocabulary",
        )
        merges.append((ids[left], ids[right]))
    _require(len(set(merges)) == len(merges), "a merge stands there twice")
    return Vocabulary(tokens, merges, special)
