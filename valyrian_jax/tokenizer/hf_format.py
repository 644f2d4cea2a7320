"""A vocabulary as a `tokenizer.json`, the file format of the `tokenizers` package.

Both packages read each other's files, and GPT-2's own file.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from valyrian_jax.tokenizer.bpe import Pair

# GPT-2's byte order: the printable characters of Latin-1 first, then the rest. The file spells each
# byte as one visible character: printable bytes as themselves, the others as U+0100 onward.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTE_ORDER = (*_PRINTABLE, *(b for b in range(256) if b not in _PRINTABLE))
_CHARACTER = {
    b: chr(b) if i < len(_PRINTABLE) else chr(256 + i - len(_PRINTABLE))
    for i, b in enumerate(BYTE_ORDER)
}
_BYTE = {character: b for b, character in _CHARACTER.items()}
_UNSUPPORTED_OPTIONS = (
    "dropout",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "byte_fallback",
    "ignore_merges",
)


class Vocabulary(NamedTuple):
    """The fields of a `Tokenizer`."""

    tokens: Sequence[bytes]
    merges: Sequence[Pair]
    special: Mapping[str, int]


class UnsupportedTokenizerError(Exception):
    """A tokenizer.json that describes another kind of tokenizer."""


def _spell(token: bytes) -> str:
    return "".join(_CHARACTER[b] for b in token)


def to_json(vocabulary: Vocabulary) -> dict[str, Any]:
    """Return the content of the file."""
    names = {i: name for name, i in vocabulary.special.items()}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    flags["special"] = True
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    spellings = [names.get(i) or _spell(token) for i, token in enumerate(vocabulary.tokens)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": name, **flags} for i, name in sorted(names.items())],
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
            "vocab": {name: i for i, name in enumerate(spellings)},
            "merges": [[spellings[a], spellings[b]] for a, b in vocabulary.merges],
        },
    }


def from_json(content: Any) -> Vocabulary:
    """Return the vocabulary in the content of a file.

    Raises:
        UnsupportedTokenizerError: The content describes another kind of tokenizer.
    """
    try:
        return _read_vocabulary(content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # another structure
        raise UnsupportedTokenizerError(f"{type(error).__name__} {error}") from error


def _read_vocabulary(content: Any) -> Vocabulary:
    model = content["model"]
    _check_options(content, model)
    special = {str(token["content"]): token["id"] for token in content.get("added_tokens") or []}
    ids = {**model["vocab"], **special}
    tokens = _read_tokens(ids, special)
    plain = {spelling for spelling in ids if spelling not in special}
    missing = [b for b in range(256) if _CHARACTER[b] not in plain]
    _require(not missing, f"{len(missing)} of the 256 single bytes have no token")
    return Vocabulary(tokens, _read_merges(model["merges"], ids, plain), special)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UnsupportedTokenizerError(message)


def _check_options(content: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Check that the file describes a byte-level BPE with GPT-2's pre-tokenizer."""
    pre_tokenizer = content["pre_tokenizer"]
    model_type = model.get("type", "BPE")  # GPT-2's own file has no type
    _require(model_type == "BPE", f"model type {model_type!r}, expected 'BPE'")
    _require(content.get("normalizer") is None, "its normalizer changes text; expected none")
    _require(
        pre_tokenizer["type"] == "ByteLevel"
        and not pre_tokenizer["add_prefix_space"]
        and pre_tokenizer.get("use_regex", True),
        f"pre_tokenizer {pre_tokenizer!r}, expected ByteLevel with use_regex and without "
        "add_prefix_space",
    )
    for option in _UNSUPPORTED_OPTIONS:
        value = model.get(option)
        _require(not value, f"model option {option} = {value!r} is not supported")


def _read_tokens(ids: Mapping[str, int], special: Collection[str]) -> list[bytes]:
    """Return the bytes of every token, by id."""
    _require(all(type(i) is int for i in ids.values()), "a token id is not an integer")
    _require(
        sorted(ids.values()) == list(range(len(ids))),
        f"token ids are not 0 to {len(ids) - 1}, each once",
    )
    _require("" not in ids, "a token is empty")
    tokens = [b""] * len(ids)
    for spelling, i in ids.items():
        try:
            tokens[i] = (
                spelling.encode() if spelling in special else bytes(_BYTE[c] for c in spelling)
            )
        except KeyError as error:
            raise UnsupportedTokenizerError(
                f"token {spelling!r} contains characters that spell no byte"
            ) from error
    return tokens


def _read_merges(merges: Iterable[Any], ids: Mapping[str, int], plain: set[str]) -> list[Pair]:
    """Return the merges as pairs of ids; a file has pairs of spellings, or strings with both."""
    pairs = []
    for merge in merges:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        _require(
            {left, right, left + right} <= plain,
            f"merge {left!r} + {right!r} uses a token not in the vocabulary",
        )
        pairs.append((ids[left], ids[right]))
    _require(len(set(pairs)) == len(pairs), "a merge is listed twice")
    return pairs
