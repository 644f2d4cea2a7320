"""Files: atomic writes, bounded reads, hashes and locks, each written once and used everywhere."""

import hashlib
import json
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from valyrian_jax.errors import UserError


def write_atomically(path: Path, text: str) -> None:
    """Write UTF-8 text under a temporary name beside the file, then rename it into place.

    Raises:
        UserError: the path is a directory.
    """
    if not path.name or path.is_dir():
        raise UserError(f"cannot write {path}: it is a directory, expected the name of a file")
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="")
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def rename_durably(partial: Path, path: Path) -> None:
    """Rename a whole file into place, so that it is there, and whole, even after a loss of power."""
    sync_to_disk(partial)
    partial.replace(path)
    sync_to_disk(path.parent)  # the new name


def sync_to_disk(*paths: Path) -> None:
    """Flush files and the names in directories to the disk, where the file system can."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError:
            if path.is_file():  # not every file system can do it for a directory
                raise
        finally:
            os.close(descriptor)


MAX_BYTES = (
    1 << 26
)  # bytes; JSON takes up to twenty times as many in memory. 260,000 tokens need half of this


def read_text(path: str | os.PathLike[str], kind: str = "", largest: int = MAX_BYTES) -> str:
    """A file of UTF-8.

    Args:
        path: the file.
        kind: what it is, for messages ("the configuration").
        largest: size in bytes up to which it is read.

    Raises:
        UserError: it cannot be read, is larger, or is not UTF-8.
    """
    named = f"{kind} {path}".strip()
    try:
        with Path(path).open("rb") as file:
            data = file.read(largest + 1)
        if len(data) > largest:
            raise UserError(
                f"{named} has more than {largest:,} bytes, too many for what it should hold"
            )
        return data.decode("utf-8")
    except OSError as error:
        raise UserError(f"cannot read {named}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        place = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise UserError(
            f"{named} is not UTF-8: {place}; convert it, or copy it again if it is damaged"
        ) from error
    except ValueError as error:  # a path that cannot be one, with a NUL in it
        raise UserError(f"cannot read {named}: {error}") from error


def read_json(path: str | os.PathLike[str], kind: str = "") -> Any:
    """The JSON value in a file.

    Raises:
        UserError: it cannot be read, or holds none.
    """
    content = read_text(path, kind)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error


def sha256_of_file(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: there is none.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}, expected a JSON object")
    return content


def lock_directory(run: Path, work: str = "training") -> AbstractContextManager[object]:
    """Make a run directory if it is absent, and keep other processes out until the lock is released.

    Args:
        run: the directory, of a run or of anything else that one process at a time may write.
        work: what the others would be doing, for the message.

    The system releases it when the process ends, however it ends.

    Raises:
        UserError: another process has it, or the place cannot be written.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        return FileLock(run / "lock").acquire(blocking=False)
    except Timeout as error:
        raise UserError(
            f"another process is {work} in {run}; wait for its end, or take another directory"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write the run directory {run}: {error.strerror}; choose another with --out"
        ) from error
