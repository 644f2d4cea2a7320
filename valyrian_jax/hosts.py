"""Several processes as one run: how they meet, agree and part.

JAX connects them (`jax.distributed`). Every process runs the same program, and what is computed over the common mesh
waits for all of them. What is written and shown is the business of the first process alone.
"""

import atexit
import contextlib
import os
import re
import sys
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from valyrian_jax.errors import StoppedError, UserError

_SEVERAL = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")  # of Slurm's srun and of Open MPI: how many processes
_LOST = re.compile(r"gloo|nccl|coordination|barrier|heartbeat", re.IGNORECASE)


@contextlib.contextmanager
def joined(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> Iterator[None]:
    """Be one of several processes; without arguments, if Slurm or Open MPI has started several, else the only one.

    JAX itself ends a process whose others do not come within five minutes, and most often all of them when the first
    one dies, with words of its own.

    Args:
        coordinator: host:port of the first process, where all meet.
        processes: how many there are.
        process: which this one is, from 0.

    Raises:
        UserError: the arguments are not all there or make no sense, JAX finds nowhere to meet, or another process has
            gone.
    """
    given = (coordinator, processes, process)
    if any(value is not None for value in given):
        if coordinator is None or processes is None or process is None:
            raise UserError("--coordinator, --processes and --process go together: where all meet, how many, which")
        if not process < processes:
            raise UserError(f"--process {process} is not one of --processes {processes}: they count from 0")
        if not re.fullmatch(r".+:[0-9]{1,5}", coordinator) or int(coordinator.rpartition(":")[2]) > 65535:
            raise UserError(f"--coordinator {coordinator} is no HOST:PORT, 10.0.0.1:1234 say")
        print(f"meeting the others of {processes} processes at {coordinator}", file=sys.stderr)
    elif not any(int(os.environ.get(name, "1")) > 1 for name in _SEVERAL):
        yield
        return
    try:
        jax.distributed.initialize(*given)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the processes of this run do not meet: {_first_line(error)}; "
            "give --coordinator, --processes and --process"
        ) from error
    try:
        yield
    except StoppedError:  # which all of them raise at the same step
        raise
    except BaseException as error:
        # Parting in order would wait for the others, and they for what this one does not compute any more.
        is_lost = gone(error)
        status = 130 if isinstance(error, KeyboardInterrupt) else 2 if is_lost or isinstance(error, UserError) else 1
        atexit.register(_leave, status)
        if is_lost:
            raise UserError(lost(error)) from error
        raise


def first() -> bool:
    """Whether this is the process that writes and shows."""
    return jax.process_index() == 0


def count() -> int:
    """How many processes make this run."""
    return jax.process_count()


def gone(error: BaseException) -> bool:
    """Whether an error of JAX says that another process cannot be reached any more."""
    return count() > 1 and isinstance(error, RuntimeError | ValueError) and bool(_LOST.search(str(error)))


def lost(error: BaseException) -> str:
    """What to say of that error."""
    return f"another of the {count()} processes of this run has gone ({_first_line(error)})"


def meet(place: str) -> None:
    """Wait until every process is at this place of the program."""
    if count() > 1:
        multihost_utils.sync_global_devices(place)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Do, without waiting for each other, what can fail in one process alone; if it does, all of them end.

    Raises:
        UserError: of this process, or that another one had one.
    """
    try:
        yield
    except UserError:
        largest(1)
        raise
    if largest(0):
        raise UserError(f"another of the {count()} processes of this run cannot begin; it says why")


def largest(value: int) -> int:
    """The largest of the values that the processes have."""
    return int(np.max(multihost_utils.process_allgather(np.int32(value)))) if count() > 1 else value


def agree(digest: bytes) -> bool:
    """Whether all processes have the same bytes."""
    if count() == 1:
        return True
    found = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
    return bool((found == found[0]).all())


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _leave(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
