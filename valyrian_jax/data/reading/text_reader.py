"""Open a text that a user names; its content decides how it is read, never its name.

A text is a file, a URL, a FIFO, a path like `/dev/fd/3`, or standard input ("-"). Gzip and zstd are
decompressed. UTF-16 and UTF-32 are recognised by their byte-order mark and become UTF-8; the mark
itself is dropped. All of it is a stream, so memory does not grow with the text.
"""

import codecs
import contextlib
import gzip
import io
import itertools
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import zstandard

from valyrian_jax.errors import UserError
from valyrian_jax.files import STANDARD_INPUT, is_url, make_utf8_error, open_url

PARQUET_MAGIC = b"PAR1"
HEAD_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 22
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")  # a frame, or one to skip
# A block of zstd has at least 4 bytes and becomes at most 128 kB, so this bounds the output.
_ZSTD_INPUT_BYTES = 1 << 10
_OTHER_FORMATS = {
    b"\xfd7zXZ\0": "xz data; decompress it with `xz -d`",
    b"PK\x03\x04": "a ZIP archive; unpack it and name the text in it",
    b"%PDF-": "a PDF; extract its text",
}
_BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")
# UTF-32 comes first: its mark begins with that of UTF-16.
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_WORD_BREAK = re.compile(r"(?<=\S)[ \n](?=\S)")  # the pre-tokenizer always cuts before this space
_TAIL = 1 << 12  # characters at the end of a block that are searched for a word break
_CUT_CHARACTERS = 1 << 24
_MAX_CUT_CHARACTERS = 1 << 26


class TextStream(NamedTuple):
    """An open text."""

    name: str  # the text in messages ("the text a.txt")
    head: bytes  # its first bytes; all of them if they are fewer than `HEAD_BYTES`
    file: BinaryIO  # all of its bytes, the head included: UTF-8, or Parquet, which may be sought in


@contextlib.contextmanager
def open_text(path: str | Path) -> Iterator[TextStream]:
    """Open a text as a stream of UTF-8, or of Parquet.

    The body must only read: its errors become a `UserError` that names the text.

    Raises:
        UserError: The text cannot be read, or is a device.
    """
    name = f"the text {path}"
    with _explain_errors(name), _open_bytes(path) as raw:
        head, blocks = _peek(iter(lambda: raw.read(_BLOCK_BYTES), b""))
        if head.startswith(PARQUET_MAGIC) and raw.seekable():
            raw.seek(0)
            yield TextStream(name, head, raw)
            return
        if head.startswith(_GZIP_MAGIC):
            decompressed = gzip.GzipFile(fileobj=_as_file(blocks))
            head, blocks = _peek(iter(lambda: decompressed.read(_BLOCK_BYTES), b""))
        elif _ZSTD_MAGIC.match(head):
            head, blocks = _peek(_decompress_zstd(blocks))
        for mark, encoding in _BYTE_ORDER_MARKS.items():
            if head.startswith(mark):
                head, blocks = _peek(_transcode(blocks, mark, encoding, name))
                break
        yield TextStream(name, head, _as_file(blocks))


def refuse_other_formats(stream: TextStream) -> None:
    """Refuse a file that is recognised as something other than text."""
    formats = (what for magic, what in _OTHER_FORMATS.items() if stream.head.startswith(magic))
    what = next(formats, "")
    if _BZIP2.match(stream.head):
        what = "bzip2 data; decompress it with `bzip2 -d`"
    if _is_unmarked_utf16(stream.head):
        what = "UTF-16 without a byte-order mark; convert it with `iconv -f UTF-16LE -t UTF-8`"
    if what:
        raise UserError(
            f"{stream.name} is not a text: expected plain text, gzip, zstd, JSON or "
            f"Parquet, found {what}"
        )


def _is_unmarked_utf16(head: bytes) -> bool:
    """Return whether nearly every other byte is zero, as in UTF-16 of mostly ASCII text."""
    shares = sorted(half.count(0) / len(half) for half in (head[::2], head[1::2]) if half)
    return len(shares) == 2 and shares[0] < 0.05 and shares[1] > 0.5


