"""Where tasks run: in processes of this machine, or on the workers of a Dask scheduler.

Dask is optional. Its scheduler gives the tasks of a worker that dies to the others.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from typing import Any, NamedTuple, Protocol

from valyrian_jax.errors import UserError, first_line

_CONNECT_SECONDS = 30


class Submit(Protocol):
    """A function that starts a task and returns its future result."""

    def __call__(self, function: Any, /, *arguments: Any) -> "Future[Any]":
        """Start a task."""


class Workers(NamedTuple):
    """Workers for tasks."""

    submit: Submit
    slots: int  # tasks that run at a time


@contextlib.contextmanager
def open_workers(count: int, scheduler: str | None = None) -> Iterator[Workers]:
    """Start `count` worker processes, or connect to a Dask scheduler such as tcp://host:8786.

    Raises:
        UserError: There is no such scheduler, it has no workers, or a worker process was killed and
            nothing can replace it.
    """
    opened = _start_processes(count) if scheduler is None else _connect(scheduler)
    try:
        with opened as workers:
            yield workers
    except BrokenExecutor as error:
        raise UserError(
            "a worker process was killed, perhaps for lack of memory; finished shards are kept: "
            "run the same command again to resume, with fewer --workers if needed"
        ) from error


@contextlib.contextmanager
def _start_processes(count: int) -> Iterator[Workers]:
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, spawn, _exit_with_parent)

    def submit(function: Any, /, *arguments: Any) -> "Future[Any]":
        with _block_interrupts():  # submitting starts workers, which inherit the block
            return pool.submit(function, *arguments)

    with pool:
        try:
            yield Workers(submit, count)
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _connect(scheduler: str) -> Iterator[Workers]:
    try:
        import distributed
    except ImportError as error:
        raise UserError(
            "--scheduler needs Dask: pip install 'valyrian-gpt[dask]' here and on every worker"
        ) from error
    try:
        client = distributed.Client(scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot connect to the scheduler {scheduler}: {first_line(error)}; expected a Dask "
            "scheduler such as tcp://host:8786: start it with `dask scheduler`"
        ) from error
    with client:
        count = sum(client.nthreads().values())
        if not count:
            raise UserError(
                f"the scheduler {scheduler} has no workers: expected at least one; start some with "
                f"`dask worker {scheduler}`"
            )
        executor: Executor = client.get_executor(pure=False)
        try:
            yield Workers(executor.submit, count)
        except (distributed.KilledWorker, concurrent.futures.CancelledError) as error:
            raise UserError(
                f"the scheduler {scheduler} has lost a task: {first_line(error) or 'cancelled'}; "
                "finished shards are kept: run the same command again to resume"
            ) from error
        finally:
            executor.shutdown(wait=False)


@contextlib.contextmanager
def _block_interrupts() -> Iterator[None]:
    """Block the signals that a terminal sends to all processes; only the parent handles them."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _exit_with_parent() -> None:
    """Start a thread that ends this worker when its parent ends, even if that is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
