"""Read files as text, JSON, lines or bytes, if they are regular and not too large; hash them.

With a FIFO or a device in place of a file, a reader would wait forever or fill the memory. Texts
that a user names are the exception; `valyrian_jax.data` reads them.
"""

import contextlib
import hashlib
import io
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from valyrian_jax.errors import UserError

# Bytes of a text file. Parsed JSON takes up to 20 times as much memory; a tokenizer of 260,000
# tokens needs half of this.
MAX_BYTES = 1 << 26
STANDARD_INPUT = "-"  # as the name of a text
_TYPES = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}
StrPath = str | os.PathLike[str]


def describe_type(status: os.stat_result) -> str:
    """Return the kind of file that a status describes, for messages."""
    return _TYPES.get(stat.S_IFMT(status.st_mode), "something else")


def check_regular(path: StrPath, kind: str = "", max_bytes: int | None = None) -> None:
    """Check that a path leads to a regular file of limited size.

    Args:
        path: The file, or a link to it.
        kind: What the file is, for messages ("the configuration").
        max_bytes: Largest size that is accepted; None accepts any.

    Raises:
        UserError: It is something else, such as a FIFO, whose reader could wait forever; or it is
            too large.
        OSError: It is missing, or the system does not show it.
    """
    name, status = f"{kind} {path}".strip(), Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(
            f"cannot read {name}: expected a regular file, found {describe_type(status)}; put the "
            "file in its place"
        )
    if max_bytes is not None and status.st_size > max_bytes:
        raise UserError(
            f"{name} has more than {max_bytes:,} bytes (it has {status.st_size:,}); check that it "
            "is the right file"
        )


def open_regular(path: StrPath, kind: str = "", max_bytes: int | None = None) -> io.BufferedReader:
    """Open a file that `check_regular` accepts, for reading; this never waits."""
    check_regular(path, kind, max_bytes)
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")


@contextlib.contextmanager
def name_in_utf8(path: Path) -> Iterator[str]:
    """Yield an absolute name of a file or directory for a library that only accepts UTF-8."""
    name = str(path.absolute())
    if os.fsencode(name).decode("utf-8", "replace") == name:
        yield name
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield f"/dev/fd/{descriptor}"
    finally:
        os.close(descriptor)


def read_text(path: StrPath, kind: str = "") -> str:
    """Return the text of a regular file in UTF-8, of at most `MAX_BYTES`.

    Args:
        path: The file.
        kind: What the file is, for messages ("the configuration").

    Raises:
        UserError: The file cannot be read, is not regular, is too large or is not UTF-8.
    """
    name = f"{kind} {path}".strip()
    return decode_utf8(read_bytes(path, kind, MAX_BYTES, "a UTF-8 text file"), name)


def read_bytes(
    path: StrPath, kind: str = "", max_bytes: int = MAX_BYTES, expected: str = "a regular file"
) -> bytes:
    """Return the content of a regular file of at most `max_bytes`; see `read_text`."""
    with _read_errors(path, kind, expected), open_regular(path, kind, max_bytes) as file:
        return _read_at_most(file, f"{kind} {path}".strip(), max_bytes)


def read_input(path: StrPath, kind: str, max_bytes: int | None) -> str:
    """Return the UTF-8 text of a file that a user names, which can also be a FIFO."""
    name = f"{kind} {path}".strip()
    with _read_errors(path, kind, "a UTF-8 text file"), Path(path).open("rb") as file:
        return decode_utf8(_read_at_most(file, name, max_bytes), name)


@contextlib.contextmanager
def _read_errors(path: StrPath, kind: str, expected: str) -> Iterator[None]:
    """Turn the errors of reading a file into a `UserError`."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: the path contains a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        name = f"{kind} {path}".strip()
        raise UserError(
            f"cannot read {name}: {reason}; expected {expected}: check the path"
        ) from error


def _read_at_most(file: BinaryIO, name: str, max_bytes: int | None) -> bytes:
    if max_bytes is None:
        return file.read()
    # `read` allocates the size that it is asked for, so do not ask for more than the file can have.
    size = max(os.fstat(file.fileno()).st_size, MAX_BYTES)
    data = file.read(min(size, max_bytes) + 1)
    if len(data) > max_bytes:
        raise UserError(
            f"{name} has more than {max_bytes:,} bytes; check that it is the right file"
        )
    return data


def read_lines(path: StrPath, max_bytes: int = MAX_BYTES) -> Iterator[bytes]:
    """Yield the lines of a regular file, with their ends; only one line is in memory at a time."""
    with _read_errors(path, "", "a regular file"), open_regular(path) as file:
        while line := file.readline(max_bytes + 1):
            if len(line) > max_bytes:
                raise UserError(
                    f"{path} has a line of more than {max_bytes:,} bytes; check that it is the "
                    "right file"
                )
            yield line


def decode_utf8(data: bytes, name: str) -> str:
    """Return the text of UTF-8, which a message calls `name` ("the text a.txt")."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise make_utf8_error(name, error) from error


def make_utf8_error(name: str, error: UnicodeDecodeError, offset: int = 0) -> UserError:
    """Return the error for bytes of `name` that are not UTF-8; `offset` bytes precede them."""
    byte, position = error.object[error.start], offset + error.start
    return UserError(
        f"{name} is not UTF-8: byte 0x{byte:02x} at offset {position}; convert it, or copy it "
        "again if it is damaged"
    )


def parse_json(content: str, path: StrPath) -> Any:
    """Return the JSON value in the content of a file."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}; correct it or copy it again") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file."""
    content = parse_json(read_text(path), path)
    if not isinstance(content, dict):
        raise UserError(
            f"{path} holds {name_json_type(content)}, expected a JSON object; check that it is the "
            "right file"
        )
    return content


def name_json_type(value: Any) -> str:
    """Return JSON's name for the type of a parsed value, with its article."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a regular file, in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
