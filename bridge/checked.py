"""Writing a model file whole or not at all, and only if it works in a fresh process."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from valyrian_jax.errors import UserError


@contextmanager
def checked(out: Path) -> Iterator[Path]:
    """Give a path beside `out` to write to; at the end `python -m bridge check` opens it, and it gets its name.

    Raises:
        UserError: `out` is a directory, or the file fails its check. Whatever happens, nothing unfinished is left.
    """
    if not out.name or out.is_dir():
        raise UserError(f"cannot write {out}: it is a directory, expected the name of a file")
    partial = out.with_name(f"{out.stem}.partial{out.suffix}").absolute()
    try:
        partial.touch()  # a place that cannot be written fails before the work
        yield partial
        done = subprocess.run(
            [sys.executable, "-m", "bridge", "check", partial], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise UserError(f"{out} was not written, because the file fails its check: {done.stderr.strip()}")
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
