"""The tokenizer: a vocabulary and its merges turn text into token ids and back."""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from valyrian_jax.errors import UserError
from valyrian_jax.files import localize, parse_json, read_text, write_atomically
from valyrian_jax.tokenizer import batch, bpe, hf_format
from valyrian_jax.tokenizer.decoder import Decoder
from valyrian_jax.tokenizer.encoder import Encoder

END_OF_TEXT = "<|endoftext|>"

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_MAX_KEYS = 1 << 20  # of a tokenizer.json; the largest vocabularies have 260,000 tokens


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
        if not allowed_special:
            return self._encoder.encode(batch.encode_utf8(text))
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
                ids.extend(self._encoder.encode(batch.encode_utf8(segment)))
        return ids

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the token ids of any bytes; `decode_bytes` returns the same bytes."""
        return self._encoder.encode(data)

    def encode_array(self, text: str) -> Int32:
        """Return the ids of `encode` as an int32 array, which takes less memory and time."""
        return self._encoder.encode_array(batch.encode_utf8(text))

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
            encoded += pool.map(self._encoder.encode_all, groups)
        offsets = np.cumsum([0, *(len(ids) for ids, _ in encoded)])
        ends = [ends + offset for (_, ends), offset in zip(encoded, offsets, strict=False)]
        return np.concatenate([ids for ids, _ in encoded]), np.concatenate(ends)

    def compile(self) -> None:
        """Load the compiled code now, before the first text.

        Otherwise it is loaded after about a second of encoding. Loading takes several seconds the
        first time on a machine, and then about one.

        Raises:
            ImportError: Numba is not installed.
        """
        self._encoder.compile()

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.byte_ids, self.merge_table)

    @cached_property
    def _decoder(self) -> Decoder:
        return Decoder(self.tokens)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of token ids.

        Raises:
            UserError: An id is outside the vocabulary.
        """
        return self._decoder.decode(ids)

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
        content = read_text(localize(path), "the tokenizer")
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
                f"{path} is not a byte-level BPE tokenizer.json like GPT-2's: {error}; use another "
                "tokenizer"
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
    return re.split(f"({'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})", text)
