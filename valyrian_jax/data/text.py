"""Text to batches: read, split, tokenize, and cut windows.

There is no cursor: a batch is a function of the tokens, the seed and the step, so a resumed run sees the same data.
"""

import codecs
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer

Tokens = npt.NDArray[np.unsignedinteger]

DOCUMENT_SEPARATOR = "\n\n"  # what <|endoftext|> stands for in the file
_PARAGRAPH_BREAK = re.compile(r"(?:\r?\n[ \t]*){2,}")
_LINE, _WORD = re.compile(r"[^\n]+\n*"), re.compile(r"\S+\s*")
_SENTENCE_BREAK = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD_BREAK = re.compile(
    r"(?<=\S)[ \n](?=\S)"
)  # the pre-tokenizer cuts before such a space, whatever stands around it
_BLOCK, _TAIL = (
    1 << 24,
    1 << 12,
)  # bytes read at a time; characters looked through for a place to cut
_FEWEST_PARTS = 20
_LARGE_TEXT = 1 << 26  # characters; above, tokens are kept in a file and mapped
_TOKENIZED_TOGETHER = 1 << 17  # documents


class DataSplit(NamedTuple):
    """The two parts of a corpus, each a list of documents."""

    train: list[str]
    held_out: list[str]


def read_corpus(path: str | Path) -> str:
    """Read a corpus.

    Raises:
        UserError: the file is missing, empty or not UTF-8.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(
            f"cannot read the text {path}: {error.strerror}; expected a UTF-8 text file"
        ) from error
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error
    if not text.strip():
        raise UserError(f"the text {path} is empty")
    return text


def read_blocks(path: str | Path) -> Iterator[str]:
    """Read a text a block of some 16 MB at a time, cut only where every tokenizer cut would be anyway.

    Raises:
        UserError: the file is missing or not UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    text, decoded = "", 0
    try:
        with Path(path).open("rb") as file:
            while block := file.read(_BLOCK):
                text += decoder.decode(block)
                decoded = file.tell() - len(decoder.getstate()[0])
                places = [
                    found.start() for found in _WORD_BREAK.finditer(text, max(len(text) - _TAIL, 0))
                ]
                if places:
                    yield text[: places[-1]]
                    text = text[places[-1] :]
            yield text + decoder.decode(b"", final=True)
    except OSError as error:
        raise UserError(
            f"cannot read the text {path}: {error.strerror}; expected a UTF-8 text file"
        ) from error
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error, decoded) from error


def _not_utf8(path: str | Path, error: UnicodeDecodeError, before: int = 0) -> UserError:
    byte, place = error.object[error.start], before + error.start
    return UserError(
        f"the text {path} is not UTF-8: byte 0x{byte:02x} at offset {place}; convert it first"
    )


def split_documents(text: str, held_out: float) -> DataSplit:
    """Hold out the end of a text, cut between documents.

    Documents are what blank lines separate. A text with fewer than 20 of them is cut between lines instead, and one
    with fewer than 20 lines between words; each part is then one document.

    Args:
        text: the corpus.
        held_out: share of the characters to hold out, at least one document.

    Returns:
        The training and the held-out documents.

    Raises:
        UserError: there is nothing to cut between.
    """
    text = text.strip()
    paragraphs = _PARAGRAPH_BREAK.split(text)
    if len(paragraphs) >= _FEWEST_PARTS:
        cut = _cut(paragraphs, held_out)
        return DataSplit(paragraphs[:cut], paragraphs[cut:])
    for part in (_LINE, _WORD):
        parts = part.findall(text)
        if len(parts) >= _FEWEST_PARTS:
            cut = _cut(parts, held_out)
            return DataSplit(["".join(parts[:cut]).strip()], ["".join(parts[cut:])])
    raise UserError(
        f"the text is too short to hold a part of it out: {len(parts)} words, expected at least {_FEWEST_PARTS}"
    )


def _cut(parts: Sequence[str], held_out: float) -> int:
    """Index of the first held-out part, so that the share comes as near as whole parts allow; both sides get one."""
    sizes = np.cumsum([len(part) for part in parts])
    return int(np.abs(sizes[:-1] - sizes[-1] * (1 - held_out)).argmin()) + 1


def find_sentences(documents: Iterable[str]) -> list[str]:
    """The sentences of documents: cut after . ! or ? and at line ends."""
    found = (s.strip() for document in documents for s in _SENTENCE_BREAK.split(document))
    return [sentence for sentence in found if sentence]


def sentence_overlap(parts: DataSplit) -> float:
    """Share of the held-out sentences that also stand in the training part: 0 means that nothing leaks."""
    seen = set(find_sentences(parts.train))
    held_out = find_sentences(parts.held_out)
    return sum(sentence in seen for sentence in held_out) / max(len(held_out), 1)


def count_bytes(documents: Iterable[str]) -> int:
    """UTF-8 bytes of documents, each with the blank line that follows it."""
    return sum(len(document.encode()) + len(DOCUMENT_SEPARATOR) for document in documents)


def encode_documents(documents: Sequence[str], tokenizer: Tokenizer, scratch: Path) -> Tokens:
    """Documents as one array of tokens: <|endoftext|> before, between and after them.

    Args:
        documents: the texts.
        tokenizer: the vocabulary.
        scratch: a directory for the tokens of a large text: in a file without a name, which goes with the process.

    Returns:
        unsigned integers, as small as the vocabulary allows.
    """
    dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
    end = np.array([tokenizer.end_of_text], dtype)

    def pieces() -> Iterator[Tokens]:
        yield end
        for first in range(0, len(documents), _TOKENIZED_TOGETHER):
            ids, ends = tokenizer.encode_documents(
                documents[first : first + _TOKENIZED_TOGETHER], os.cpu_count() or 1
            )
            yield np.insert(ids.astype(dtype), ends, end)

    if sum(map(len, documents)) <= _LARGE_TEXT:
        return np.concatenate(list(pieces()))
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as file:
        for piece in pieces():
            piece.tofile(file)
        return np.memmap(file, dtype, mode="r")
