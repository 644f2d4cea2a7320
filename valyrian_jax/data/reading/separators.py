"""Split plain text into documents: at blank lines, at a string or at a regular expression.

`find_documents` splits a text in memory, `split_stream` one of any size, at the same positions.
"""

import io
import re
from collections.abc import Callable, Iterator
from typing import AnyStr, BinaryIO, Generic, NamedTuple

from valyrian_jax.config import BLANK_LINE, REGULAR_EXPRESSION
from valyrian_jax.tokenizer import END_OF_TEXT

# Two or more line ends with blanks after each. The quantifiers are possessive, because backtracking
# through a long break would take much memory.
_PARAGRAPH_BREAK = re.compile(r"\r?\n[ \t]*+\r?\n(?:[ \t\n]++|\r\n)*+")
# The same without its first carriage return: a pattern that begins with one fixed character is ten
# times as fast. In UTF-8 no other character contains these bytes.
_BREAK = re.compile(rb"\n[ \t]*+\r?\n(?:[ \t\n]++|\r\n)*+")
_BREAK_BYTES = b" \t\r\n"
_LINE_BREAKS = "\r\n"  # those around any other separator belong to it
_END_OF_TEXT_LINE = re.compile(rf"^{re.escape(END_OF_TEXT)}\r?$", re.MULTILINE)
_BLOCK = 1 << 22  # read at a time
_MAX_BLANK = 1 << 22  # bytes of white space that wait for a line end that makes them a break
# A match of a regular expression may be this long and look this far back. With longer ones, the
# documents would depend on the blocks in which a text is read.
_MATCH_CHARACTERS = 1 << 16


class Piece(NamedTuple, Generic[AnyStr]):
    """A part of a document: all of it, unless it is too long."""

    text: AnyStr
    is_first: bool  # whether the document begins with it
    is_last: bool  # whether the document ends with it


def find_documents(text: str, separator: str = BLANK_LINE) -> list[str]:
    """Return the documents of a text in memory, split at `data.separator`.

    White space at the ends of the text belongs to no document.
    """
    if separator == BLANK_LINE:
        return _PARAGRAPH_BREAK.split(text.strip())
    starts, ends = [0], []
    for match in _compile(separator).finditer(text):
        ends.append(match.start())
        starts.append(match.end())
    spans = zip(starts, [*ends, len(text)], strict=True)
    stripped = (text[start:end].strip(_LINE_BREAKS) for start, end in spans)
    documents = [document for document in stripped if document.strip()]
    documents[:1] = map(str.lstrip, documents[:1])
    documents[-1:] = map(str.rstrip, documents[-1:])
    return documents


def split_stream(file: BinaryIO, separator: str, max_size: int) -> Iterator[Piece[bytes]]:
    """Split a stream of UTF-8 at `data.separator` and yield its documents, long ones in pieces.

    White space between documents is left out. A piece has at most `max_size` bytes, or characters
    for a regular expression. It ends before a line if possible, else before a word, else anywhere.
    """
    if separator == BLANK_LINE:
        return _strip_ends(_split_paragraphs(file.read, max_size))
    if separator.startswith(REGULAR_EXPRESSION):
        return _strip_ends(_strip_line_breaks(_split_at_pattern(file, separator, max_size)))
    encoded = separator.encode("utf-8", "surrogateescape")
    pieces = _split(file.read, re.compile(re.escape(encoded)), max_size, lambda _: len(encoded))
    return _strip_ends(_strip_line_breaks(pieces))


def describe_end_of_text_lines(text: str, separator: str) -> str:
    """Return how to split a text at its lines of <|endoftext|>; empty if it has none."""
    if separator != BLANK_LINE or not _END_OF_TEXT_LINE.search(text):
        return ""
    return (
        f"the text seems to have {END_OF_TEXT} between its documents; to split it there, "
        f"pass --data.separator '{END_OF_TEXT}' (to the tokenizer's commands: --separator)"
    )


def _compile(separator: str) -> re.Pattern[str]:
    if separator.startswith(REGULAR_EXPRESSION):
        return re.compile(separator.removeprefix(REGULAR_EXPRESSION))
    return re.compile(re.escape(separator))


def _split_paragraphs(read: Callable[[int], bytes], max_size: int) -> Iterator[Piece[bytes]]:
    for piece in _split(read, _BREAK, max_size, _count_blank, _shorten_blank):
        text = piece.text.removesuffix(b"\r") if piece.is_last else piece.text
        yield piece._replace(text=text)


def _split_at_pattern(file: BinaryIO, separator: str, max_size: int) -> Iterator[Piece[bytes]]:
    characters = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")
    pattern, margin = _compile(separator), _MATCH_CHARACTERS
    for text, *ends in _split(characters.read, pattern, max_size, lambda _: margin, context=margin):
        yield Piece(text.encode("utf-8", "surrogateescape"), *ends)


