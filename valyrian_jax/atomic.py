"""Writing a file whole or not at all."""

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
