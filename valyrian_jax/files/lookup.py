"""Find input files: in the working directory, beside their configuration, or in the package."""

import difflib
import os
from pathlib import Path

from valyrian_jax.errors import UserError

# Directory with configs/ and data/: inside the package in a wheel, beside it in a clone.
_SHIPPED = Path(__file__).parents[1] / "shipped"
_SHIPPED_ROOT = _SHIPPED if _SHIPPED.is_dir() else Path(__file__).parents[2]


def find_input(name: str | os.PathLike[str], *directories: Path) -> str:
    """Return the first path that exists for the name of an input; the name itself if none does.

    A relative name is looked up in the working directory, then in `directories`. The presets and
    the corpus of this project are found by the names that they have in a clone, also without one.
    """
    roots = (*directories, _SHIPPED_ROOT) if _is_shipped(Path(name)) else directories
    paths = [os.fspath(name), *(str(root / name) for root in roots)]
    return next(filter(os.path.exists, paths), os.fspath(name))


def find_config(name: str | os.PathLike[str]) -> str:
    """Return the path of a configuration: of a file, or of a preset by its name, such as "quick".

    Raises:
        UserError: There is no such preset.
    """
    path, shown = find_input(name), os.fspath(name)
    is_bare = Path(shown).name == shown
    if not is_bare or (Path(path).exists() and not Path(path).is_dir()):
        return path
    preset = find_input(Path("configs", f"{shown.removesuffix('.toml')}.toml"))
    if Path(preset).is_file():
        return preset
    if shown.endswith(".toml"):
        return path  # Reading it says what is wrong.
    names = sorted(file.stem for file in (_SHIPPED_ROOT / "configs").glob("*.toml"))
    nearest = difflib.get_close_matches(shown, names, n=1)
    raise UserError(
        f"no configuration {shown!r}: expected a TOML file or a preset ({', '.join(names)}); "
        + (f"did you mean {nearest[0]}?" if nearest else "name one of them")
    )


def _is_shipped(path: Path) -> bool:
    is_preset = path.parent == Path("configs") and path.suffix == ".toml"
    return is_preset or path == Path("data/High Valyrian.txt")
