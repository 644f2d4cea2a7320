"""The tokenizer: a vocabulary and its merges turn text into token ids and back."""

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

from valyrian_jax.errors import UserError, delay_interrupts
from valyrian_jax.files import parse_json, read_text, write_atomically
from valyrian_jax.tokenizer import batch, bpe, hf_format
from valyrian_jax.tokenizer.pretokenizer import load_class_table, split_texts

END_OF_TEXT = "<|endoftext|>"

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_MAX_KEYS = 1 << 20  # of a tokenizer.json; the largest vocabularies have 260,000 tokens
_MAX_CACHED_PIECES = 1 << 18
_MAX_CACHED_LENGTH = 64  # bytes of a piece


@dataclass(frozen=True)
class Tokenizer:
    """A byte-level BPE vocabulary.

    Attributes:
        tokens: Bytes of every token, by id; the name in UTF-8 for a special token.
        merges: Pairs of ids in the order learnt.
        special: Id of each special token, by name; plain text never produces these ids.
    """

    tokens: tuple[bytes, ...]
    merges: tuple[bpe.Pair, ...]
    special: Mapping[str, int]
    _cache: dict[bytes, list[int]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    @property
    def end_of_text(self) -> int:
        """Id of `<|endoftext|>`, which separates documents."""
        if END_OF_TEXT not in self.special:
            raise UserError(
                f"the tokenizer has no {END_OF_TEXT} token, which separates documents; add it to "
                "the added_tokens of its tokenizer.json"
            )
        return self.special[END_OF_TEXT]

    @cached_property
    def _id_of(self) -> dict[bytes, int]:
        special = {*self.special.values()}  # a set, because a file may have many
        return {token: i for i, token in enumerate(self.tokens) if i not in special}

    @cached_property
    def byte_ids(self) -> tuple[int, ...]:
        """Token id of each of the 256 bytes."""
        return tuple(self._id_of[bytes([b])] for b in range(256))

    @cached_property
    def merge_table(self) -> dict[bpe.Pair, tuple[int, int]]:
        """Rank of each pair in the merges, and id of the token that it becomes."""
        return {
            (a, b): (rank, self._id_of[self.tokens[a] + self.tokens[b]])
            for rank, (a, b) in enumerate(self.merges)
        }

    def encode(self, text: str, allowed_special: Collection[str] = ()) -> list[int]:
        """Return the token ids of a text.

        The name of a special token is ordinary text unless it is allowed. A lone surrogate, which
        UTF-8 cannot represent, is encoded as U+FFFD.

        Args:
            text: Any string; nothing is normalised.
            allowed_special: Names of special tokens to recognise in the text.

        Raises:
            UserError: An allowed name is not a special token of this vocabulary.
        """
        for name in allowed_special:
            if name not in self.special:
                raise UserError(
                    f"{name!r} is not a special token of this tokenizer; expected one of "
                    f"{sorted(self.special)}"
                )
        ids: list[int] = []
        for segment in _split_at_names(text, allowed_special):
            if segment in allowed_special:
                ids.append(self.special[segment])
            else:
                ids.extend(self.encode_bytes(batch.encode_utf8(segment)))
        return ids

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the token ids of any bytes; `decode_bytes` returns the same bytes."""
        return self._encode_group([data])[0].tolist()

    def encode_documents(self, documents: Iterable[str], workers: int = 1) -> tuple[Int32, Int64]:
        """Return the token ids of many texts, each encoded as by `encode`.

        Args:
            documents: Any strings.
            workers: Number of threads; each takes 8 MB at a time.

        Returns:
            The ids of all texts, concatenated, and the end of each text in them.
        """
        encoded = [(np.empty(0, np.int32), np.empty(0, np.int64))]
        with ThreadPoolExecutor(workers) as pool:
            groups = batch.group_texts(map(batch.encode_utf8, documents))
            encoded += pool.map(self._encode_group, groups)
        offsets = np.cumsum([0, *(len(ids) for ids, _ in encoded)])
        ends = [ends + offset for (_, ends), offset in zip(encoded, offsets, strict=False)]
        return np.concatenate([ids for ids, _ in encoded]), np.concatenate(ends)

    def _encode_group(self, texts: Sequence[bytes]) -> tuple[Int32, Int64]:
        """Return the ids of all texts, concatenated, and the end of each text in them."""
        data, text_ends = b"".join(texts), np.cumsum([len(text) for text in texts])
        if batch.is_worth_compiling(len(data)):
            from valyrian_jax.tokenizer import numba_bpe

            data_bytes, classes = np.frombuffer(data, np.uint8), load_class_table()
            with delay_interrupts():
                return numba_bpe.encode(data_bytes, text_ends, classes, *self._compiled_table)
        offsets = split_texts(texts)
        pieces = [self._encode_piece(data[a:b]) for a, b in pairwise(offsets.tolist())]
        piece_ends = np.cumsum([0, *map(len, pieces)])
        ids = np.fromiter(chain.from_iterable(pieces), np.int32, piece_ends[-1])
        return ids, piece_ends[np.searchsorted(offsets, text_ends, "right") - 1]

    @cached_property
    def _compiled_table(self) -> tuple[Any, ...]:
        from valyrian_jax.tokenizer import numba_bpe

        pairs = np.array(self.merges, np.int64).reshape(-1, 2)
        merged_ids = np.array([merged for _, merged in self.merge_table.values()], np.int32)
        return (
            np.array(self.byte_ids, np.int32),
            *numba_bpe.make_merge_table(pairs, merged_ids, batch.MIX),
            batch.MIX,
        )

    def _encode_piece(self, piece: bytes) -> list[int]:
        ids = self._cache.get(piece)
        if ids is None:
            byte_ids = self.byte_ids
            ids = bpe.apply([byte_ids[b] for b in piece], self.merge_table)
            if len(piece) <= _MAX_CACHED_LENGTH:
                if len(self._cache) >= _MAX_CACHED_PIECES:
                    self._cache.clear()
                self._cache[piece] = ids
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of token ids.

        Raises:
            UserError: An id is outside the vocabulary.
        """
        ids = list(ids)
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise UserError(
                    f"token id {i} is outside the vocabulary; expected an id from 0 to "
                    f"{self.vocab_size - 1}"
                )
        return b"".join(self.tokens[i] for i in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `tokenizer.json` atomically."""
        write_atomically(Path(path), self._to_json())

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file that `save` writes, so equal vocabularies have equal hashes."""
        return hashlib.sha256(self._to_json().encode()).hexdigest()

    def _to_json(self) -> str:
        content = hf_format.to_json(hf_format.Vocabulary(self.tokens, self.merges, self.special))
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Tokenizer":
        """Read a `tokenizer.json` that describes a byte-level BPE with GPT-2's pre-tokenizer.

        Raises:
            UserError: The file is missing, damaged or describes another kind of tokenizer.
        """
        content = read_text(path, "the tokenizer")
        # The vocabulary has a key for each token. Parsing far more would take long.
        if (keys := content.count('":')) > _MAX_KEYS:
            raise UserError(
                f"the tokenizer {path} is too large: expected at most {_MAX_KEYS:,} keys in it, "
                f"found {keys:,}; check that it is the right file"
            )
        return cls.from_json(parse_json(content, path), path)

    @classmethod
    def from_json(cls, content: Any, path: str | os.PathLike[str]) -> "Tokenizer":
        """Return the tokenizer in the content of a `tokenizer.json`.

        Args:
            content: Parsed JSON.
            path: Path of the file, for messages.

        Raises:
            UserError: The content describes another kind of tokenizer.
        """
        try:
            tokens, merges, special = hf_format.from_json(content)
        except hf_format.UnsupportedTokenizerError as error:
            raise UserError(
                f"{path} is not a byte-level BPE tokenizer.json like GPT-2's: {error}"
            ) from error
        return cls(tuple(tokens), tuple(merges), special)


class VocabularySizeError(UserError):
    """The texts yield too few merges for a vocabulary size; `largest` is the largest possible."""

    def __init__(self, vocab_size: int, largest: int) -> None:
        super().__init__(
            f"vocabulary size {vocab_size} cannot be filled: the text yields at most {largest} "
            "tokens; ask for fewer or give more text"
        )
        self.largest = largest


def train_bpe(text_or_texts: str | Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a vocabulary: 256 bytes, merges, and `<|endoftext|>` with the last id.

    Args:
        text_or_texts: One text or several, read once; no merge crosses from one to the next.
        vocab_size: Exact number of tokens, at least 257.

    Raises:
        VocabularySizeError: The texts yield too few merges to reach the size.
        UserError: The size is below 257.
    """
    smallest = 256 + 1
    if vocab_size < smallest:
        raise UserError(
            f"vocabulary size {vocab_size} is too small: 256 bytes and {END_OF_TEXT} need "
            f"{smallest}; ask for at least that many"
        )
    documents = [text_or_texts] if isinstance(text_or_texts, str) else text_or_texts
    counts = batch.count_pieces(map(batch.encode_utf8, documents))
    merges = batch.learn_merges(counts, vocab_size - smallest)
    if len(merges) < vocab_size - smallest:
        raise VocabularySizeError(vocab_size, smallest + len(merges))
    tokens = [bytes([b]) for b in hf_format.BYTE_ORDER]
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return Tokenizer((*tokens, END_OF_TEXT.encode()), tuple(merges), {END_OF_TEXT: len(tokens)})


def _split_at_names(text: str, names: Collection[str]) -> list[str]:
    """Split text before and after every name; where several names match, the longest one counts."""
    if not names:
        return [text]
    return re.split(f"({'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})", text)
