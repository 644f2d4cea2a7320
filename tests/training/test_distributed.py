"""Two processes as one run: the losses of one process, and a clear end if one of them fails."""

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils

from tests.support.forked import ForkedProcess, find_free_address
from tests.support.runs import find_last_step, load_tiny_config, make_text_console, resume
from valyrian_jax.config import Config, config_to_toml
from valyrian_jax.run_directory import read_metrics
from valyrian_jax.training import distributed
from valyrian_jax.training.run import train

Process = ForkedProcess
RESTART_HINT = (
    "if another process has ended, start all of them again; resume with: "
    "python -m valyrian_jax train --resume {run}"
)
# A program that is killed when it begins its second checkpoint.
KILLED_IN_SAVE = """
import os, runpy, signal, sys
import orbax.checkpoint as ocp

save, calls = ocp.Checkpointer.save, []

def save_once(*arguments, **options):
    calls.append(None)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return save(*arguments, **options)

ocp.Checkpointer.save = save_once
sys.path.insert(0, os.getcwd())
runpy.run_path("train.py", run_name="__main__")
"""
StartProcess = Callable[..., Process]


@pytest.fixture(scope="module")
def config(small_text: Path) -> Config:
    every = {"train.eval_every": 50, "train.checkpoint_every": 50, "train.sample_every": 0}
    return load_tiny_config(small_text, **every, **{"train.steps": 200})


