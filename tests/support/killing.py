"""Train in processes that can be killed, and compare what they saved.

A fork server imports everything once, so the processes start quickly.
"""

import hashlib
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tests.support.runs import load_last_state, make_text_console, read_values, resume
from valyrian_jax.config import Config
from valyrian_jax.training import checkpoint
from valyrian_jax.training.run import train

FORK_SERVER = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload(["tests.support.killing"])


class ProcessEnd(NamedTuple):
    """The exit code of a process, or minus the signal that killed it, and its file operations."""

    code: int | None
    operations: int


def train_in_process(config: Config, run: Path, kill_at: int = 0) -> ProcessEnd:
    """Start or resume a run in a process; kill it at its `kill_at`-th file operation, unless 0."""
    operations = FORK_SERVER.Value("q", 0)
    process = FORK_SERVER.Process(target=_train, args=(config, run, kill_at, operations))
    process.start()
    process.join()
    return ProcessEnd(process.exitcode, operations.value)


def _train(config: Config, run: Path, kill_at: int, operations: Any) -> None:
    _count_operations(run, kill_at, operations)
    if (run / "config.toml").exists():
        resume(run)
    else:
        train(config, run, console=make_text_console())


def _count_operations(directory: Path, kill_at: int, operations: Any) -> None:
    """Count the operations on paths in a directory (open, rename, ...); kill the process at one."""

    def count_event(event: str, arguments: tuple[Any, ...]) -> None:
        if (
            event.startswith(("open", "os.", "shutil."))
            and arguments
            and str(directory) in str(arguments[0])
        ):
            operations.value += 1
            if operations.value == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count_event)


def fingerprint(run: Path) -> str:
    """Return a hash of the last state, progress, metrics, samples and best weights of a run."""
    digest = hashlib.sha256((run / "samples.txt").read_bytes())
    progress = checkpoint.find_newest(run / "checkpoints").metadata.progress
    digest.update(repr(progress).encode())
    for array in jax.tree.leaves(load_last_state(run)):
        digest.update(np.asarray(array).tobytes())
    for record in read_values(run):
        digest.update(repr([*record.items()]).encode())
    digest.update((run / "bundle" / "model.safetensors").read_bytes())
    return digest.hexdigest()
