"""The tokenizer: a vocabulary, its merges, and text to ids and back."""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from valyrian_jax.errors import UserError
from valyrian_jax.files import read_json, write_atomically
from valyrian_jax.tokenizer import batch, bpe, hf_format
from valyrian_jax.tokenizer.pretokenizer import class_table, split_texts

END_OF_TEXT = "<|endoftext|>"

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

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
    _cache: dict[bytes, list[int]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def vocab_size(self) -> int:
        """How many token ids there are."""
        return len(self.tokens)

    @property
    def end_of_text(self) -> int:
        """The id of `<|endoftext|>`, which separates documents."""
        if END_OF_TEXT not in self.special:
            raise UserError(
                f"the tokenizer has no {END_OF_TEXT} token, which separates documents; add it to its file"
            )
        return self.special[END_OF_TEXT]

    @cached_property
    def _id_of(self) -> dict[bytes, int]:
        special = {*self.special.values()}  # a file may have many
        return {token: i for i, token in enumerate(self.tokens) if i not in special}

    @cached_property
    def byte_ids(self) -> tuple[int, ...]:
        return tuple(self._id_of[bytes([b])] for b in range(256))

    @cached_property
    def merge_table(self) -> dict[bpe.Pair, tuple[int, int]]:
        return {
            (a, b): (r, self._id_of[self.tokens[a] + self.tokens[b]])
            for r, (a, b) in enumerate(self.merges)
        }

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
                raise UserError(
                    f"{name!r} is not a special token of this tokenizer; it has {sorted(self.special)}"
                )
        ids: list[int] = []
        for part in _cut_at(text, allowed_special):
            if part in allowed_special:
                ids.append(self.special[part])
            else:
                ids.extend(self.encode_bytes(batch.utf8(part)))
        return ids

    def encode_bytes(self, data: bytes) -> list[int]:
        """Any bytes to token ids; `decode_bytes` gives the same bytes back."""
        return self._encode([data])[0].tolist()

    def encode_documents(self, documents: Iterable[str], workers: int = 1) -> tuple[Int32, Int64]:
        """Many texts to token ids, each as `encode` gives it.

        Args:
            documents: any strings.
            workers: threads that share the work, 8 MB at a time.

        Returns:
            The ids of all texts, one behind the other, and where the ids of each one end.
        """
        with ThreadPoolExecutor(workers) as pool:
            found = list(pool.map(self._encode, batch.batches(map(batch.utf8, documents))))
        before = np.cumsum([0, *(len(ids) for ids, _ in found)])
        ends = [ends + shift for (_, ends), shift in zip(found, before, strict=False)]
        none = np.empty(0, np.int32), np.empty(0, np.int64)
        return np.concatenate([none[0], *(ids for ids, _ in found)]), np.concatenate(
            [none[1], *ends]
        )

    def _encode(self, group: Sequence[bytes]) -> tuple[Int32, Int64]:
        data, ends = b"".join(group), np.cumsum([len(text) for text in group])
        if batch.pays_to_compile(len(data)):
            from valyrian_jax.tokenizer import numba_bpe

            return numba_bpe.encode(
                np.frombuffer(data, np.uint8), ends, class_table(), *self._compiled_table
            )
        offsets = split_texts(group)
        pieces = [self._encode_piece(data[a:b]) for a, b in pairwise(offsets.tolist())]
        done = np.cumsum([0, *map(len, pieces)])  # ids after so many pieces
        ids = np.fromiter(chain.from_iterable(pieces), np.int32, done[-1])
        return ids, done[np.searchsorted(offsets, ends, "right") - 1]

    @cached_property
    def _compiled_table(self) -> tuple[Any, ...]:
        from valyrian_jax.tokenizer import numba_bpe

        pairs = np.array(self.merges, np.int64).reshape(-1, 2)
        made = np.array([made for _, made in self.merge_table.values()], np.int32)
        return (
            np.array(self.byte_ids, np.int32),
            *numba_bpe.merge_table(pairs, made, batch.MIX),
            batch.MIX,
        )

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
                raise UserError(
                    f"token id {i} is outside the vocabulary, which goes from 0 to {self.vocab_size - 1}"
                )
        return b"".join(self.tokens[i] for i in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Token ids to text; bytes that are not UTF-8 (a character cut in two, say) become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `tokenizer.json`; the file is whole or absent."""
        write_atomically(Path(path), self._content())

    @cached_property
    def sha256(self) -> str:
        """Of the file that `save` writes, whatever file this one was read from: equal where all tokens are."""
        return hashlib.sha256(self._content().encode()).hexdigest()

    def _content(self) -> str:
        content = hf_format.to_json(hf_format.Vocabulary(self.tokens, self.merges, self.special))
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Tokenizer":
        """Read a `tokenizer.json` that holds a byte-level BPE with GPT-2's pre-tokenizer.

        Raises:
            UserError: the file is missing, damaged, or describes another kind of tokenizer.
        """
        return cls.from_json(read_json(path, "the tokenizer"), path)

    @classmethod
    def from_json(cls, content: Any, path: str | os.PathLike[str]) -> "Tokenizer":
        """The contents of a `tokenizer.json`; the path is for messages.

        Raises:
            UserError: they describe another kind of tokenizer.
        """
        try:
            found = hf_format.from_json(content)
        except (
            hf_format.UnsupportedTokenizerError,
            KeyError,
            TypeError,
            AttributeError,
            ValueError,
        ) as error:
            reason = (
                error
                if isinstance(error, hf_format.UnsupportedTokenizerError)
                else f"{type(error).__name__} {error}"
            )
            raise UserError(
                f"{path} is not a byte-level BPE tokenizer.json in GPT-2's manner: {reason}"
            ) from error
        return cls(tuple(found.tokens), tuple(found.merges), found.special)


def train_bpe(text_or_texts: str | Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a vocabulary of exactly `vocab_size` tokens: 256 bytes, merges, and `<|endoftext|>` with the last id.

    Args:
        text_or_texts: one text or several, read once; merges never cross from one to the next.
        vocab_size: at least 257.

    Returns:
        The tokenizer.

    Raises:
        UserError: the size is under 257, or the texts are too small to fill it.
    """
    smallest = 256 + 1
    if vocab_size < smallest:
        raise UserError(
            f"vocabulary size {vocab_size} is too small: 256 bytes and {END_OF_TEXT} need {smallest}"
        )
    documents = [text_or_texts] if isinstance(text_or_texts, str) else text_or_texts
    merges = batch.learn(batch.count(map(batch.utf8, documents)), vocab_size - smallest)
    if len(merges) < vocab_size - smallest:
        raise UserError(
            f"vocabulary size {vocab_size} cannot be filled: the text yields at most {smallest + len(merges)} tokens; "
            "ask for fewer or give more text"
        )
    tokens = [bytes([b]) for b in hf_format.BYTE_ORDER]
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return Tokenizer((*tokens, END_OF_TEXT.encode()), tuple(merges), {END_OF_TEXT: len(tokens)})


def _cut_at(text: str, names: Collection[str]) -> list[str]:
    """Parts of the text, cut before and after every occurrence of a name (of several at one place, the longest)."""
    if not names:
        return [text]
    return re.split(f"({'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})", text)
