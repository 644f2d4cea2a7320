"""The model that ships with this package, and the prompt and seed that every example uses."""

import os
from pathlib import Path

SHIPPED_MODEL = Path(__file__).parent / "pretrained"
"""Its bundle, which `python -m valyrian_jax train` wrote with the default settings."""
SHIPPED_NAME = "valyrian"
"""Its name for programs."""
SHIPPED_RUN = "shipped"
"""What a user writes for it in place of a path, unless there is a file of this name."""
SHIPPED_HINT = f"`{SHIPPED_RUN}` is the model that comes with the package"

# A correctly spelt prompt and a seed for which it writes several sentences without a mistake.
EXAMPLE_PROMPT = "Valar morghūlis"
EXAMPLE_SEED = 9
EXAMPLE_OPTIONS = f'--prompt "{EXAMPLE_PROMPT}" --seed {EXAMPLE_SEED}'


def name_model(path: Path) -> str:
    """Return the name of a run or bundle directory for a person."""
    if is_shipped(path):
        return "the model that ships with valyrian_jax"
    return str(path)


def short_name(path: Path) -> str:
    """Return the name of a run or bundle directory for programs: that of the run, without its path.

    The name is valid Unicode and not empty.
    """
    if is_shipped(path):
        return SHIPPED_NAME
    parts = Path(os.path.normpath(path.absolute())).parts[1:]
    name = next((name for name in reversed(parts) if name != "bundle"), "model")
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def is_shipped(path: Path) -> bool:
    """Return whether a path is the bundle of the model that ships, which no command changes."""
    return path.exists() and path.samefile(SHIPPED_MODEL)
