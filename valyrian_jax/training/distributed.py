"""Several processes as one run: connect, compare, synchronise and disconnect.

`jax.distributed` connects the processes. All of them run the same program, and a computation over
the common mesh waits for all of them. Only the primary process, number 0, prints, and writes the
files that are not sharded. A function that waits for the others raises PeerError if one of them
cannot be reached.
"""

import atexit
import contextlib
import os
import re
import socket
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
import numpy.typing as npt
from jax.experimental import multihost_utils

from valyrian_jax.errors import StoppedError, UserError, first_line
from valyrian_jax.training.devices import is_out_of_memory

Result = TypeVar("Result")
_PROCESS_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")  # Slurm's srun, Open MPI
CONNECT_TIMEOUT = 300.0  # seconds, as in jax.distributed.initialize


class PeerError(Exception):
    """A collective operation failed: another process cannot be reached."""


@contextlib.contextmanager
def initialize(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> Iterator[None]:
    """Connect this process to the others of its run.

    Without arguments, Slurm or Open MPI give the number of processes; if neither started this
    process, it runs alone. If the others do not connect within five minutes, process 0 exits with
    JAX's own error message; if process 0 dies, the others usually do the same.

    Args:
        coordinator: HOST:PORT of process 0.
        processes: Number of processes.
        process: Number of this process, from 0.

    Raises:
        UserError: The arguments are incomplete or inconsistent, the processes cannot connect, or
            another process fails.
    """
    if any(value is not None for value in (coordinator, processes, process)):
        _check_arguments(coordinator, processes, process)
    elif not _is_launched():
        yield
        return
    try:
        _connect(coordinator, processes, process)
        yield
    except StoppedError:  # All processes raise it at the same step.
        raise
    except BaseException as error:
        # JAX's orderly shutdown waits for the other processes, and they wait for a computation of
        # this one.
        explanation = explain_failure(error)
        is_expected = explanation or isinstance(error, UserError | OSError)
        atexit.register(
            _exit_now, 130 if isinstance(error, KeyboardInterrupt) else 2 if is_expected else 1
        )
        if explanation:
            raise UserError("; ".join(explanation)) from error
        raise


def _is_launched() -> bool:
    """Return whether Slurm or Open MPI started several processes."""
    counts = (os.environ.get(name, "") for name in _PROCESS_COUNTS)
    return any(count.isdecimal() and int(count) > 1 for count in counts)


def _check_arguments(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Check the options and the port; JAX would abort the process without a Python exception."""
    if coordinator is None or processes is None or process is None:
        raise UserError(
            "--coordinator, --processes and --process go together; pass HOST:PORT, the number of "
            "processes and the number of this one"
        )
    if not process < processes:
        raise UserError(
            f"--process {process}: expected 0 to {processes - 1}, because --processes is "
            f"{processes}; number the processes from 0"
        )
    host, _, port = coordinator.rpartition(":")
    if not (host and re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 1 << 16):
        raise UserError(
            f"--coordinator {coordinator}: expected HOST:PORT, such as 10.0.0.1:1234; pass the "
            "address of process 0"
        )
    print(
        f"connecting {processes} processes at {coordinator}; waiting up to five minutes",
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
            f"cannot connect to the other processes: {first_line(error)}; pass the same "
            "--coordinator and --processes to all of them, and a different --process to each"
        ) from error


def _wait_for_listener(host: str, port: int) -> None:
    """Wait until process 0 accepts connections at this address."""
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
    """Check that JAX will be able to listen at this port."""
    both = socket.has_dualstack_ipv6()
    try:
        family = socket.AF_INET6 if both else socket.AF_INET
        socket.create_server(("", port), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        raise UserError(
            f"cannot listen at port {port} of --coordinator: {error.strerror or error}; "
            "choose another port"
        ) from error


def is_primary() -> bool:
    """Return whether this is the process that prints and writes."""
    return jax.process_index() == 0


def explain_failure(error: BaseException) -> tuple[str, str] | None:
    """Return what failed on the devices, and what to do about it; None: nothing failed there.

    Collectives outside a compiled step raise PeerError (see `peer_errors`). A compiled step raises
    JAX's error, whatever went wrong in it, so only the user can know whether a process has ended.
    """
    is_alone, reason = jax.process_count() == 1, first_line(error)
    restart = "" if is_alone else "if another process has ended, start all of them again"
    if is_out_of_memory(error):
        advice = "raise --train.accumulate or pass --train.remat true"
        return f"out of memory ({reason})", "; ".join(filter(None, (advice, restart)))
    if is_alone or not isinstance(error, PeerError | jax.errors.JaxRuntimeError):
        return None
    return f"a computation across the {jax.process_count()} processes failed ({reason})", restart


def check_device_counts() -> None:
    """Check that every process has the same number of devices; JAX cannot gather otherwise."""
    counts = Counter(device.process_index for device in jax.devices())
    if len({*counts.values()}) > 1:
        shutdown()
        devices = ", ".join(
            f"{count} in process {process}" for process, count in sorted(counts.items())
        )
        raise UserError(
            f"the processes cannot share a mesh: expected the same number of devices in every "
            f"process, found {devices}; make the same number visible to each"
        )


def barrier(name: str) -> None:
    """Wait until every process calls this with the same name."""
    if jax.process_count() > 1:
        with peer_errors():
            multihost_utils.sync_global_devices(name)


def shutdown() -> None:
    """Disconnect before an error that every process raises, so that each can print its message."""
    if jax.process_count() > 1:
        jax.distributed.shutdown()


def call_together(function: Callable[[], Result]) -> Result:
    """Call a function in every process; if it fails in one of them, raise an error in all.

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
    [has_failed] = all_max(0)
    if has_failed:
        shutdown()
        raise UserError(
            f"another of the {jax.process_count()} processes cannot start; its own message says why"
        )
    return result


def all_max(*values: int) -> list[int]:
    """Return the largest of each value that any process passes."""
    maxima: list[int] = _gather(np.array(values, np.int32)).max(axis=0).tolist()
    return maxima


def all_equal(digest: bytes) -> bool:
    """Return whether all processes pass the same bytes."""
    digests = _gather(np.frombuffer(digest, np.uint8))
    return bool((digests == digests[0]).all())


def _gather(value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the values of all processes, stacked along a new first axis."""
    if jax.process_count() == 1:
        return value[None]
    with peer_errors():
        return np.asarray(multihost_utils.process_allgather(value))


@contextlib.contextmanager
def peer_errors() -> Iterator[None]:
    """Turn the errors of collectives, ours and orbax's, into PeerError.

    The type of an error does not show where it comes from: gloo raises ValueError, as orbax does
    when it cannot write. Its traceback does: every collective goes through `multihost_utils`.
    """
    try:
        yield
    except Exception as error:
        frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
        if any(frame.f_globals.get("__name__") == multihost_utils.__name__ for frame in frames):
            raise PeerError(str(error)) from error
        raise


def _exit_now(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