@pytest.fixture(scope="module")
def single(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one process."""
    run = tmp_path_factory.mktemp("single") / "run"
    return train(config, run, console=make_text_console()).directory


@pytest.fixture
def config_option(config: Config, tmp_path: Path) -> str:
    file = tmp_path / "config.toml"
    file.write_text(config_to_toml(config), encoding="utf-8")
    return f"--config={file}"


@pytest.fixture
def start() -> Iterator[StartProcess]:
    """Return a function that starts train.py or other code; its processes end with the test."""
    processes: list[Process] = []

    def start_process(*arguments: str, code: str = "", **environment: str) -> Process:
        process = ForkedProcess(arguments, os.environ | environment, code)
        processes.append(process)
        return process

    yield start_process
    for process in processes:
        process.kill()
        process.communicate()


def start_pair(
    start: StartProcess,
    *arguments: str,
    second: tuple[str, ...] = (),
    second_flags: str = "",
    **options: Any,
) -> tuple[Process, Process]:
    """Start two processes of one run.

    Args:
        start: Function that starts a process.
        arguments: Arguments of both processes.
        second: Additional arguments of the second process.
        second_flags: Additional XLA flags of the second process.
        options: Keyword arguments of `start` for the second process.
    """
    group = [*arguments, "--coordinator", find_free_address(), "--processes", "2"]
    flags = f"{os.environ['XLA_FLAGS']} {second_flags}"
    return (
        start(*group, "--process", "0"),
        start(*group, "--process", "1", *second, XLA_FLAGS=flags, **options),
    )


def wait_for_evaluation(process: Process) -> None:
    assert any(line.startswith("step ") for line in process.stdout), process.stderr.read()


def wait_for_end(process: Process) -> tuple[int, str]:
    """Return the exit status and the standard error."""
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def last_line(errors: str) -> str:
    return errors.splitlines()[-1]


def assert_same_losses(run: Path, single: Path, minimum: int) -> None:
    """Check that the records of a run, at least `minimum`, agree with those of one process."""
    records, expected = (
        {record["step"]: record for record in read_metrics(path)} for path in (run, single)
    )
    assert len(records) >= minimum
    for step, record in records.items():
        for name in record.keys() & {"train/loss", "train/grad_norm", "held_out/nats_per_token"}:
            np.testing.assert_allclose(record[name], expected[step][name], rtol=2e-5)


@pytest.mark.long
def test_two_processes_that_stop_and_are_killed_give_the_losses_of_one(
    config_option: str, single: Path, tmp_path: Path, start: StartProcess
) -> None:
    run = tmp_path / "run"
    first, second = start_pair(start, config_option, f"--out={run}")
    wait_for_evaluation(first)
    second.send_signal(signal.SIGTERM)  # Only one receives it; both stop after the same step.
    (first_status, errors), (second_status, _) = wait_for_end(first), wait_for_end(second)
    assert first_status == second_status == 128 + signal.SIGTERM, errors
    assert f"resume with: python -m valyrian_jax train --resume {run}" in errors
    stopped = find_last_step(run)
    assert 50 <= stopped < 200
    assert_same_losses(run, single, stopped // 10)

    first, second = start_pair(start, f"--resume={run}")
    wait_for_evaluation(first)
    second.kill()
    status, errors = wait_for_end(first)
    assert status == 2
    expected = (
        r"error: a computation across the 2 processes failed \(.+\); "
        "the last checkpoint is of step "
    )
    assert re.match(expected, last_line(errors))
    assert last_line(errors).endswith(RESTART_HINT.format(run=run))

    first, second = start_pair(start, f"--resume={run}")
    wait_for_evaluation(first)
    first.kill()
    status, errors = wait_for_end(second)
    assert status != 0
    # JAX may report the death of process 0 before we do.
    failure = "a computation across the 2 processes failed"
    assert failure in errors or "another task died" in errors

    resume(run)
    assert_same_losses(run, single, 20)


@pytest.mark.slow
def test_a_process_that_dies_while_all_save_is_not_a_problem_of_the_disk(
    config_option: str, tmp_path: Path, start: StartProcess
) -> None:
    run = tmp_path / "run"
    first, _ = start_pair(start, config_option, f"--out={run}", code=KILLED_IN_SAVE)
    status, errors = wait_for_end(first)
    assert status == 2
    assert last_line(errors).startswith("error: a computation across the 2 processes failed (")
    assert "the last checkpoint is of step 0" in last_line(errors)
    assert last_line(errors).endswith(RESTART_HINT.format(run=run))


def test_only_errors_that_come_from_a_collective_are_errors_of_a_peer() -> None:
    with pytest.raises(distributed.PeerError), distributed.peer_errors():
        multihost_utils.sync_global_devices(None)  # type: ignore[arg-type]
    for error in (ValueError("Gloo AllGather failed"), OSError(28, "No space left on device")):
        with pytest.raises(type(error)), distributed.peer_errors():
            raise error


def test_a_device_without_memory_is_named_as_such() -> None:
    with pytest.raises(jax.errors.JaxRuntimeError) as failure:
        jnp.zeros((1 << 40, 1 << 10)).block_until_ready()  # 4 PB
    failed, advice = distributed.explain_failure(failure.value) or ("", "")
    assert failed.startswith("out of memory (")
    assert advice == "raise --train.accumulate or pass --train.remat true"
    # What else goes wrong in a process that runs alone is a fault of the program.
    assert distributed.explain_failure(jax.errors.JaxRuntimeError("INTERNAL: bug")) is None


@pytest.mark.slow
def test_two_processes_resume_the_run_of_one(
    single: Path, tmp_path: Path, start: StartProcess
) -> None:
    run = shutil.copytree(single, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "200")
    pair = start_pair(start, f"--resume={run}")
    assert [wait_for_end(process)[0] for process in pair] == [0, 0]
    assert find_last_step(run) == 200
    assert_same_losses(run, single, 20)


def test_if_one_process_cannot_start_none_does(
    config_option: str, tmp_path: Path, start: StartProcess
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "something").touch()  # Only the primary process looks at it.
    first, second = map(wait_for_end, start_pair(start, config_option, f"--out={run}"))
    assert (first[0], second[0]) == (2, 2)
    assert last_line(first[1]).startswith(f"error: cannot start a run in {run}: expected a new or")
    assert last_line(second[1]).startswith("error: another of the 2 processes cannot start")


def test_processes_with_different_numbers_of_devices_are_refused(
    config_option: str, tmp_path: Path, start: StartProcess
) -> None:
    run = tmp_path / "run"
    flags = "--xla_force_host_platform_device_count=2"
    for process in start_pair(start, config_option, f"--out={run}", second_flags=flags):
        status, errors = wait_for_end(process)
        assert status == 2
        assert "in every process, found 1 in process 0, 2 in process 1" in last_line(errors)
    assert not run.exists()


def test_processes_with_different_directories_are_refused(
    config_option: str, tmp_path: Path, start: StartProcess
) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    pair = start_pair(start, config_option, f"--out={run}", second=(f"--out={other}",))
    first, second = map(wait_for_end, pair)
    assert (first[0], second[0]) == (2, 2)
    assert last_line(first[1]).startswith("error: another of the 2 processes cannot start")
    assert f"cannot find {other / 'tokenizer.json'}" in last_line(second[1])


def test_processes_of_slurm_with_different_settings_are_refused(
    config_option: str, tmp_path: Path, start: StartProcess
) -> None:
    slurm = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_LOCALID": "0",
    }
    arguments = [config_option, f"--out={tmp_path / 'run'}"]
    pair = [
        start(*arguments, "--optim.lr", rate, SLURM_PROCID=process, **slurm)
        for process, rate in (("0", "0.001"), ("1", "0.002"))
    ]
    expected = "error: the processes of this run do not have the same configuration"
    for process in pair:
        status, errors = wait_for_end(process)
        assert status == 2
        assert last_line(errors).startswith(expected)
