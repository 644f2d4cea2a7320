"""Inputs by URL, such as s3://bucket/text.jsonl: a text is streamed, anything else is copied.

`fsspec` knows the kinds of URL; it is optional, and imported only for a URL. An object keeps the
version in which this process first saw it: one that changes is refused, because a text is read
several times. Outputs are local files, since object storage has no atomic rename.
"""

import contextlib
import errno
import functools
import hashlib
import io
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from platformdirs import user_cache_path

from valyrian_jax.errors import UserError, first_line
from valyrian_jax.files.writing import make_temporary_directory, remove_temporaries

CACHE_VARIABLE = "VALYRIAN_CACHE"
_BUFFER_BYTES = 1 << 23  # of a stream; each read of an object takes as much
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created")


def is_url(name: object) -> TypeGuard[str]:
    """Return whether a name is a URL and not a path."""
    return isinstance(name, str) and _URL.match(name) is not None


def refuse_url(name: object, kind: str) -> None:
    """Refuse a URL where only a path can be."""
    if is_url(name):
        raise UserError(
            f"cannot use {name} as {kind}: expected a path on this machine, found a URL; write to "
            "a local directory and copy it"
        )


def expand_urls(name: str) -> list[str]:
    """Return the URLs that a pattern such as s3://bucket/*.jsonl matches, sorted.

    Any other name is returned itself.
    """
    if not is_url(name) or not re.search(r"[*?\[]", name):
        return [name]
    with _explain_errors(name):
        files, path = _open_filesystem(name)
        urls = [files.unstrip_protocol(match) for match in sorted(files.glob(path))]
    if not urls:
        raise UserError(f"no object matches {name}: expected at least one; correct the pattern")
    return urls


@contextlib.contextmanager
def open_url(url: str) -> Iterator[BinaryIO]:
    """Open an object as a stream with a bounded buffer, which can seek.

    Raises:
        UserError: The object cannot be read, or it has changed since this process first saw it.
    """
    with _explain_errors(url):
        files, path = _open_filesystem(url)
        _check_version(url)
        file = files.open(path, "rb", block_size=_BUFFER_BYTES, cache_type="readahead")
    with file, io.BufferedReader(_UrlFile(file, url)) as stream:
        yield stream
    with _explain_errors(url):
        _check_version(url)


class _UrlFile(io.RawIOBase):
    """An object as a file: its own errors become a `UserError`, those of its reader do not."""

    def __init__(self, file: Any, url: str) -> None:
        self._file, self._url = file, url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with _explain_errors(self._url):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def measure_url(url: str) -> int:
    """Return the bytes of an object."""
    with _explain_errors(url):
        return _first_version(url)[0]


def is_remote_directory(url: str) -> bool:
    """Return whether there are objects below a URL, and none with exactly its name."""
    with _explain_errors(url):
        files, path = _open_filesystem(url)
        return bool(files.isdir(path))


def localize(name: str | os.PathLike[str]) -> Path:
    """Return a path itself, or the local copy of the object or directory at a URL.

    The copy is in the user's cache directory, or in the one that VALYRIAN_CACHE names, and is made
    again when the objects change. It appears there whole or not at all.
    """
    if not is_url(name):
        return Path(name)
    with _explain_errors(name):
        files, path = _open_filesystem(name)
        listing = files.find(path, detail=True)
        if not listing:
            raise FileNotFoundError("there is no object of this name")
        versions = sorted((file, *_read_version(info)) for file, info in listing.items())
    digest = hashlib.sha256(repr((name, versions)).encode()).hexdigest()
    cache = _cache_directory()
    copy = cache / hashlib.sha256(name.encode()).hexdigest()[:16] / digest[:16]
    base = name.rstrip("/").rpartition("/")[2]
    if not copy.exists():
        _copy_objects(files, path, list(listing), copy, base)
    return copy / base


def _copy_objects(files: Any, root: str, objects: list[str], copy: Path, base: str) -> None:
    """Copy the objects below a root, and remove the copies of their older versions."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    temporary = make_temporary_directory(copy)
    try:
        for name in objects:
            target = temporary / base / os.path.relpath(name, root)
            target = Path(os.path.normpath(target))
            if not target.is_relative_to(temporary):
                raise UserError(f"cannot copy {name}: expected an object below {root}; rename it")
            target.parent.mkdir(parents=True, exist_ok=True)
            with open_url(files.unstrip_protocol(name)) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, _BUFFER_BYTES)
        with contextlib.suppress(FileExistsError):  # Another process was first.
            temporary.rename(copy)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for older in copy.parent.iterdir():
        if older != copy and not older.name.startswith("."):
            shutil.rmtree(older, ignore_errors=True)
    remove_temporaries(copy)


def _cache_directory() -> Path:
    configured = os.environ.get(CACHE_VARIABLE)
    return Path(configured) if configured else user_cache_path("valyrian-gpt") / "remote"


def _open_filesystem(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it."""
    try:
        import fsspec
    except ImportError as error:
        raise UserError(
            f"{url} is a URL, which needs fsspec: pip install 'valyrian-gpt[remote]'"
        ) from error
    files, path = fsspec.core.url_to_fs(url)
    return files, path


@functools.cache
def _first_version(url: str) -> tuple[int, str]:
    """Return the size and the version of an object when this process first saw it."""
    return _current_version(url)


def _current_version(url: str) -> tuple[int, str]:
    files, path = _open_filesystem(url)
    files.invalidate_cache()  # of listings, which can be old
    return _read_version(files.info(path))


def _read_version(info: Mapping[str, Any]) -> tuple[int, str]:
    version = next((info[key] for key in _VERSION_KEYS if info.get(key) is not None), "")
    return int(info.get("size") or 0), str(version)


def _check_version(url: str) -> None:
    expected, found = _first_version(url), _current_version(url)
    if found != expected:
        raise UserError(
            f"{url} has changed while it was in use: expected {expected[0]:,} bytes of version "
            f"{expected[1]}, found {found[0]:,} of {found[1]}; run the command again"
        )


@contextlib.contextmanager
def _explain_errors(url: str) -> Iterator[None]:
    """Turn any error of object storage into one line; each kind of URL has its own library."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"cannot read {url}: {first_line(error)}; pip install 'valyrian-gpt[remote]', or the "
            "package of another kind of URL"
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EBUSY:  # s3fs: another ETag
            raise UserError(
                f"{url} has changed while it was read; run the command again"
            ) from error
        reason = first_line(error) or type(error).__name__
        raise UserError(
            f"cannot read {url}: {reason}; expected an object that can be read: check its name, "
            "the credentials and the network"
        ) from error
