"""Zip files from anywhere, which PyTorch's files are: looked through before PyTorch opens them."""

import zipfile
from pathlib import Path

from valyrian_jax.errors import UserError

_SAVED = (
    1 << 26
)  # bytes that compression may save: PyTorch compresses the code of a module, never tensors


def unpack(path: Path, ending: str) -> dict[str, bytes]:
    """Check a zip file, and read some of its members.

    Args:
        path: the file.
        ending: the directory whose members are wanted, in whatever directory it lies.

    Returns:
        Their contents, by the last part of their names.

    Raises:
        UserError: the file is damaged, has two members of one name or one outside, or would unfold to far more than
            its size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names, size = archive.namelist(), sum(member.file_size for member in archive.infolist())
            if len(set(names)) < len(names) or any(
                {"", ".."} & {*name.split("/")} for name in names
            ):
                raise ValueError("a member is there twice, or lies outside")
            if size > path.stat().st_size + _SAVED:
                raise ValueError(f"it would unfold to {size:,} bytes")
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} in it does not match its checksum")
            return {
                name.rpartition("/")[2]: archive.read(name)
                for name in names
                if f"/{ending}/" in name
            }
    except Exception as error:  # reading a damaged zip file can fail anywhere
        raise UserError(f"{path} is damaged: {error}; copy it again") from error
