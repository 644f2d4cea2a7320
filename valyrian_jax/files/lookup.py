"""Where input files are: beside the user, beside their configuration, or in the package."""

import os
from pathlib import Path

# Directory with configs/ and data/: inside the package in a wheel, beside it in a clone.
_SHIPPED = Path(__file__).parents[1] / "shipped"
_SHIPPED_ROOT = _SHIPPED if _SHIPPED.is_dir() else Path(__file__).parents[2]


def find_input(name: str | os.PathLike[str], *directories: Path) -> str:
    """Return where an input file or directory is.

    A relative name is looked up in the working directory, then in `directories`. The presets and
    the corpus of this project, by their names in a clone, are found without one.

    Args:
        name: Name of the input.
        directories: Other directories to search.

    Returns:
        The first path that exists; the unchanged name if none does.
    """
    roots = (*directories, _SHIPPED_ROOT) if _is_shipped(Path(name)) else directories
    paths = [os.fspath(name), *(str(root / name) for root in roots)]
    return next(filter(os.path.exists, paths), os.fspath(name))


def _is_shipped(path: Path) -> bool:
    is_preset = path.parent == Path("configs") and path.suffix == ".toml"
    return is_preset or path == Path("data/High Valyrian.txt")
