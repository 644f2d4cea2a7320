"""Several processes as one run: connect, agree, synchronize and disconnect.

JAX connects the processes (`jax.distributed`). All of them run the same program, and a computation over the common mesh
waits for all of them. Only the primary process, number 0, prints and writes what is not sharded.
"""

import atexit
import contextlib
import os
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import numpy as np
import numpy.typing as npt
from jax.experimental import multihost_utils

from valyrian_jax.errors import StoppedError, UserError

Result = TypeVar("Result")
_PROCESS_COUNTS = (
    "SLURM_STEP_NUM_TASKS",
    "OMPI_COMM_WORLD_SIZE",
)  # set by Slurm's srun and by Open MPI
CONNECT_TIMEOUT = 300.0  # seconds; the same as jax.distributed.initialize


class PeerError(Exception):
    """A collective operation failed: another process cannot be reached."""


@contextlib.contextmanager
def initialize(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> Iterator[None]:
    """Connect this process to the others of its run.

    Without arguments, Slurm or Open MPI say how many processes there are; where neither started this one, it is alone.
    JAX itself exits process 0 if the others do not connect within five minutes, and usually all of them if process 0
    dies, each with JAX's own error message.

    Args:
        coordinator: host:port of process 0.
        processes: How many there are.
        process: Number of this one, from 0.

    Raises:
        UserError: The arguments are incomplete or inconsistent, no connection comes about, or another process fails.
    """
    if any(value is not None for value in (coordinator, processes, process)):
        _check_arguments(coordinator, processes, process)
    elif not _is_launched():
        yield
        return
    try:
        _connect(coordinator, processes, process)
        yield
    except StoppedError:  # all processes raise it at the same step
        raise
    except BaseException as error:
        # JAX's orderly shutdown would wait for the other processes, which wait for this one's computation.
        is_lost = is_peer_failure(error)
        expected = is_lost or isinstance(error, UserError | OSError)
        atexit.register(
            _exit_now, 130 if isinstance(error, KeyboardInterrupt) else 2 if expected else 1
        )
        if is_lost:
            raise UserError(describe_peer_failure(error)) from error
        raise


def _is_launched() -> bool:
    """Return whether Slurm or Open MPI started several processes."""
    return any(
        number.isdecimal() and int(number) > 1
        for number in map(os.environ.get, _PROCESS_COUNTS, ("", ""))
    )


def _check_arguments(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Check what the options say and the port, because JAX would abort this process without a Python exception."""
    if coordinator is None or processes is None or process is None:
        raise UserError(
            "--coordinator, --processes and --process go together: host:port, how many, and which one"
        )
    if not process < processes:
        raise UserError(
            f"--process {process}: expected 0 to {processes - 1}, as there are --processes {processes}"
        )
    host, _, port = coordinator.rpartition(":")
    if not (host and re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 1 << 16):
        raise UserError(f"--coordinator {coordinator}: expected HOST:PORT, such as 10.0.0.1:1234")
    print(
        f"connecting to {processes} processes at {coordinator}; waiting up to five minutes",
        file=sys.stderr,
    )
    if process:
        _wait_for_listener(host.strip("[]"), int(port))
    else:
        _check_port_is_free(int(port))


def _connect(*arguments: str | int | None) -> None:
    try:
        jax.distributed.initialize(*arguments)  # type: ignore[arg-type]
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"cannot connect to the other processes: {_first_line(error)}; pass the same --coordinator and --processes "
            "to all of them, and a different --process to each"
        ) from error


def _wait_for_listener(host: str, port: int) -> None:
    """Wait until process 0 listens at this address."""
    end = time.monotonic() + CONNECT_TIMEOUT
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise UserError(
                    f"no answer from --coordinator {host}:{port} ({error.strerror or error}); "
                    "start the process with --process 0 there"
                ) from error
        time.sleep(0.5)


def _check_port_is_free(port: int) -> None:
    """Listen at the port for a moment, as JAX will."""
    both = socket.has_dualstack_ipv6()
    try:
        family = socket.AF_INET6 if both else socket.AF_INET
        socket.create_server(("", port), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        raise UserError(
            f"cannot listen at port {port} of --coordinator: {error.strerror or error}; choose another port"
        ) from error


def is_primary() -> bool:
    """Return whether this is the process that prints and writes."""
    return jax.process_index() == 0


def process_count() -> int:
    """Return how many processes this run has."""
    return jax.process_count()


def is_peer_failure(error: BaseException) -> bool:
    """Return whether an error means that another process cannot be reached.

    Besides our own collectives, a compiled step and orbax's barriers wait for other processes; both raise JAX's error.
    """
    return process_count() > 1 and isinstance(error, PeerError | jax.errors.JaxRuntimeError)


def describe_peer_failure(error: BaseException) -> str:
    """Describe that error, for a message."""
    return f"a computation across the {process_count()} processes failed ({_first_line(error)}); another may have ended"


def check_device_counts() -> None:
    """Check that every process has the same number of devices; JAX cannot gather otherwise.

    Raises:
        UserError: They differ.
    """
    counts = Counter(device.process_index for device in jax.devices())
    if len({*counts.values()}) > 1:
        shutdown()
        found = ", ".join(
            f"{count} in process {process}" for process, count in sorted(counts.items())
        )
        raise UserError(f"expected the same number of devices in every process, found {found}")


def barrier(name: str) -> None:
    """Wait until every process calls this with the same name.

    Raises:
        PeerError: Another process cannot be reached.
    """
    if process_count() > 1:
        with _peer_errors():
            multihost_utils.sync_global_devices(name)


def shutdown() -> None:
    """Disconnect all processes before an error that each of them raises, so that each can print its own message."""
    if process_count() > 1:
        jax.distributed.shutdown()


def call_together(function: Callable[[], Result]) -> Result:
    """Call a function that may fail in only some of the processes; if it does, raise in all of them.

    Raises:
        UserError: The function raised it in this process or in another one.
        PeerError: Another process cannot be reached.
    """
    try:
        result = function()
    except UserError:
        all_max(1)
        shutdown()
        raise
    if all_max(0):
        shutdown()
        raise UserError(
            f"another of the {process_count()} processes cannot start; see its own message"
        )
    return result


def all_max(value: int) -> int:
    """Return the largest value that any process passes.

    Raises:
        PeerError: Another process cannot be reached.
    """
    return int(_gather(np.int32(value)).max())


def all_equal(digest: bytes) -> bool:
    """Return whether all processes pass the same bytes.

    Raises:
        PeerError: Another process cannot be reached.
    """
    digests = _gather(np.frombuffer(digest, np.uint8))
    return bool((digests == digests[0]).all())


def _gather(value: np.int32 | npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
    """Return the values of all processes, along a new first axis."""
    if process_count() == 1:
        return np.asarray(value)[None]
    with _peer_errors():
        return np.asarray(multihost_utils.process_allgather(value))


@contextlib.contextmanager
def _peer_errors() -> Iterator[None]:
    """Raise PeerError for what JAX raises when a collective of ours fails: ValueError if gloo reports it."""
    try:
        yield
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        raise PeerError(str(error)) from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _exit_now(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
