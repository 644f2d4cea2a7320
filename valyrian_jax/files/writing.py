"""Write files: replace regular ones atomically, write to streams, lock directories."""

import contextlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from filelock import FileLock, Timeout

from valyrian_jax.errors import UserError
from valyrian_jax.files.reading import describe_type

STANDARD_OUTPUT = Path("-")
_MAX_LINKS = 40  # as in Linux
_NAME_LENGTH = 32  # characters of a file's name in the name of its temporary file
_TEMPORARY_END = r"\.[0-9a-f]{16}\.partial(\.\w*)?"


def write_atomically(path: Path, text: str) -> None:
    """Replace a file with UTF-8 text; see `replace_file`."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a new file with an indented JSON object, in a directory that nobody reads yet."""
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def write_output(path: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a temporary file whose content goes to an output that a user names.

    A stream gets the bytes (see `is_stream`); anything else is replaced as by `replace_file`. The
    temporary file has the given suffix, for libraries that look at it.
    """
    try:
        if is_stream(path):
            with _open_stream(path) as stream, tempfile.TemporaryDirectory() as directory:
                temporary = Path(directory) / f"output{suffix}"
                yield temporary
                with name_errors(path), temporary.open("rb") as file:
                    shutil.copyfileobj(file, stream)
                    stream.flush()
        else:
            with replace_file(path, suffix) as temporary:
                yield temporary
    except BrokenPipeError:  # The reader has what it wants.
        raise
    except OSError as error:
        if error.filename != str(path):
            raise
        raise UserError(
            f"cannot write {path}: {error.strerror}; expected a file that can be written; choose "
            "another name"
        ) from error


def check_output(path: Path) -> None:
    """Check before a long computation that an output can be written; nothing is written."""

    class CancelError(Exception):
        """Leave `write_output` without writing."""

    if not is_stream(path):  # Opening a FIFO would wait for its reader.
        with contextlib.suppress(CancelError), write_output(path):
            raise CancelError


@contextlib.contextmanager
def replace_file(path: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a temporary file that replaces a regular file or takes a free name.

    After a kill or a power failure, `path` has its old content or all of the new content. A
    symbolic link stays, and the file that it leads to is replaced. After an error, nothing has
    changed.
    """
    old = _check_replaceable(path)
    target = Path(os.path.realpath(path))
    temporary = _temporary_name(target, suffix)
    try:
        with name_errors(path, temporary):
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            yield temporary
            if old is not None:
                with contextlib.suppress(OSError):  # some file systems have no modes
                    temporary.chmod(stat.S_IMODE(old.st_mode))
            sync_to_disk(temporary)
            temporary.replace(target)
            sync_to_disk(target.parent)  # the new name
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def name_errors(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Make errors of writing name the output; they name its temporary file or no file at all."""
    try:
        yield
    except OSError as error:
        name = error.filename  # None after a write, as to a full disk
        if name is None or (temporary and Path(name).is_relative_to(temporary)):
            error.filename = str(path)
        raise


def _check_replaceable(path: Path) -> os.stat_result | None:
    """Return the status of a regular file, or None if there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise UserError(
            f"cannot write {path}: it is a directory, expected the name of a file; "
            "move it away, or choose another name"
        )
    if not stat.S_ISREG(status.st_mode):
        raise UserError(
            f"cannot write {path}: it is {describe_type(status)}, expected a regular file or a new "
            "name; move it away, or choose another name"
        )
    return status


def is_stream(path: Path) -> bool:
    """Return whether an output is a stream, which is written to and never replaced.

    Streams are `-` (standard output), open descriptors, FIFOs and character devices.
    """
    if _find_descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def is_standard_output(path: Path) -> bool:
    """Return whether an output is the stream that messages are printed to."""
    if path == STANDARD_OUTPUT:
        return True
    try:
        return is_stream(path) and os.path.samestat(path.stat(), os.fstat(1))
    except OSError:
        return False


def _open_stream(path: Path) -> BinaryIO:
    """Open a stream for writing; a FIFO waits for its reader."""
    descriptor = _find_descriptor(path)
    if sys.stdout is not None:
        sys.stdout.flush()  # It may share the destination, so keep the order of the bytes.
    with name_errors(path):
        if descriptor is None:
            return os.fdopen(os.open(path, os.O_WRONLY | os.O_NOCTTY), "wb")
        return os.fdopen(os.dup(descriptor), "wb")  # Opening the file again would truncate it.


def _find_descriptor(path: Path) -> int | None:
    """Return the number of the open descriptor of this process that a path leads to, or None."""
    if path == STANDARD_OUTPUT:
        return 1
    own_descriptor = rf"/(?:proc/{os.getpid()}(?:/task/\d+)?|dev)/fd/(\d+)"
    for _ in range(_MAX_LINKS):
        name = Path(os.path.realpath(path.parent)) / path.name
        if match := re.fullmatch(own_descriptor, str(name)):
            return int(match[1])
        if not name.is_symlink():
            return None
        path = name.parent / name.readlink()
    return None


def append_regular(path: Path) -> TextIO:
    """Open or create a regular file to append UTF-8 text; this never waits.

    Raises:
        UserError: Something other than a regular file has this name.
        OSError: The file cannot be written.
    """
    _check_replaceable(path)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
    return open(path, "a", encoding="utf-8", opener=lambda name, _: os.open(name, flags, 0o666))


def _temporary_name(path: Path, suffix: str = "") -> Path:
    """Return a name beside `path` that nobody can guess; `is_temporary` recognises it."""
    return path.with_name(f".{path.name[:_NAME_LENGTH]}.{secrets.token_hex(8)}.partial{suffix}")


def make_temporary_directory(path: Path) -> Path:
    """Create a directory that can be renamed to `path`, and return its name."""
    temporary = _temporary_name(path)
    temporary.mkdir()
    return temporary


def is_temporary(name: str) -> bool:
    """Return whether a file has the name of a temporary file, which a killed process may leave."""
    return re.fullmatch(rf"\.[^/]*{_TEMPORARY_END}", name) is not None


def remove_temporaries(*paths: Path) -> None:
    """Remove the temporary files that killed writers of these paths have left.

    No other process may be writing to these paths.
    """
    for path in paths:
        target = Path(os.path.realpath(path))
        pattern = re.escape(f".{target.name[:_NAME_LENGTH]}") + _TEMPORARY_END
        for file in target.parent.glob("*.partial*"):
            if re.fullmatch(pattern, file.name):
                shutil.rmtree(file) if file.is_dir() else file.unlink()


def sync_to_disk(*paths: Path) -> None:
    """Flush files, and the names in directories, to the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO would wait for a writer
        try:
            os.fsync(descriptor)
        except OSError:
            if path.is_file():  # some file systems cannot sync a directory
                raise
        finally:
            os.close(descriptor)


def check_output_directory(path: Path) -> None:
    """Check that an output is a directory, a link to one, or a new name."""
    if path == STANDARD_OUTPUT or (path.exists() and not path.is_dir()):
        kind = "standard output" if path == STANDARD_OUTPUT else describe_type(path.stat())
        raise UserError(
            f"cannot write the directory {path}: expected a directory or a new name, found {kind}; "
            "choose another name"
        )


def lock_directory(
    directory: Path, activity: str = "training", advice: str = "choose another with --out"
) -> AbstractContextManager[object]:
    """Create a directory if it is missing, and lock it against other processes.

    The system releases the lock when the process ends, even if it is killed.

    Args:
        directory: Directory to lock.
        activity: What another process that holds the lock is doing, for the message.
        advice: What to do if the directory cannot be written, for the message.

    Raises:
        UserError: Another process has locked the directory, or it cannot be written.
    """
    check_output_directory(directory)
    try:
        # A link can lead to a directory that does not exist yet.
        Path(os.path.realpath(directory)).mkdir(parents=True, exist_ok=True)
        return FileLock(directory / "lock").acquire(blocking=False)
    except Timeout as error:
        raise UserError(
            f"another process is {activity} in {directory}; wait until it ends, or choose another "
            "directory"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write the directory {directory}: {error.strerror}; {advice}"
        ) from error
