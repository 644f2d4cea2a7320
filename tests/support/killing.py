"""Killing a training run, again and again: what the tests and tests/bench/chaos.py share.

The runs are processes forked from one that has imported everything, so that most of their life is training.
"""

import hashlib
import io
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from valyrian_jax.config import Config
from valyrian_jax.run_directory import load_run_config, read_metrics
from valyrian_jax.training import checkpoint
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.resume import load_resume_config
from valyrian_jax.training.run import train
from valyrian_jax.training.train_step import init_state

FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["tests.support.killing"])


class End(NamedTuple):
    """How a process ended: its exit code, the negative of the signal that ended it, and the operations it made."""

    code: int | None
    operations: int


def spawned(settings: Config, run: Path, last: int = 0) -> End:
    """Start a run, or go on with it, in a process of its own, killed at operation number `last` on the run's files."""
    operations = FORKING.Value("q", 0)
    process = FORKING.Process(target=train_killed, args=(settings, run, last, operations))
    process.start()
    process.join()
    return End(process.exitcode, operations.value)


def train_killed(settings: Config, run: Path, last: int, operations: Any) -> None:
    count_operations(run, last, operations)
    quiet = Console(file=io.StringIO())
    if (run / "config.toml").exists():
        train(load_resume_config(run, {}), resume=run, console=quiet)
    else:
        train(settings, run, console=quiet)


def count_operations(run: Path, last: int, operations: Any) -> None:
    """Count what this process does to paths in a directory (open, rename, remove...), and kill it at number `last`."""

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        if (
            event.startswith(("open", "os.", "shutil."))
            and arguments
            and str(run) in str(arguments[0])
        ):
            operations.value += 1
            if operations.value == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def fingerprint(run: Path) -> str:
    """A hash of the last state and progress of a run, its numbers but for its speed, its samples, its best weights."""
    settings = load_run_config(run)
    like = init_state(settings, make_optimizer(settings.optim, settings.train.steps))
    digest = hashlib.sha256((run / "samples.txt").read_bytes())
    found = checkpoint.find_newest(run / "checkpoints")
    digest.update(repr(found.metadata.progress).encode())
    for array in jax.tree.leaves(checkpoint.restore(found, like)):
        digest.update(np.asarray(array).tobytes())
    for record in read_metrics(run):
        digest.update(
            repr([item for item in record.items() if item[0] != "train/tokens_per_second"]).encode()
        )
    digest.update((run / "bundle" / "model.safetensors").read_bytes())
    return digest.hexdigest()
