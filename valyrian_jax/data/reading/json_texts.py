"""JSON as documents: one object per line, or an array of objects or strings, of any size."""

import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from typing import BinaryIO, Literal

from valyrian_jax.data.reading.text_key import check_text_key
from valyrian_jax.data.reading.text_reader import HEAD_BYTES, TextStream, decode_blocks
from valyrian_jax.errors import UserError

JsonForm = Literal["", "lines", "array", "other"]

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_OBJECT = re.compile(rb"\s*\{\s*" + _STRING + rb"\s*:", re.DOTALL)
_ARRAY = re.compile(
    rb"\s*\[\s*(?:\{\s*" + _STRING + rb"\s*:|" + _STRING + rb'\s*(?:,\s*"|\]\s*\Z))', re.DOTALL
)
_MAX_LINES = 100  # lines that are looked at
_SPACE = re.compile(r"[ \t\r\n]*")


def detect_json(head: bytes) -> JsonForm:
    """Return the form of JSON that a text has, from its first bytes; "" if it is not JSON.

    Some lines of JSON may be damaged: at least half of the first hundred must be objects or arrays.
    "other" is a JSON value over several lines that is not an array of documents.
    """
    if _ARRAY.match(head):
        return "array"
    lines = [line for line in head.splitlines() if line.strip()][: _MAX_LINES + 1]
    if len(head) >= HEAD_BYTES and lines and not head.endswith((b"\n", b"\r")):
        if len(lines) == 1:
            return "lines" if _OBJECT.match(head) else ""
        lines = lines[:-1]  # The last one is cut short.
    lines = lines[:_MAX_LINES]
    if lines and 2 * sum(map(_is_container, lines)) >= len(lines):
        return "lines"
    is_json = _OBJECT.match(head) or (len(head) < HEAD_BYTES and _is_container(head.strip()))
    return "other" if is_json else ""


def _is_container(line: bytes) -> bool:
    if not line.lstrip().startswith((b"{", b"[")):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def check_key(stream: TextStream, form: JsonForm, text_key: str) -> None:
    """Check that at least one of the first documents has a text under the key."""
    has_text: dict[str, bool] = {}
    for value in _read_first_values(stream.head, form):
        if isinstance(value, str):  # It is the text itself.
            return
        if isinstance(value, dict):
            for key, item in value.items():
                has_text[key] = has_text.get(key, False) or isinstance(item, str)
            if isinstance(value.get(text_key, 0), str | None):
                return
    if has_text:
        check_text_key(stream.name, text_key, has_text)


def _read_first_values(head: bytes, form: JsonForm) -> Iterator[object]:
    """Yield the values of the complete lines or elements in the first bytes of a text."""
    if form == "lines":
        for line in head.splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                yield json.loads(line)
        return
    text, decoder = head.decode("utf-8", "replace"), json.JSONDecoder()
    at = text.index("[") + 1
    with contextlib.suppress(ValueError, RecursionError):
        while True:
            value, end = decoder.raw_decode(text, _skip_space(text, at))
            yield value
            at = text.index(",", end) + 1


def read_lines(file: BinaryIO, max_bytes: int) -> Iterator[bytes | None]:
    """Yield the lines that are not blank; None for one that is too long."""
    while line := file.readline(max_bytes + 1):
        if len(line) > max_bytes and not line.endswith(b"\n"):
            while (rest := file.readline(max_bytes)) and not rest.endswith(b"\n"):
                pass
            yield None
        elif line.strip():
            yield line


def read_elements(stream: TextStream, max_bytes: int) -> Iterator[bytes]:
    """Yield the elements of an array as JSON, each as soon as it is read."""
    blocks, decoder = decode_blocks(stream), json.JSONDecoder()
    text = ""
    while "[" not in text:
        text += next(blocks)
    at, number = text.index("[") + 1, 0
    while True:
        at = _skip_space(text, at)
        if text.startswith("]", at):
            break
        end = _find_end(decoder, text, at)
        if end is None:  # Doubling the text that is tried keeps the time linear.
            more = _read_at_least(blocks, len(text) - at)
            if not more or len(text) - at > max_bytes:
                raise UserError(
                    f"{stream.name} is not a JSON array of documents: expected JSON of at most "
                    f"{max_bytes >> 20} MB as element {number + 1:,}, found "
                    f"{text[at : at + 40]!r}; repair it, or write one object per line"
                )
            text, at = text[at:] + more, 0
            continue
        yield text[at:end].encode("utf-8", "surrogatepass")
        number += 1
        at = _skip_space(text, end)
        at += text[at] == ","
    for rest in itertools.chain([text[at + 1 :]], blocks):
        if rest.strip():
            raise UserError(
                f"{stream.name} goes on after its JSON array: expected its end, found "
                f"{rest.strip()[:40]!r}; write one array, or one object per line"
            )


def _find_end(decoder: json.JSONDecoder, text: str, at: int) -> int | None:
    """Return where the element ends; None if the comma or bracket after it has not been read."""
    try:
        end = decoder.raw_decode(text, at)[1]
    except (ValueError, RecursionError):
        return None
    return end if text.startswith((",", "]"), _skip_space(text, end)) else None


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None  # the pattern matches everywhere
    return match.end()


def _read_at_least(blocks: Iterator[str], size: int) -> str:
    more = ""
    while (not more or len(more) < size) and (block := next(blocks, "")):
        more += block
    return more
