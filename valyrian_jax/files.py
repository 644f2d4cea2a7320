"""Atomic writes, bounded reads, hashes and locks."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from valyrian_jax.errors import UserError

# Bytes of a text file. Parsed JSON takes up to 20 times as much memory; a tokenizer of 260,000
# tokens needs half of this.
MAX_BYTES = 1 << 26


def write_atomically(path: Path, text: str) -> None:
    """Write UTF-8 text to a temporary file, then rename it to `path`.

    This survives a kill, but not a power failure; see `rename_durably`.

    Raises:
        UserError: The path is a directory.
    """
    if not path.name or path.is_dir():
        raise UserError(f"cannot write {path}: it is a directory, expected the name of a file")
    with temporary_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
        temporary.replace(path)


@contextlib.contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """Name a temporary file beside `path`, and delete it if writing fails."""
    temporary = path.with_name(path.name + ".partial")
    try:
        yield temporary
    except OSError:
        temporary.unlink(missing_ok=True)  # it may be large, and the disk full
        raise


def rename_durably(temporary: Path, path: Path) -> None:
    """Rename a complete file so that a power failure can neither lose nor shorten it."""
    sync_to_disk(temporary)
    temporary.replace(path)
    sync_to_disk(path.parent)  # the new name


def sync_to_disk(*paths: Path) -> None:
    """Flush files, and the names in directories, to the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError:
            if path.is_file():  # some file systems cannot sync a directory
                raise
        finally:
            os.close(descriptor)


def read_text(
    path: str | os.PathLike[str], kind: str = "", max_bytes: int | None = MAX_BYTES
) -> str:
    """Return the text of a UTF-8 file.

    Args:
        path: The file.
        kind: What the file is, for messages ("the configuration").
        max_bytes: Largest size that is accepted; None accepts any.

    Raises:
        UserError: The file cannot be read, is too large or is not UTF-8.
    """
    name = f"{kind} {path}".strip()
    try:
        with Path(path).open("rb") as file:
            data = file.read(-1 if max_bytes is None else max_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: the path contains a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"cannot read {name}: {reason}; expected a UTF-8 text file") from error
    if max_bytes is not None and len(data) > max_bytes:
        raise UserError(
            f"{name} has more than {max_bytes:,} bytes; check that it is the right file"
        )
    return decode_utf8(data, name)


def decode_utf8(data: bytes, name: str) -> str:
    """Return the text of bytes.

    Args:
        data: UTF-8.
        name: What the bytes are, for the message ("the text a.txt").

    Raises:
        UserError: They are not UTF-8.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise make_utf8_error(name, error) from error


def make_utf8_error(name: str, error: UnicodeDecodeError, offset: int = 0) -> UserError:
    """Return the error for bytes that are not UTF-8.

    Args:
        name: What the bytes are, for the message.
        error: The decoder's error.
        offset: Number of bytes before those that the decoder was given.
    """
    byte, position = error.object[error.start], offset + error.start
    return UserError(
        f"{name} is not UTF-8: byte 0x{byte:02x} at offset {position}; convert it, or copy it "
        "again if it is damaged"
    )


def read_json(path: str | os.PathLike[str], kind: str = "") -> Any:
    """Return the JSON value in a file.

    Raises:
        UserError: The file cannot be read or is not JSON.
    """
    content = read_text(path, kind)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        UserError: The file cannot be read or holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}, expected a JSON object")
    return content


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock_directory(directory: Path, activity: str = "training") -> AbstractContextManager[object]:
    """Create a directory if it is missing, and lock it against other processes.

    The system releases the lock when the process ends, even if it is killed.

    Args:
        directory: Directory that one process at a time may write.
        activity: What another process would be doing there, for the message.

    Raises:
        UserError: Another process holds the lock, or the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return FileLock(directory / "lock").acquire(blocking=False)
    except Timeout as error:
        raise UserError(
            f"another process is {activity} in {directory}; wait until it ends, or choose another "
            "directory"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write the directory {directory}: {error.strerror}; choose another with --out"
        ) from error
