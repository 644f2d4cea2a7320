"""Encode the documents of a text as one array of tokens."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from valyrian_jax.tokenizer import Tokenizer

Tokens = npt.NDArray[np.unsignedinteger]

DOCUMENT_SEPARATOR = "\n\n"  # <|endoftext|> replaces it
_LARGE_TEXT = 1 << 26  # characters; the tokens of a larger text are kept in a file and mapped
_DOCUMENTS_AT_ONCE = 1 << 17


def count_bytes(documents: Iterable[str]) -> int:
    """Return the UTF-8 bytes of documents, each with the blank line after it."""
    return sum(len(document.encode()) + len(DOCUMENT_SEPARATOR) for document in documents)


def encode_documents(documents: Sequence[str], tokenizer: Tokenizer, scratch: Path) -> Tokens:
    """Encode documents as one array, with <|endoftext|> before, between and after them.

    Its type is the smallest unsigned integer that can represent the vocabulary. The tokens of a
    large text are mapped from a nameless file in `scratch`, which disappears with the process.
    """
    dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
    end = np.array([tokenizer.end_of_text], dtype)

    def encode_in_order() -> Iterator[Tokens]:
        yield end
        for first in range(0, len(documents), _DOCUMENTS_AT_ONCE):
            ids, ends = tokenizer.encode_documents(
                documents[first : first + _DOCUMENTS_AT_ONCE], os.cpu_count() or 1
            )
            yield np.insert(ids.astype(dtype), ends, end)

    if sum(map(len, documents)) <= _LARGE_TEXT:
        return np.concatenate(list(encode_in_order()))
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as file:
        for tokens in encode_in_order():
            tokens.tofile(file)
        return np.memmap(file, dtype, mode="r")
