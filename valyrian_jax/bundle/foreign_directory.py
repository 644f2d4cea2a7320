"""Directories that are not bundles: what they are instead, and when to import them first."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from valyrian_jax.errors import UserError

_REQUIRED_FILES = ("config.json", "model.safetensors", "tokenizer.json")
_WEIGHT_SUFFIXES = (
    ".safetensors",
    ".safetensors.index.json",
    ".bin",
    ".bin.index.json",
    ".pt",
    ".pth",
)


def check_is_bundle(path: Path) -> None:
    """Check that a path is a bundle, or a directory with the files that loading needs."""
    missing = [name for name in _REQUIRED_FILES if not (path / name).exists()]
    if path.is_dir() and (not missing or (path / "manifest.json").exists()):
        return  # Reading the manifest reports what is missing.
    expected = f"expected a directory with {', '.join(_REQUIRED_FILES)}"
    if not path.exists():
        raise UserError(f"no bundle at {path}: {expected}; check the path")
    if (path / "config.toml").exists():
        raise UserError(
            f"{path} is a run directory, expected the bundle in it; pass {path / 'bundle'}, which "
            "`python -m valyrian_jax train` writes at the first evaluation"
        )
    actual = f"no {', '.join(missing)} in it" if path.is_dir() else "a file"
    advice = f"{_import_hint(path)} first" if holds_weights(path) else "check the path"
    raise UserError(f"{path} is not a bundle: {expected}, found {actual}; {advice}")


def holds_weights(path: Path) -> bool:
    """Return whether a path is a file of weights, or a directory with one or a config.json."""
    files = [file.name for file in path.iterdir()] if path.is_dir() else [path.name]
    return any(name.endswith(_WEIGHT_SUFFIXES) or name == "config.json" for name in files)


def _import_hint(path: Path) -> str:
    return f"import it: run `python -m bridge import {shlex.quote(str(path))} -o NEW`"


@contextlib.contextmanager
def suggest_import(path: Path) -> Iterator[None]:
    """Add to an error that a directory from another program must be imported first."""
    try:
        yield
    except UserError as error:
        raise UserError(
            f"{error}; if another program wrote {path}, {_import_hint(path)} first"
        ) from error
