"""Checks of zip archives from any source, such as PyTorch's files, before PyTorch opens them."""

import zipfile
from pathlib import Path

from valyrian_jax.errors import UserError

# PyTorch compresses the code of a module, never its tensors, so compression saves little.
MAX_SAVING = 1 << 26  # bytes


def check_zip(path: Path) -> None:
    """Check that a zip archive is undamaged and safe to unpack.

    Raises:
        UserError: The archive is damaged, has two members of the same name, has a member that would
            be unpacked outside of its directory, or would unpack to far more than its size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names, size = archive.namelist(), sum(member.file_size for member in archive.infolist())
            has_duplicates = len(set(names)) < len(names)
            if has_duplicates or any({"", ".."} & {*name.split("/")} for name in names):
                raise ValueError("it has two members of the same name, or one that lies outside")
            if size > path.stat().st_size + MAX_SAVING:
                raise ValueError(f"it would unpack to {size:,} bytes")
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} in it does not match its checksum")
    except Exception as error:  # a damaged zip archive can raise any error
        raise UserError(f"{path} is damaged: {error}; copy it again") from error


def read_zip_directory(path: Path, directory: str) -> dict[str, bytes]:
    """Check a zip archive, and read the members of one directory in it.

    Args:
        path: The archive.
        directory: Name of a directory, at any depth in the archive.

    Returns:
        The contents of the members by file name.

    Raises:
        UserError: The archive is damaged or unsafe; see `check_zip`.
    """
    check_zip(path)
    with zipfile.ZipFile(path) as archive:
        return {
            name.rpartition("/")[2]: archive.read(name)
            for name in archive.namelist()
            if f"/{directory}/" in name
        }
