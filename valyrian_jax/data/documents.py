"""Documents of a file of any size, one after another, with a reason for each that has no text.

A name that ends in .jsonl or .ndjson means one JSON object a line. Any other file is a text whose
documents are separated by blank lines, exactly as in `valyrian_jax.data.text.find_documents`.
Both kinds may be gzipped (.gz).
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from valyrian_jax.errors import UserError

MAX_DOCUMENT_BYTES = 1 << 26  # also of a line of JSON
GOOD = ""
NOT_UTF8, NOT_JSON, NO_TEXT = "not UTF-8", "invalid JSON", "no text under the key"
EMPTY, TOO_LONG = "empty", f"longer than {MAX_DOCUMENT_BYTES >> 20} MB"
REASONS = (GOOD, NOT_UTF8, NOT_JSON, NO_TEXT, EMPTY, TOO_LONG)

# The paragraph break of `text`, without its first carriage return: a pattern that begins with one
# fixed character is ten times as fast. In UTF-8 no other character contains these bytes.
_BREAK = re.compile(rb"\n[ \t]*\r?\n[ \t]*(?:\r?\n[ \t]*)*")
_BREAK_BYTES = b" \t\r\n"
_BLOCK = 1 << 22  # bytes read at a time


def is_gzipped(path: Path) -> bool:
    """Return whether the name is that of a gzipped file."""
    return path.name.lower().endswith(".gz")


def is_json_lines(path: Path) -> bool:
    """Return whether the name is that of a file of JSON lines."""
    return path.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))


def read_documents(path: Path, max_bytes: int) -> Iterator[bytes | None]:
    """Yield the documents of a file as raw bytes: paragraphs, or lines of JSON.

    Blank lines of JSON and paragraphs of white space are skipped.

    Args:
        path: The file.
        max_bytes: Largest size of a document. Memory does not grow with longer ones.

    Yields:
        Input of `decode_document`; None for a document that is too long.

    Raises:
        UserError: The file cannot be read to its end.
    """
    try:
        with cast(BinaryIO, gzip.open(path, "rb")) if is_gzipped(path) else path.open("rb") as file:
            yield from (_lines if is_json_lines(path) else _paragraphs)(file, max_bytes)
    except (OSError, EOFError, zlib.error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UserError(f"cannot read the text {path}: {reason}") from error


def decode_document(document: bytes | None, text_key: str | None) -> tuple[str, str]:
    """Return the text of a document.

    Args:
        document: Raw bytes; None if there were too many.
        text_key: Key of the text in a line of JSON; None if the document is the text.

    Returns:
        The text and `GOOD`; or an empty text and the reason, one of `REASONS`.
    """
    if document is None:
        return "", TOO_LONG
    try:
        text: object = document.decode("utf-8")
        if text_key is not None:
            value = json.loads(document.decode("utf-8-sig"))
            text = value.get(text_key) if isinstance(value, dict) else None
    except UnicodeDecodeError:
        return "", NOT_UTF8
    except (ValueError, RecursionError):
        return "", NOT_JSON
    if not isinstance(text, str):
        return "", NO_TEXT
    return (text, GOOD) if text.strip() else ("", EMPTY)


def read_texts(path: Path, text_key: str) -> Iterator[str]:
    """Yield the texts of a file's documents; documents without one are skipped.

    Raises:
        UserError: The file cannot be read to its end.
    """
    for document in read_documents(path, MAX_DOCUMENT_BYTES):
        text, reason = decode_document(document, text_key if is_json_lines(path) else None)
        if reason == GOOD:
            yield text


def _lines(file: BinaryIO, max_bytes: int) -> Iterator[bytes | None]:
    while line := file.readline(max_bytes + 1):
        if len(line) > max_bytes and not line.endswith(b"\n"):
            while (rest := file.readline(max_bytes)) and not rest.endswith(b"\n"):
                pass
            yield None
        elif line.strip():
            yield line


def _paragraphs(file: BinaryIO, max_bytes: int) -> Iterator[bytes | None]:
    """Yield paragraphs; the first and the last lose the white space at the ends of the text."""
    previous: list[bytes | None] = []  # one paragraph, which may turn out to be the last
    is_first = True
    for chunk in _split_at_breaks(file, max_bytes):
        if chunk is not None and _is_blank(chunk):
            continue
        yield from previous
        previous = [_strip(chunk, str.lstrip) if is_first else chunk]
        is_first = False
    yield from (_strip(chunk, str.rstrip) for chunk in previous)


def _split_at_breaks(file: BinaryIO, max_bytes: int) -> Iterator[bytes | None]:
    """Yield the bytes between paragraph breaks; None where there are too many."""
    rest = b""
    is_long = False  # whether the document that continues in `rest` is too long already
    while block := file.read(_BLOCK):
        rest += block
        end = len(rest.rstrip(_BREAK_BYTES))  # later bytes cannot change a break before this
        *chunks, last = _BREAK.split(rest[:end])
        for chunk in chunks:
            yield None if is_long or len(chunk) > max_bytes else chunk.removesuffix(b"\r")
            is_long = False
        if len(last) > max_bytes:
            last, is_long = b"-", True
        blank = rest[end:]
        rest = last + (blank if len(blank) <= max_bytes else b"\n\n")  # so long, it is a break
    for chunk in _BREAK.split(rest):
        yield None if is_long or len(chunk) > max_bytes else chunk.removesuffix(b"\r")
        is_long = False


def _is_blank(chunk: bytes) -> bool:
    start = chunk[:64].decode("utf-8", "ignore")  # nearly always enough
    return not start.strip() and not chunk.decode("utf-8", "replace").strip()


def _strip(chunk: bytes | None, strip: Callable[[str], str]) -> bytes | None:
    try:
        return chunk if chunk is None else strip(chunk.decode("utf-8")).encode()
    except UnicodeDecodeError:
        return chunk
