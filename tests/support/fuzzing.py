"""Readers under damaged files: whatever is in them, they end in success or in a UserError, soon, in little memory.

`attack` damages the files of a target and reads them. Targets stand in `tests.support.targets` and `tests.support.bridge_targets`; a
reader more is an entry more there: its whole files, how to damage them, and how to read and use them.
"""

import os
import random
import resource
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from valyrian_jax.errors import UserError

Files = dict[str, bytes]

SECONDS = 10.0  # for one input; what takes longer hangs
MEMORY = (3 << 30) + (
    (os.cpu_count() or 1) << 27
)  # bytes above what is mapped already; some for each thread to come
_SHARED_MEMORY = Path("/dev/shm")


class Target(NamedTuple):
    """A reader.

    Attributes:
        whole: makes the undamaged files, once.
        damage: the files (a copy) -> damaged ones.
        read: a directory with the files; returns if they were read and are of use, or raises UserError.
        share: how much of the inputs asked for it gets; less where a reader is slow by nature.
    """

    whole: Callable[[], Files]
    damage: Callable[[random.Random, Files], Files]
    read: Callable[[Path], None]
    share: float = 1.0


class Outcome(NamedTuple):
    """What became of the inputs."""

    accepted: int
    refused: int
    seconds: float


class HungError(BaseException):
    """An input took too long. No Exception, so that no reader catches it."""


def attack(name: str, target: Target, count: int, seed: int = 0, first: int = 0) -> Outcome:
    """Read inputs number `first` to `first + count - 1`; each depends on the seed and its number alone.

    Raises:
        AssertionError: one ended neither in success nor in a UserError of one line; it names the input.
    """
    whole, accepted, begin = target.whole(), 0, time.perf_counter()
    with _directory() as directory, little_memory(), warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would be a line more on the terminal
        _replace(directory, {}, whole)
        target.read(directory)
        there = whole
        for number in range(first, first + count):
            files = target.damage(random.Random(f"{name} {seed} {number}"), dict(whole))
            _replace(directory, there, files)
            there = files
            accepted += _survives(target, directory, f"{name}, input {number} of seed {seed}")
    return Outcome(accepted, count - accepted, time.perf_counter() - begin)


def _survives(target: Target, directory: Path, which: str) -> bool:
    """Whether an input is accepted; it is refused where this is false."""
    try:
        with soon():
            target.read(directory)
    except UserError:
        return False
    except BaseException as error:
        raise AssertionError(f"{which}: {type(error).__name__}: {str(error)[:300]}") from error
    return True


@contextmanager
def _directory() -> Iterator[Path]:
    parent = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=parent) as name:
        yield Path(name)


@contextmanager
def little_memory() -> Iterator[None]:
    """Who asks for much more memory than the process has, gets a MemoryError."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def soon() -> Iterator[None]:
    """Who takes long, gets a HungError."""

    def hang(*_: object) -> None:
        raise HungError(f"more than {SECONDS:.0f} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _replace(directory: Path, there: Mapping[str, bytes], files: Mapping[str, bytes]) -> None:
    """Make the files of a directory others; most of them are the same."""
    for name in there.keys() - files.keys():
        (directory / name).unlink()
    for name, content in files.items():
        if there.get(name) is not content:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)
