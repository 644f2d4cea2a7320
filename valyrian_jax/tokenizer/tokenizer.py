"""The tokenizer: a vocabulary, its merges, and text to ids and back.

The file is the `tokenizer.json` of the `tokenizers` package, so both read each other's; GPT-2's own opens unchanged.
"""

import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from valyrian_jax import atomic
from valyrian_jax.errors import UserError

from . import bpe
from .split import split

END_OF_TEXT = "<|endoftext|>"

# GPT-2's byte order: the printable characters of Latin-1 first, then the rest. In tokenizer.json every byte is written
# as one visible character: printable ones as themselves, the others as U+0100 onward.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTE_ORDER = (*_PRINTABLE, *(b for b in range(256) if b not in _PRINTABLE))
_ID_OF_BYTE = tuple(BYTE_ORDER.index(b) for b in range(256))
_CHARACTER = {b: chr(b) if i < len(_PRINTABLE) else chr(256 + i - len(_PRINTABLE)) for i, b in enumerate(BYTE_ORDER)}
_BYTE = {character: b for b, character in _CHARACTER.items()}

_CACHED_PIECES = 1 << 18
_CACHED_LENGTH = 64


@dataclass(frozen=True)
class Tokenizer:
    """A byte-level BPE vocabulary.

    Attributes:
        tokens: the bytes of every token, by id (for a special token, its name in UTF-8).
        merges: pairs of ids in the order learnt.
        special: name -> id of the tokens that no text produces.
    """

    tokens: tuple[bytes, ...]
    merges: tuple[bpe.Pair, ...]
    special: Mapping[str, int]
    _cache: dict[bytes, list[int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def vocab_size(self) -> int:
        """How many token ids there are."""
        return len(self.tokens)

    @property
    def end_of_text(self) -> int:
        """The id of `<|endoftext|>`, which separates documents."""
        if END_OF_TEXT not in self.special:
            raise UserError(f"the tokenizer has no {END_OF_TEXT} token, which separates documents; add it to its file")
        return self.special[END_OF_TEXT]

    @cached_property
    def _id_of(self) -> dict[bytes, int]:
        return {token: i for i, token in enumerate(self.tokens) if i not in self.special.values()}

    @cached_property
    def byte_ids(self) -> tuple[int, ...]:
        return tuple(self._id_of[bytes([b])] for b in range(256))

    @cached_property
    def merge_table(self) -> dict[bpe.Pair, tuple[int, int]]:
        return {(a, b): (r, self._id_of[self.tokens[a] + self.tokens[b]]) for r, (a, b) in enumerate(self.merges)}

    def encode(self, text: str, allowed_special: Collection[str] = ()) -> list[int]:
        """Text to token ids.

        Special tokens written in the text are ordinary text unless their names are allowed. A lone surrogate, which
        no UTF-8 text can hold, is encoded as U+FFFD.

        Args:
            text: any string; nothing is normalised.
            allowed_special: names of special tokens to recognise in the text.

        Returns:
            The ids.

        Raises:
            UserError: an allowed name is not a special token of this vocabulary.
        """
        for name in allowed_special:
            if name not in self.special:
                raise UserError(f"{name!r} is not a special token of this tokenizer; it has {sorted(self.special)}")
        ids: list[int] = []
        for part in _cut_at(text, allowed_special):
            if part in allowed_special:
                ids.append(self.special[part])
            else:
                ids.extend(self.encode_bytes(_utf8(part)))
        return ids

    def encode_bytes(self, data: bytes) -> list[int]:
        """Any bytes to token ids; `decode_bytes` gives the same bytes back."""
        offsets = split(data).tolist()
        return list(chain.from_iterable(self._encode_piece(data[a:b]) for a, b in pairwise(offsets)))

    def _encode_piece(self, piece: bytes) -> list[int]:
        ids = self._cache.get(piece)
        if ids is None:
            byte_ids = self.byte_ids
            ids = bpe.apply([byte_ids[b] for b in piece], self.merge_table)
            if len(piece) <= _CACHED_LENGTH:
                if len(self._cache) >= _CACHED_PIECES:
                    self._cache.clear()
                self._cache[piece] = ids
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Token ids to bytes.

        Raises:
            UserError: an id is outside the vocabulary.
        """
        ids = list(ids)
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise UserError(f"token id {i} is outside the vocabulary, which goes from 0 to {self.vocab_size - 1}")
        return b"".join(self.tokens[i] for i in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Token ids to text; bytes that are not UTF-8 (a character cut in two, say) become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `tokenizer.json`; the file is whole or absent."""
        atomic.write_text(Path(path), json.dumps(_to_json(self), ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Tokenizer":
        """Read a `tokenizer.json` that holds a byte-level BPE with GPT-2's pre-tokenizer.

        Raises:
            UserError: the file is missing, damaged, or describes another kind of tokenizer.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"cannot read the tokenizer {path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is not JSON, so not a tokenizer.json: {error}") from error
        return cls.from_json(content, path)

    @classmethod
    def from_json(cls, content: Any, path: str | os.PathLike[str]) -> "Tokenizer":
        """The contents of a `tokenizer.json`; the path is for messages.

        Raises:
            UserError: they describe another kind of tokenizer.
        """
        try:
            return _from_json(content)
        except (_RefusedError, KeyError, TypeError, AttributeError, ValueError) as error:
            reason = error if isinstance(error, _RefusedError) else f"{type(error).__name__} {error}"
            raise UserError(f"{path} is not a byte-level BPE tokenizer.json in GPT-2's manner: {reason}") from error


def train_bpe(texts: str | Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a vocabulary of exactly `vocab_size` tokens: 256 bytes, merges, and `<|endoftext|>` with the last id.

    Args:
        texts: one text or several; merges never cross from one to the next.
        vocab_size: at least 257.

    Returns:
        The tokenizer.

    Raises:
        UserError: the size is under 257, or the texts are too small to fill it.
    """
    smallest = 256 + 1
    if vocab_size < smallest:
        raise UserError(f"vocabulary size {vocab_size} is too small: 256 bytes and {END_OF_TEXT} need {smallest}")
    counts: Counter[bytes] = Counter()
    for text in [texts] if isinstance(texts, str) else texts:
        data = _utf8(text)
        counts.update(data[a:b] for a, b in pairwise(split(data).tolist()))
    words = {tuple(_ID_OF_BYTE[b] for b in piece): n for piece, n in counts.items()}
    merges = bpe.learn(words, first_id=256, count=vocab_size - smallest)
    if len(merges) < vocab_size - smallest:
        raise UserError(
            f"vocabulary size {vocab_size} cannot be filled: the text yields at most {smallest + len(merges)} tokens; "
            "ask for fewer or give more text"
        )
    tokens = [bytes([b]) for b in BYTE_ORDER]
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return Tokenizer((*tokens, END_OF_TEXT.encode()), tuple(merges), {END_OF_TEXT: len(tokens)})


def _cut_at(text: str, names: Collection[str]) -> Iterator[str]:
    """Parts of the text, cut before and after every occurrence of a name (of several at one place, the longest)."""
    start = 0
    while names:
        places = [(place, -len(name), name) for name in names if (place := text.find(name, start)) >= 0]
        if not places:
            break
        place, _, name = min(places)
        yield text[start:place]
        yield name
        start = place + len(name)
    yield text[start:]


def _utf8(text: str) -> bytes:
    """UTF-8, with U+FFFD for a lone surrogate (a pair of surrogates is one character)."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _written(token: bytes) -> str:
    return "".join(_CHARACTER[b] for b in token)


def _to_json(tokenizer: Tokenizer) -> dict[str, Any]:
    names = {i: name for name, i in tokenizer.special.items()}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    written = [names.get(i) or _written(token) for i, token in enumerate(tokenizer.tokens)]
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
            "merges": [[written[a], written[b]] for a, b in tokenizer.merges],
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


class _RefusedError(Exception):
    """Why a tokenizer.json is not one of ours."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise _RefusedError(message)


def _from_json(content: Any) -> Tokenizer:
    model, pre = content["model"], content["pre_tokenizer"]
    kind = model.get("type", "BPE")  # GPT-2's own file does not say
    _require(kind == "BPE", f"model type {kind!r}, expected 'BPE'")
    _require(content.get("normalizer") is None, "it normalises text, which loses bytes")
    _require(
        pre["type"] == "ByteLevel" and not pre["add_prefix_space"] and pre.get("use_regex", True),
        f"pre_tokenizer {pre!r}, expected ByteLevel with use_regex and without add_prefix_space",
    )
    for option in _UNSUPPORTED:
        _require(not model.get(option), f"model option {option} = {model.get(option)!r} is not supported")

    special = {str(token["content"]): token["id"] for token in content.get("added_tokens") or []}
    ids = {**model["vocab"], **special}
    _require(all(type(i) is int for i in ids.values()), "a token id is not an integer")
    _require(sorted(ids.values()) == list(range(len(ids))), f"token ids are not 0 to {len(ids) - 1}, each once")

    tokens = [b""] * len(ids)
    for written, i in ids.items():
        unknown = set() if written in special else set(written) - _BYTE.keys()
        _require(not unknown, f"token {written!r} holds characters that stand for no byte")
        tokens[i] = written.encode() if written in special else bytes(_BYTE[c] for c in written)
    known = {written for written in ids if written not in special}
    missing = [b for b in range(256) if _CHARACTER[b] not in known]
    _require(not missing, f"{len(missing)} of the 256 single bytes have no token")

    merges = []
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        _require({left, right, left + right} <= known, f"merge {left!r} + {right!r} uses a token not in the vocabulary")
        merges.append((ids[left], ids[right]))
    _require(len(set(merges)) == len(merges), "a merge stands there twice")
    return Tokenizer(tuple(tokens), tuple(merges), special)
