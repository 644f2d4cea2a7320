"""Writing a file whole or not at all."""

import os
from pathlib import Path

from valyrian_jax.errors import UserError


def write_text(path: Path, text: str) -> None:
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


def settle(partial: Path, path: Path) -> None:
    """Rename a whole file into place so that it is there, and whole, even after a loss of power."""
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the new name
    finally:
        os.close(directory)
