"""Encoding on the workers of a Dask scheduler: the same bytes, also after workers are killed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.encoding import encode, read_contents
from valyrian_jax.data.shards import inputs
from valyrian_jax.errors import UserError

ROOT = Path(__file__).parents[3]
SCHEDULER = """
import asyncio, sys
from distributed import Scheduler

async def main():
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        print(scheduler.address, flush=True)
        await scheduler.finished()

asyncio.run(main())
"""
WORKER = """
import asyncio, sys
from distributed import Worker

async def main():
    async with Worker(sys.argv[1], nthreads=1, dashboard=False) as worker:
        print(worker.address, flush=True)
        await worker.finished()

asyncio.run(main())
"""


class Cluster(NamedTuple):
    """A scheduler and its workers, each a process."""

    address: str
    workers: list["subprocess.Popen[str]"]


def start(code: str, *arguments: str) -> tuple["subprocess.Popen[str]", str]:
    """Start a process of Dask, and return it with its address."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    return process, process.stdout.readline().strip()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    scheduler, address = start(SCHEDULER)
    processes = [scheduler]
    try:
        for _ in range(4):
            processes.append(start(WORKER, address)[0])
        yield Cluster(address, processes[1:])
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()
            assert process.stdout
            process.stdout.close()


def test_shards_are_the_same_bytes_though_two_of_four_workers_are_killed(
    home: Path, whole: Path, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_GROUP_BYTES", 1000)  # several groups for each worker
    checks = 0

    def kill_workers() -> None:
        nonlocal checks
        checks += 1
        if checks in (40, 60) and len(cluster.workers) > 2:
            worker = cluster.workers.pop()
            worker.kill()
            worker.wait()
            assert worker.stdout
            worker.stdout.close()

    encode(
        home,
        "a.txt b.txt",
        tmp_path / "out",
        scheduler=cluster.address,
        stop_signal=kill_workers,
    )
    assert len(cluster.workers) == 2
    assert read_contents(tmp_path / "out") == read_contents(whole)


def test_a_scheduler_that_is_not_there_is_one_line(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("valyrian_jax.data.shards.executors._CONNECT_SECONDS", 1)
    with pytest.raises(UserError, match="cannot connect to the scheduler tcp://127.0.0.1:1") as e:
        encode(home, "a.txt", tmp_path / "out", scheduler="tcp://127.0.0.1:1")
    assert re.fullmatch(r"[^\n]*", str(e.value))


def test_a_scheduler_without_workers_is_one_line(home: Path, tmp_path: Path) -> None:
    scheduler, address = start(SCHEDULER)
    try:
        with pytest.raises(UserError, match="has no workers: .* start some with `dask worker"):
            encode(home, "a.txt", tmp_path / "out", scheduler=address)
    finally:
        scheduler.kill()
        scheduler.communicate()
