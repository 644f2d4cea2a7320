"""Read a text, find its documents and tokenize them."""

import codecs
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from valyrian_jax.errors import UserError
from valyrian_jax.files import make_utf8_error, read_input
from valyrian_jax.tokenizer import Tokenizer

Tokens = npt.NDArray[np.unsignedinteger]

DOCUMENT_SEPARATOR = "\n\n"  # <|endoftext|> replaces it
_PARAGRAPH_BREAK = re.compile(r"(?:\r?\n[ \t]*){2,}")
_WORD_BREAK = re.compile(r"(?<=\S)[ \n](?=\S)")  # the pre-tokenizer always cuts before this space
_BLOCK = 1 << 24  # bytes read at a time
_TAIL = 1 << 12  # characters at the end of a block that are searched for a word break
_LARGE_TEXT = 1 << 26  # characters; the tokens of a larger text are kept in a file and mapped
_DOCUMENTS_AT_ONCE = 1 << 17


def read_corpus(path: str | Path) -> str:
    """Return the text of a corpus.

    Raises:
        UserError: The file is missing, empty or not UTF-8.
    """
    text = read_input(path, "the text", max_bytes=None)
    if not text.strip():
        raise UserError(f"the text {path} is empty")
    return text


def read_blocks(path: str | Path) -> Iterator[str]:
    """Yield a text in blocks of about 16 MB, cut only where every tokenizer would cut.

    Raises:
        UserError: The file is missing or not UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    text, decoded = "", 0
    try:
        with Path(path).open("rb") as file:
            while block := file.read(_BLOCK):
                text += decoder.decode(block)
                decoded = file.tell() - len(decoder.getstate()[0])
                tail = max(len(text) - _TAIL, 0)
                if breaks := [match.start() for match in _WORD_BREAK.finditer(text, tail)]:
                    yield text[: breaks[-1]]
                    text = text[breaks[-1] :]
            yield text + decoder.decode(b"", final=True)
    except OSError as error:
        raise UserError(
            f"cannot read the text {path}: {error.strerror}; expected a UTF-8 text file"
        ) from error
    except UnicodeDecodeError as error:
        raise make_utf8_error(f"the text {path}", error, decoded) from error


def find_documents(text: str) -> list[str]:
    """Return the documents of a text; blank lines separate them."""
    return _PARAGRAPH_BREAK.split(text.strip())


def count_bytes(documents: Iterable[str]) -> int:
    """Return the UTF-8 bytes of documents, each with the blank line after it."""
    return sum(len(document.encode()) + len(DOCUMENT_SEPARATOR) for document in documents)


def encode_documents(documents: Sequence[str], tokenizer: Tokenizer, scratch: Path) -> Tokens:
    """Encode documents as one array, with <|endoftext|> before, between and after them.

    Args:
        documents: The texts.
        tokenizer: The tokenizer.
        scratch: Directory for the tokens of a large text, in a nameless file that the system
            deletes when the process ends.

    Returns:
        The smallest unsigned integers that hold the vocabulary.
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
