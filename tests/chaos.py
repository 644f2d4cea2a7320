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
from typing import Any

import jax
import numpy as np
from rich.console import Console

from valyrian_jax import checkpoint, loop, optim, resuming, runs, state
from valyrian_jax.config import Config

FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["tests.chaos"])


def train(settings: Config, run: Path, last_operation: int | None = None) -> None:
    """Start a run, or go on with it; die by SIGKILL at a certain operation on its files."""
    if last_operation is not None:
        kill_at(run, last_operation)
    quiet = Console(file=io.StringIO())
    if (run / "config.toml").exists():
        loop.run(resuming.configuration(run, {}), resume=run, console=quiet)
    else:
        loop.run(settings, run, console=quiet)


def kill_at(run: Path, last: int) -> None:
    """Kill this process at the operation number `last` on a path inside a directory: opening, renaming, removing..."""
    left = last

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event.startswith(("open", "os.", "shutil.")) and arguments and str(run) in str(arguments[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def spawned(settings: Config, run: Path, last_operation: int | None = None) -> int | None:
    """`train` in a process of its own: its exit code, the negative of the signal that ended it."""
    process = FORKING.Process(target=train, args=(settings, run, last_operation))
    process.start()
    process.join()
    return process.exitcode


def fingerprint(run: Path) -> str:
    """A hash of the last state of a run, of its numbers without its speed, its samples, and its best weights."""
    settings = runs.load_config(run)
    like = state.init_state(settings, optim.make_optimizer(settings.optim, settings.train.steps))
    digest = hashlib.sha256((run / "samples.txt").read_bytes())
    for array in jax.tree.leaves(checkpoint.restore(checkpoint.newest(run / "checkpoints"), like)):
        digest.update(np.asarray(array).tobytes())
    for record in runs.read_metrics(run):
        digest.update(repr([item for item in record.items() if item[0] != "train/tokens_per_second"]).encode())
    digest.update((run / "bundle" / "model.safetensors").read_bytes())
    return digest.hexdigest()
