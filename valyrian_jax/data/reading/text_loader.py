"""Read a text into memory, if it fits."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from valyrian_jax.config import BLANK_LINE
from valyrian_jax.data.reading.documents import describe_skipped, read_good_texts
from valyrian_jax.data.reading.separators import find_documents
from valyrian_jax.data.reading.text_form import TextForm, check_form, describe_separator
from valyrian_jax.data.reading.text_reader import decode_blocks, open_text
from valyrian_jax.errors import UserError
from valyrian_jax.files import is_url, measure_url, memory_bytes
from valyrian_jax.tokenizer.batch import encode_utf8
from valyrian_jax.tokenizer.display import format_size

# A run has the text, its documents, tokens and sentences in memory at once: 12 times its bytes.
_MEMORY_SHARE = 1 / 16


class Text(NamedTuple):
    """A text in memory."""

    documents: list[str]
    size: int  # bytes in UTF-8
    fingerprint: str  # SHA-256 of the plain text in UTF-8, or of the documents of JSON and Parquet
    notes: tuple[str, ...] = ()  # notes for the user, one line each


def load_text(path: str | Path, text_key: str = "text", separator: str = BLANK_LINE) -> Text:
    """Read a text into memory.

    Args:
        path: The text; see `valyrian_jax.data.reading.text_reader`.
        text_key: Key of the text in JSON, or its column in Parquet; empty: JSON is plain text.
        separator: What separates the documents of plain text.

    Raises:
        UserError: The text cannot be read to its end, is not UTF-8, is empty, or is too large for
            memory.
    """
    max_bytes = int(memory_bytes() * _MEMORY_SHARE)
    reasons: Counter[str] = Counter()
    parts: list[str] = []
    size, digest = 0, hashlib.sha256()
    with open_text(path) as stream:
        name = stream.name
        if (_measure_file(path) or 0) > max_bytes:
            raise _make_size_error(name, max_bytes)
        form = check_form(stream, text_key)
        good = read_good_texts(stream, form, text_key, separator, reasons) if form else None
        for text in good or decode_blocks(stream):
            encoded = encode_utf8(text)
            size += len(encoded)
            if size > max_bytes:
                raise _make_size_error(name, max_bytes)
            digest.update(len(encoded).to_bytes(8, "little") + encoded if form else encoded)
            parts.append(text)
    if not form:
        whole = "".join(parts)
        parts.clear()  # The memory holds the text twice, not three times.
        parts = find_documents(whole, separator)
        if not any(map(str.strip, parts)):
            raise UserError(f"{name} is empty; expected at least some words: name another text")
    notes = _list_notes(path, form, parts, separator, describe_skipped(reasons))
    return Text(parts, size, digest.hexdigest(), tuple(filter(None, notes)))


def _list_notes(
    path: str | Path, form: TextForm, documents: list[str], separator: str, skipped: str
) -> Iterator[str]:
    """Yield notes on a text for the user; empty ones do not count."""
    yield skipped and f"the text {path} is not used whole{skipped}"
    if not form and separator != BLANK_LINE and len(documents) == 1:
        yield f"the separator {separator!r} is not in the text, which is one document"
        separator = BLANK_LINE
    lines = (describe_separator(form, document, separator) for document in documents)
    yield next(filter(None, lines), "")
    if _measure_file(path) is None:
        yield f"{path} can be read only once: to resume or evaluate a run, keep its text in a file"


def _measure_file(path: str | Path) -> int | None:
    """Return the bytes of a file or an object; None for what can be read only once."""
    if is_url(path):
        return measure_url(path)
    return Path(path).stat().st_size if Path(path).is_file() else None


def _make_size_error(name: str, max_bytes: int) -> UserError:
    return UserError(
        f"{name} does not fit into memory: expected at most {format_size(max_bytes)} "
        "(a sixteenth of the memory), found more; encode it to shards with `python -m "
        "valyrian_jax tokenizer encode TOKENIZER TEXT --out DIR` and train with --data.path DIR"
    )
