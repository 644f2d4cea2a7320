"""The documents in files of any size, one after another, and what is wrong with some of them.

A file whose name ends in .jsonl or .ndjson holds a JSON object a line; any other one is a text whose documents are what
blank lines separate, the same ones as `data.split` finds. Both may be gzipped (.gz).
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from valyrian_jax.errors import UserError

LONGEST = 1 << 26  # bytes of a document, or of a line of JSON
GOOD = ""
NOT_UTF8, NOT_JSON, NO_TEXT = "not UTF-8", "invalid JSON", "no text under the key"
EMPTY, TOO_LONG = "empty", f"longer than {LONGEST >> 20} MB"
REASONS = (GOOD, NOT_UTF8, NOT_JSON, NO_TEXT, EMPTY, TOO_LONG)

# What parts paragraphs in `data`, but for the first carriage return: a pattern that begins with one character is found
# ten times as fast. In UTF-8 no other character has these bytes in it.
_BREAK = re.compile(rb"\n[ \t]*\r?\n[ \t]*(?:\r?\n[ \t]*)*")
_BLANK = b" \t\r\n"  # what a break is made of
_BLOCK = 1 << 22  # bytes read at a time


def is_zipped(path: Path) -> bool:
    """Whether a file is gzipped, by its name."""
    return path.name.lower().endswith(".gz")


def has_lines(path: Path) -> bool:
    """Whether a file holds JSON lines, by its name."""
    return path.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))


def read_raw(path: Path, longest: int) -> Iterator[bytes | None]:
    """The documents of a file as they stand there: paragraphs, or lines of JSON.

    Args:
        path: the file.
        longest: bytes of a document; no more than some more of them are held.

    Returns:
        What `text` takes; None for a document that is longer. Blank lines of JSON, and paragraphs of nothing but white
        space, are no documents.

    Raises:
        UserError: the file cannot be read to its end.
    """
    try:
        with cast(BinaryIO, gzip.open(path, "rb")) if is_zipped(path) else path.open("rb") as file:
            yield from (_lines if has_lines(path) else _paragraphs)(file, longest)
    except (OSError, EOFError, zlib.error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UserError(f"cannot read the text {path}: {reason}") from error


def decode(document: bytes | None, key: str | None) -> tuple[str, str]:
    """The text of a document.

    Args:
        document: from `raw`.
        key: of the text, for a line of JSON; None: the document is the text.

    Returns:
        The text and `GOOD`, or nothing and why there is none, one of `REASONS`.
    """
    if document is None:
        return "", TOO_LONG
    try:
        found: object = document.decode("utf-8")
        if key is not None:
            value = json.loads(document.decode("utf-8-sig"))
            found = value.get(key) if isinstance(value, dict) else None
    except UnicodeDecodeError:
        return "", NOT_UTF8
    except (ValueError, RecursionError):
        return "", NOT_JSON
    if not isinstance(found, str):
        return "", NO_TEXT
    return (found, GOOD) if found.strip() else ("", EMPTY)


def read_texts(path: Path, key: str) -> Iterator[str]:
    """The texts of the documents of a file, without those that have none.

    Raises:
        UserError: the file cannot be read to its end.
    """
    for document in read_raw(path, LONGEST):
        found, reason = decode(document, key if has_lines(path) else None)
        if reason == GOOD:
            yield found


def _lines(file: BinaryIO, longest: int) -> Iterator[bytes | None]:
    while line := file.readline(longest + 1):
        if len(line) > longest and not line.endswith(b"\n"):
            while (rest := file.readline(longest)) and not rest.endswith(b"\n"):
                pass
            yield None
        elif line.strip():
            yield line


def _paragraphs(file: BinaryIO, longest: int) -> Iterator[bytes | None]:
    """Without the white space at both ends of the text; each paragraph waits for the next, as it may be the last."""
    waiting: list[bytes | None] = []
    first = True
    for piece in _pieces(file, longest):
        if piece is not None and _is_blank(piece):
            continue
        yield from waiting
        waiting = [_stripped(piece, str.lstrip) if first else piece]
        first = False
    yield from (_stripped(piece, str.rstrip) for piece in waiting)


def _pieces(file: BinaryIO, longest: int) -> Iterator[bytes | None]:
    """What stands between blank lines."""
    rest = b""
    is_long = False  # the document that `rest` goes on with was too long already
    while block := file.read(_BLOCK):
        rest += block
        end = len(rest.rstrip(_BLANK))  # no break before it can become another one by what follows
        *whole, last = _BREAK.split(rest[:end])
        for piece in whole:
            yield None if is_long or len(piece) > longest else piece.removesuffix(b"\r")
            is_long = False
        if len(last) > longest:
            last, is_long = b"-", True
        blank = rest[end:]
        rest = last + (
            blank if len(blank) <= longest else b"\n\n"
        )  # so much of it parts documents whatever it is
    for piece in _BREAK.split(rest):
        yield None if is_long or len(piece) > longest else piece.removesuffix(b"\r")
        is_long = False


def _is_blank(piece: bytes) -> bool:
    beginning = piece[:64].decode("utf-8", "ignore")  # enough to know of nearly all
    return not beginning.strip() and not piece.decode("utf-8", "replace").strip()


def _stripped(piece: bytes | None, strip: Callable[[str], str]) -> bytes | None:
    try:
        return piece if piece is None else strip(piece.decode("utf-8")).encode()
    except UnicodeDecodeError:
        return piece
