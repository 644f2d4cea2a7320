"""Several processes as one run: how they meet, agree and part.

JAX connects them (`jax.distributed`). Every process runs the same program, and what is computed over the common mesh
waits for all of them. What is written and shown is the business of the first process alone.
"""

import atexit
import contextlib
import os
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from valyrian_jax.errors import StoppedError, UserError

_SEVERAL = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")  # of Slurm's srun and of Open MPI: how many processes
CONNECT_TIMEOUT = 300.0  # seconds for the first process to come; JAX waits as long for the others
_LOST = re.compile(r"gloo|nccl|coordination|barrier|heartbeat", re.IGNORECASE)


@contextlib.contextmanager
def initialize(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> Iterator[None]:
    """Be one of several processes; without arguments, if Slurm or Open MPI has started several, else the only one.

    JAX itself ends the first process if others do not come within five minutes, and most often all of them when the
    first one dies, with words of its own.

    Args:
        coordinator: host:port of the first process, where all meet.
        processes: how many there are.
        process: which this one is, from 0.

    Raises:
        UserError: the arguments are not all there or make no sense, JAX finds nowhere to meet, or another process has
            gone.
    """
    if any(value is not None for value in (coordinator, processes, process)):
        _meeting(coordinator, processes, process)
    elif not _started_together():
        yield
        return
    try:
        _connect(coordinator, processes, process)
        yield
    except StoppedError:  # which all of them raise at the same step
        raise
    except BaseException as error:
        # Parting in order would wait for the others, and they for what this one does not compute any more.
        is_lost = is_peer_failure(error)
        expected = is_lost or isinstance(error, UserError | OSError)
        atexit.register(_leave, 130 if isinstance(error, KeyboardInterrupt) else 2 if expected else 1)
        if is_lost:
            raise UserError(describe_peer_failure(error)) from error
        raise


def _started_together() -> bool:
    """Whether Slurm or Open MPI has started several processes."""
    return any(number.isdecimal() and int(number) > 1 for number in map(os.environ.get, _SEVERAL, ("", "")))


def _meeting(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """See that the processes can meet where the options say: JAX would end this one without a word of Python."""
    if coordinator is None or processes is None or process is None:
        raise UserError("--coordinator, --processes and --process go together: where all meet, how many, which")
    if not process < processes:
        raise UserError(f"--process {process} is not one of --processes {processes}: they count from 0")
    host, _, port = coordinator.rpartition(":")
    if not (host and re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 1 << 16):
        raise UserError(f"--coordinator {coordinator} is no HOST:PORT, 10.0.0.1:1234 say")
    print(f"meeting the others of {processes} processes at {coordinator}, within five minutes", file=sys.stderr)
    if process:
        _wait_for(host.strip("[]"), int(port))
    else:
        _see_free(int(port))


def _connect(*given: str | int | None) -> None:
    try:
        jax.distributed.initialize(*given)  # type: ignore[arg-type]
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the processes of this run do not meet: {_first_line(error)}; "
            "give --coordinator, --processes and --process"
        ) from error


def _wait_for(host: str, port: int) -> None:
    """Wait until the first process listens."""
    end = time.monotonic() + CONNECT_TIMEOUT
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise UserError(
                    f"nobody answers at --coordinator {host}:{port} ({error.strerror or error}); "
                    "start the process with --process 0 there"
                ) from error
        time.sleep(0.5)


def _see_free(port: int) -> None:
    """Hold the port for a moment, as JAX will."""
    both = socket.has_dualstack_ipv6()
    try:
        family = socket.AF_INET6 if both else socket.AF_INET
        socket.create_server(("", port), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        raise UserError(
            f"cannot listen at port {port} of --coordinator: {error.strerror or error}; choose another"
        ) from error


def is_primary() -> bool:
    """Whether this is the process that writes and shows."""
    return jax.process_index() == 0


def process_count() -> int:
    """How many processes make this run."""
    return jax.process_count()


def is_peer_failure(error: BaseException) -> bool:
    """Whether an error of JAX says that another process cannot be reached any more."""
    return isinstance(error, RuntimeError | ValueError) and process_count() > 1 and bool(_LOST.search(str(error)))


def describe_peer_failure(error: BaseException) -> str:
    """What to say of that error."""
    return f"another of the {process_count()} processes of this run has gone ({_first_line(error)})"


def check_device_counts() -> None:
    """See that all processes have as many devices, without which JAX cannot gather from them.

    Raises:
        UserError: they have not.
    """
    held = Counter(device.process_index for device in jax.devices())
    if len({*held.values()}) > 1:
        shutdown()
        found = ", ".join(f"{number} in process {process}" for process, number in sorted(held.items()))
        raise UserError(f"every process needs as many devices as the others, and there are {found}")


def barrier(place: str) -> None:
    """Wait until every process is at this place of the program."""
    if process_count() > 1:
        multihost_utils.sync_global_devices(place)


def shutdown() -> None:
    """Leave together, before an error that every process raises: else the first to go would take others' words away."""
    if process_count() > 1:
        jax.distributed.shutdown()


@contextlib.contextmanager
def sync_errors() -> Iterator[None]:
    """Do, without waiting for each other, what can fail in one process alone; if it does, all of them end.

    Raises:
        UserError: of this process, or that another one had one.
    """
    try:
        yield
    except UserError:
        all_max(1)
        shutdown()
        raise
    if all_max(0):
        shutdown()
        raise UserError(f"another of the {process_count()} processes of this run cannot begin; it says why")


def all_max(value: int) -> int:
    """The largest of the values that the processes have."""
    return int(np.max(multihost_utils.process_allgather(np.int32(value)))) if process_count() > 1 else value


def all_equal(digest: bytes) -> bool:
    """Whether all processes have the same bytes."""
    if process_count() == 1:
        return True
    found = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
    return bool((found == found[0]).all())


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _leave(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