def _split(
    read: Callable[[int], AnyStr],
    pattern: re.Pattern[AnyStr],
    max_size: int,
    count_unsettled: Callable[[AnyStr], int],
    shorten: Callable[[AnyStr], AnyStr] = lambda text: text,
    context: int = 0,
) -> Iterator[Piece[AnyStr]]:
    """Yield what is between the matches of a pattern.

    Args:
        read: Function that reads up to a number of characters or bytes.
        pattern: The separator.
        max_size: Largest size of a piece.
        count_unsettled: Returns how many characters at the end of a text may become part of a
            different match when more text follows.
        shorten: Shortens an unfinished separator at the end of a text; it may be endless.
        context: How far the pattern may look back.
    """
    text = read(0)
    start, is_first = 0, True  # of the current document or piece
    is_end = False
    while not is_end:
        block = read(_BLOCK)
        is_end = not block
        text = shorten(text + block)
        settled = len(text) if is_end else len(text) - count_unsettled(text)
        stop = settled
        for match in pattern.finditer(text, start):
            if match.end() > settled:
                if match.start() > settled - _MATCH_CHARACTERS:
                    stop = match.start()
                break
            yield Piece(text[start : match.start()], is_first, True)
            start, is_first = match.end(), True
        while stop - start > max_size:
            cut = _find_cut(text, start, start + max_size)
            yield Piece(text[start:cut], is_first, False)
            start, is_first = cut, False
        before = max(start - context, 0)
        text, start = text[before:], start - before
    yield Piece(text[start:], is_first, True)


def _find_cut(text: AnyStr, start: int, stop: int) -> int:
    """Return where to end a piece: before a line, before a word, or between two characters."""
    middle = (start + stop) // 2
    for sign in ("\n", " "):
        cut = text.rfind(sign if isinstance(text, str) else sign.encode(), middle, stop)
        if cut > start:
            return cut
    if isinstance(text, bytes):
        for cut in range(stop, max(stop - 4, start), -1):
            if text[cut] & 0xC0 != 0x80:  # the first byte of a character
                return cut
    return stop


def _count_blank(text: bytes) -> int:
    """Count the bytes at the end that are a break or may begin one.

    White space longer than `_MAX_BLANK` counts as text.
    """
    if match := _find_open_break(text):
        return len(text) - match.start()
    newline = text.rfind(b"\n", len(text.rstrip(_BREAK_BYTES)))
    return len(text) - newline if newline >= 0 and len(text) - newline <= _MAX_BLANK else 0


def _shorten_blank(text: bytes) -> bytes:
    """Shorten a break at the end; it stays a break, however much white space follows."""
    match = _find_open_break(text)
    if match and len(match[0]) > _MAX_BLANK:
        return text[: match.start()] + b"\n\n" + text[match.end() :]
    return text


def _find_open_break(text: bytes) -> re.Match[bytes] | None:
    """Return the break at the end, which the next bytes may make longer, or None."""
    for match in _BREAK.finditer(text, len(text.rstrip(_BREAK_BYTES))):
        if text[match.end() :] in (b"", b"\r"):
            return match
    return None


def _strip_line_breaks(pieces: Iterator[Piece[bytes]]) -> Iterator[Piece[bytes]]:
    """Strip the line breaks between documents and their separators."""
    for piece in pieces:
        text = piece.text
        text = text.lstrip(_LINE_BREAKS.encode()) if piece.is_first else text
        text = text.rstrip(_LINE_BREAKS.encode()) if piece.is_last else text
        yield piece._replace(text=text)


def _strip_ends(pieces: Iterator[Piece[bytes]]) -> Iterator[Piece[bytes]]:
    """Leave out blank documents, and strip the white space at the ends of the whole text."""
    previous: list[Piece[bytes]] = []  # the piece before, which may turn out to be the last one
    is_first = True
    for piece in pieces:
        if piece.is_first and piece.is_last and _is_blank(piece.text):
            continue
        yield from previous
        previous = [_strip(piece, str.lstrip) if is_first else piece]
        is_first = False
    yield from (_strip(piece, str.rstrip) for piece in previous)


def _is_blank(text: bytes) -> bool:
    start = text[:64].decode("utf-8", "ignore")  # A fast test that nearly always decides.
    return not start.strip() and not text.decode("utf-8", "replace").strip()


def _strip(piece: Piece[bytes], strip: Callable[[str], str]) -> Piece[bytes]:
    try:
        return piece._replace(text=strip(piece.text.decode("utf-8")).encode())
    except UnicodeDecodeError:
        return piece
