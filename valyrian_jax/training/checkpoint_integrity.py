"""The hashes of a checkpoint's files, and what they say about damage."""

import os
from pathlib import Path
from typing import Any

from valyrian_jax.errors import UserError
from valyrian_jax.files import read_json_object, sha256_of_file


def describe_damage(path: Path) -> str | None:
    """Describe the damage to the files of a checkpoint; None: they are intact.

    Raises:
        OSError: A file cannot be read at the moment, so its content is unknown.
    """
    try:
        differences = find_differences(read_json_object(path / "sha256.json"), hash_files(path))
    except UserError as error:
        reason = error.__cause__
        if isinstance(reason, OSError) and not isinstance(reason, FileNotFoundError):
            raise reason from None
        return f"cannot read its files: {error}"
    return f"{differences[0]} was changed, truncated or lost" if differences else None


def find_differences(expected: dict[str, Any], actual: dict[str, str]) -> list[str]:
    """Return, sorted, the keys whose values differ or that only one of the two has."""
    names = expected.keys() | actual.keys()
    return sorted(name for name in names if expected.get(name) != actual.get(name))


def hash_files(path: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a checkpoint except sha256.json, by relative path.

    Raises:
        OSError: A file or directory cannot be read; `Path.rglob` would leave it out.
    """
    walk = os.walk(path, onerror=_raise)
    files = {Path(parent, name) for parent, _, names in walk for name in names}
    hashed = sorted(files - {path / "sha256.json"})
    return {file.relative_to(path).as_posix(): sha256_of_file(file) for file in hashed}


def _raise(error: OSError) -> None:
    raise error
