"""Documents of a text of any size, one after another, with a reason for each that has no text.

In plain text, a document is what lies between two separators; in JSON, an object per line or in an
array; in Parquet, a row. `valyrian_jax.data.reading.text_reader` opens the text. Only a long
document of plain text comes in several pieces.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from valyrian_jax.config import BLANK_LINE
from valyrian_jax.data.reading.json_texts import read_elements, read_lines
from valyrian_jax.data.reading.parquet import read_rows
from valyrian_jax.data.reading.separators import split_stream
from valyrian_jax.data.reading.text_form import Note, TextForm, check_text
from valyrian_jax.data.reading.text_reader import (
    TextStream,
    cut_between_words,
    decode_blocks,
    open_text,
)
from valyrian_jax.errors import UserError

MAX_DOCUMENT_BYTES = 1 << 26  # of a line or element of JSON, and of a piece of plain text
GOOD, CONTINUATION = "", "continuation"
NOT_UTF8, NOT_JSON, NO_TEXT = "not UTF-8", "invalid JSON", "no text under the key"
EMPTY, TOO_LONG = "empty", f"longer than {MAX_DOCUMENT_BYTES >> 20} MB"
DUPLICATE = "duplicate"  # of an earlier document; only `shards.duplicates` finds it
REASONS = (GOOD, NOT_UTF8, NOT_JSON, NO_TEXT, EMPTY, TOO_LONG, CONTINUATION, DUPLICATE)


def ignore_note(_: str) -> None:
    """Ignore a note."""


class RawDocument(NamedTuple):
    """A document before it is decoded."""

    content: bytes | None  # its bytes; None if there are too many
    text_key: str | None = None  # key of the text in JSON; None if the bytes are the text
    is_continuation: bool = False  # whether it continues the document before it
    is_whole: bool = True  # False for a piece of a longer document


class DecodedDocument(NamedTuple):
    """The text of a document, or the reason why it has none, one of `REASONS`."""

    text: str
    reason: str


def read_documents(
    path: str | Path,
    text_key: str = "text",
    separator: str = BLANK_LINE,
    max_bytes: int = MAX_DOCUMENT_BYTES,
    note: Note = ignore_note,
) -> Iterator[RawDocument]:
    """Yield the documents of a text; white space alone is not a document.

    Args:
        path: The text.
        text_key: Key of the text in JSON, or its column in Parquet; empty: JSON is plain text.
        separator: What separates the documents of plain text.
        max_bytes: Size up to which a document is read; more would take too much memory.
        note: Function that takes a line about the text.

    Raises:
        UserError: The text cannot be read, or has no such key.
    """
    with open_text(path) as stream:
        form = check_text(stream, text_key, separator, note)
        yield from _read_stream(stream, form, text_key, separator, max_bytes)


def _read_stream(
    stream: TextStream,
    form: TextForm,
    text_key: str,
    separator: str,
    max_bytes: int = MAX_DOCUMENT_BYTES,
) -> Iterator[RawDocument]:
    match form:
        case "Parquet":
            yield from map(RawDocument, read_rows(stream, text_key))
        case "lines":
            for line in read_lines(stream.file, max_bytes):
                yield RawDocument(line, text_key)
        case "array":
            for element in read_elements(stream, max_bytes):
                yield RawDocument(element, text_key)
        case "" | "other":
            yield from _read_plain(stream, separator, max_bytes)


def _read_plain(stream: TextStream, separator: str, max_bytes: int) -> Iterator[RawDocument]:
    """Yield the documents of plain text; a new one begins after a piece that is skipped."""
    previous = RawDocument(b"")
    for piece in split_stream(stream.file, separator, max_bytes):
        is_continuation = not piece.is_first and decode_document(previous).reason in (
            GOOD,
            CONTINUATION,
        )
        is_whole = piece.is_first and piece.is_last
        previous = RawDocument(piece.text, None, is_continuation, is_whole)
        yield previous


def decode_document(document: RawDocument) -> DecodedDocument:
    """Return the text of a document, or the reason why it has none."""
    if document.content is None:
        return DecodedDocument("", TOO_LONG)
    try:
        text: object = document.content.decode("utf-8")
        if document.text_key is not None:
            value = json.loads(document.content.decode("utf-8-sig"))
            text = value.get(document.text_key) if isinstance(value, dict) else value
    except UnicodeDecodeError:
        return DecodedDocument("", NOT_UTF8)
    except (ValueError, RecursionError):
        return DecodedDocument("", NOT_JSON)
    if not isinstance(text, str):
        return DecodedDocument("", NO_TEXT)
    if document.is_continuation:
        return DecodedDocument(text, CONTINUATION)
    return DecodedDocument(text, GOOD) if text.strip() else DecodedDocument("", EMPTY)


def read_texts(
    path: str | Path,
    text_key: str = "text",
    separator: str = BLANK_LINE,
    note: Note = ignore_note,
    document_end: str = "",
) -> Iterator[str]:
    """Yield a text of any size in parts: plain text in blocks, any other a document at a time.

    Plain text with the default separator is cut only where every tokenizer would cut. For any other
    text, `document_end` is added to each document. See `read_documents` for the other arguments.
    """
    with open_text(path) as stream:
        form = check_text(stream, text_key, separator, note)
        if separator == BLANK_LINE and not form:
            yield from cut_between_words(decode_blocks(stream))
            return
        for text in read_good_texts(stream, form, text_key, separator, Counter()):
            yield text + document_end


def read_good_texts(
    stream: TextStream, form: TextForm, text_key: str, separator: str, reasons: Counter[str]
) -> Iterator[str]:
    """Yield the texts of documents and pieces that have one; count all of them by `REASONS`."""
    for document in _read_stream(stream, form, text_key, separator):
        text, reason = decode_document(document)
        reasons[reason] += 1
        if reason in (GOOD, CONTINUATION):
            yield text
    if not reasons[GOOD]:
        raise UserError(
            f"there is no document in {stream.name}{describe_skipped(reasons)}; expected text, in "
            f"JSON under the key {text_key!r}: name another text, or another key with "
            "--data.text_key (or --text-key)"
        )


def describe_skipped(reasons: Mapping[str, int]) -> str:
    """Describe how many documents were skipped and why; empty if none were."""
    skipped = {
        reason: count
        for reason, count in reasons.items()
        if count and reason not in (GOOD, CONTINUATION)
    }
    if not skipped:
        return ""
    described = ", ".join(f"{count:,} {reason}" for reason, count in skipped.items())
    return f"; skipped {sum(skipped.values()):,}: {described}"
