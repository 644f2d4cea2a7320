"""Feed damaged files to a reader: it must accept or refuse them, quickly and in little memory.

The targets are in `targets`, `bridge_targets` and `checkpoint_targets`. A new reader needs an entry
there: how to make its files, how to damage them, and how to read and use them.
"""

import os
import random
import resource
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from valyrian_jax.errors import UserError

Files = dict[str, bytes]

SECONDS = 10.0  # for one input
# Bytes above what the process has mapped; every thread that starts later needs some.
MEMORY = (3 << 30) + ((os.cpu_count() or 1) << 27)
_SHARED_MEMORY = Path("/dev/shm")


class Target(NamedTuple):
    """A reader of files.

    Attributes:
        make_files: Makes the undamaged files.
        damage: Takes a copy of the files and returns damaged ones.
        read: Reads and uses the files of a directory, or raises UserError.
        share: Fraction of the inputs that this target gets; below 1 for slow readers.
    """

    make_files: Callable[[], Files]
    damage: Callable[[random.Random, Files], Files]
    read: Callable[[Path], None]
    share: float = 1.0


class Outcome(NamedTuple):
    """How many inputs were accepted and refused, and the time that took."""

    accepted: int
    refused: int
    seconds: float


class HungError(BaseException):
    """An input took too long; not an Exception, so that no reader catches it."""


def attack(name: str, target: Target, count: int, seed: int = 0, first: int = 0) -> Outcome:
    """Read damaged files; every input depends only on the name, the seed and its own number.

    Args:
        name: Name of the target.
        target: Reader to attack.
        count: Number of inputs.
        seed: Seed of the damage.
        first: Number of the first input.

    Raises:
        AssertionError: An input was neither accepted nor refused with a UserError.
    """
    files, accepted, start = target.make_files(), 0, time.perf_counter()
    with _temporary_directory() as directory, limit_memory(), warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would add a line to the terminal
        _replace_files(directory, {}, files)
        target.read(directory)
        current = files
        for number in range(first, first + count):
            damaged = target.damage(random.Random(f"{name} {seed} {number}"), dict(files))
            _replace_files(directory, current, damaged)
            current = damaged
            accepted += _is_accepted(target, directory, f"{name}, input {number} of seed {seed}")
    return Outcome(accepted, count - accepted, time.perf_counter() - start)


def _is_accepted(target: Target, directory: Path, label: str) -> bool:
    """Return whether the target accepts the files of a directory instead of refusing them."""
    try:
        with limit_time():
            target.read(directory)
    except UserError:
        return False
    except BaseException as error:
        raise AssertionError(f"{label}: {type(error).__name__}: {str(error)[:300]}") from error
    return True


@contextmanager
def _temporary_directory() -> Iterator[Path]:
    parent = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=parent) as name:
        yield Path(name)


@contextmanager
def limit_memory() -> Iterator[None]:
    """Raise a MemoryError where the process asks for much more memory than it has."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@contextmanager
def limit_time() -> Iterator[None]:
    """Raise a HungError after `SECONDS`."""

    def raise_hung_error(*_: object) -> None:
        raise HungError(f"more than {SECONDS:.0f} s")

    previous_handler = signal.signal(signal.SIGALRM, raise_hung_error)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)


def _replace_files(directory: Path, current: Files, files: Files) -> None:
    """Replace the current files of a directory; files that are the same object stay."""
    for name in current.keys() - files.keys():
        (directory / name).unlink()
    for name, content in files.items():
        if current.get(name) is not content:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)