def decode_blocks(stream: TextStream, errors: str = "strict") -> Iterator[str]:
    """Yield the text of a stream in blocks of 4 MB; `errors` is as in `codecs`."""
    decoder, size = codecs.getincrementaldecoder("utf-8")(errors), 0
    try:
        while block := stream.file.read(_BLOCK_BYTES):
            offset = size - len(decoder.getstate()[0])
            size += len(block)
            if text := decoder.decode(block):
                yield text
        offset = size - len(decoder.getstate()[0])
        if text := decoder.decode(b"", final=True):
            yield text
    except UnicodeDecodeError as error:
        raise make_utf8_error(stream.name, error, offset) from error


def cut_between_words(blocks: Iterable[str]) -> Iterator[str]:
    """Yield a text in blocks of about 16 MB, cut only where every tokenizer would cut.

    Only a text with no such place in 64 MB is cut anywhere, at white space if it has any.
    """
    text = ""
    for block in blocks:
        text += block
        if len(text) < _CUT_CHARACTERS:
            continue
        tail = max(len(text) - _TAIL, 0)
        cuts = [match.start() for match in _WORD_BREAK.finditer(text, tail)]
        if not cuts and len(text) >= _MAX_CUT_CHARACTERS:
            cuts = [max(text.rfind("\n"), text.rfind(" "), text.rfind("\t"))]
            cuts = cuts if cuts[0] > 0 else [len(text)]
        if cuts:
            yield text[: cuts[-1]]
            text = text[cuts[-1] :]
    yield text


def read_blocks(path: str | Path) -> Iterator[bytes]:
    """Yield the bytes of any file in blocks, cut between words if it is text."""
    with open_text(path) as stream:
        for block in cut_between_words(decode_blocks(stream, "surrogateescape")):
            yield block.encode("utf-8", "surrogateescape")


@contextlib.contextmanager
def _explain_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise UserError(
            f"cannot read {name}: {error}; expected undamaged compressed data: copy it again"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: the path contains a NUL
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UserError(
            f"cannot read {name}: {reason}; expected a file of text, JSON or Parquet: name another"
        ) from error


@contextlib.contextmanager
def _open_bytes(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file, a URL, a pipe or standard input, but not a device."""
    if is_url(path):
        with open_url(path) as file:
            yield file
        return
    if str(path) != STANDARD_INPUT:
        _refuse_device(Path(path).stat(), f"the text {path}")
        with Path(path).open("rb") as file:
            yield file
        return
    if sys.stdin is None:
        raise UserError("standard input is closed; expected a text: pipe one in, or name a file")
    with contextlib.suppress(io.UnsupportedOperation):  # a stream in memory
        if not sys.stdin.isatty():
            _refuse_device(os.fstat(sys.stdin.fileno()), "standard input")
    yield sys.stdin.buffer


def _refuse_device(status: os.stat_result, name: object) -> None:
    """Refuse a device: reading it may never end, or have an effect. /dev/null is an empty text."""
    is_device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
    if is_device and status.st_rdev != Path(os.devnull).stat().st_rdev:
        raise UserError(
            f"cannot read {name}: expected a file or a pipe, found a device; name a text"
        )


def _peek(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes of a stream, and an iterator over the whole stream."""
    first: list[bytes] = []
    while sum(map(len, first)) < HEAD_BYTES and (block := next(blocks, b"")):
        first.append(block)
    beginning = b"".join(first)
    return beginning[:HEAD_BYTES], itertools.chain([beginning], blocks)


def _decompress_zstd(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the content of all frames; the library's own readers accept a truncated frame."""
    frame = None
    for block in blocks:
        for start in range(0, len(block), _ZSTD_INPUT_BYTES):
            data = block[start : start + _ZSTD_INPUT_BYTES]
            while data:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                if output := frame.decompress(data):
                    yield output
                data, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame is not None:
        raise EOFError("the zstd data ends before the end of its last frame")


def _transcode(blocks: Iterator[bytes], mark: bytes, encoding: str, name: str) -> Iterator[bytes]:
    """Yield a text in any encoding as UTF-8 without its byte-order mark."""
    first = next(blocks)[len(mark) :]
    if encoding == "utf-8":
        yield from itertools.chain([first], blocks)
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for block in itertools.chain([first], blocks):
            if text := decoder.decode(block):
                yield text.encode()
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name} is not {encoding[:-3].upper()}, as its byte-order mark says: {error.reason}; "
            "convert it to UTF-8, or copy it again if it is damaged"
        ) from error


class _BlockFile(io.RawIOBase):
    """Blocks of bytes as a file."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _as_file(blocks: Iterator[bytes]) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_BlockFile(blocks)))
