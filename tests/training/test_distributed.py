"""Two processes as one run: the same losses as one, also across stops and kills, and a clear end when one is gone."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tiny import TINY
from valyrian_jax.config import Config, config_to_toml, load_config
from valyrian_jax.errors import UserError
from valyrian_jax.run_directory import read_metrics
from valyrian_jax.training import checkpoint, distributed
from valyrian_jax.training.resume import load_resume_config
from valyrian_jax.training.run import train

ROOT = Path(__file__).parents[2]
Pair = tuple[subprocess.Popen[str], subprocess.Popen[str]]
LONG = TINY | {
    "train.steps": 200,
    "train.eval_every": 50,
    "train.checkpoint_every": 50,
    "train.sample_every": 0,
}


@pytest.fixture(scope="module")
def settings(small_text: Path) -> Config:
    return load_config(ROOT / "configs" / "tiny.toml", LONG | {"data.path": str(small_text)})


@pytest.fixture(scope="module")
def alone(settings: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process from start to end."""
    return train(settings, tmp_path_factory.mktemp("alone") / "run").directory


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def started(arguments: list[str], second: list[str] | None = None, flags: str = "") -> Pair:
    """Two processes of one run; the first one prints what it does.

    Args:
        arguments: of both.
        second: of the second one, if they are others.
        flags: more of XLA's, for the second one.
    """
    meeting = free_port()

    def process(index: int, given: list[str], flags: str) -> subprocess.Popen[str]:
        environment = {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}"}
        return training(
            [*given, "--coordinator", meeting, "--processes", "2", "--process", str(index)],
            environment,
        )

    return process(0, arguments, ""), process(1, second or arguments, flags)


def training(arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def given(settings: Config, run: Path) -> list[str]:
    file = run.with_suffix(".toml")
    file.write_text(config_to_toml(settings), encoding="utf-8")
    return ["--config", str(file), "--out", str(run)]


def begin(settings: Config, run: Path) -> Pair:
    return started(given(settings, run))


def go_on(run: Path) -> Pair:
    return started(["--resume", str(run)])


def wait_for_evaluation(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    assert any(line.startswith("step ") for line in process.stdout), (
        process.stderr and process.stderr.read()
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def losses(run: Path) -> dict[int, dict[str, Any]]:
    return {record["step"]: record for record in read_metrics(run)}


def assert_same_curve(run: Path, alone: Path, least: int) -> None:
    found, expected = losses(run), losses(alone)
    assert len(found) >= least
    for step, record in found.items():
        for name in record.keys() & {"train/loss", "train/grad_norm", "held_out/nats_per_token"}:
            np.testing.assert_allclose(record[name], expected[step][name], rtol=2e-5)


@pytest.fixture
def pair_ends() -> Iterator[list[Pair]]:
    """Processes that end with the test, whatever happens in it."""
    pairs: list[Pair] = []
    yield pairs
    for process in (process for pair in pairs for process in pair):
        process.kill()
        process.communicate()


def test_two_processes_stop_are_killed_and_end_as_one(
    settings: Config, alone: Path, tmp_path: Path, pair_ends: list[Pair]
) -> None:
    run = tmp_path / "run"
    pair = begin(settings, run)
    pair_ends.append(pair)
    wait_for_evaluation(pair[0])
    pair[1].send_signal(signal.SIGTERM)  # asks one; both stop, after the same step
    (first, said), (second, _) = ended(pair[0]), ended(pair[1])
    assert first == second == 128 + signal.SIGTERM, said
    assert f"resume with: python train.py --resume {run}" in said
    stopped = checkpoint.find_newest(run / "checkpoints").metadata.step
    assert 50 <= stopped < 200
    assert_same_curve(run, alone, stopped // 10)

    pair = go_on(run)
    pair_ends.append(pair)
    wait_for_evaluation(pair[0])
    pair[1].kill()
    status, said = ended(pair[0])
    assert status == 2
    last = said.splitlines()[-1]
    assert re.match(
        r"error: a computation across the 2 processes failed \(.+\); another may have ended; the last checkpoint is of step ",
        last,
    )
    assert last.endswith(f"start all processes again, resume with: python train.py --resume {run}")

    pair = go_on(run)
    pair_ends.append(pair)
    wait_for_evaluation(pair[0])
    pair[0].kill()  # the one that the other has met
    status, said = ended(pair[1])
    assert status != 0
    assert (
        "a computation across the 2 processes failed" in said or "another task died" in said
    )  # ours, or JAX was faster with its own

    train(load_resume_config(run, {}), resume=run)
    assert_same_curve(run, alone, 20)


def test_two_processes_go_on_where_one_was(
    alone: Path, tmp_path: Path, pair_ends: list[Pair]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(alone, run)
    shutil.rmtree(run / "checkpoints" / "200")
    pair = go_on(run)
    pair_ends.append(pair)
    assert [ended(process)[0] for process in pair] == [0, 0]
    assert checkpoint.find_newest(run / "checkpoints").metadata.step == 200
    assert_same_curve(run, alone, 20)


def test_where_one_process_cannot_begin_none_does(
    settings: Config, tmp_path: Path, pair_ends: list[Pair]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "something").touch()  # which only the first process minds
    pair = begin(settings, tmp_path / "run")
    pair_ends.append(pair)
    said = [ended(process) for process in pair]
    assert [status for status, _ in said] == [2, 2]
    assert (
        said[0][1].splitlines()[-1]
        == f"error: {tmp_path / 'run'} is not empty; choose another --out"
    )
    assert said[1][1].splitlines()[-1].startswith("error: another of the 2 processes cannot start")


def test_processes_with_other_numbers_of_devices_are_refused(
    settings: Config, tmp_path: Path, pair_ends: list[Pair]
) -> None:
    pair = started(
        given(settings, tmp_path / "run"), flags="--xla_force_host_platform_device_count=2"
    )
    pair_ends.append(pair)
    for process in pair:
        status, said = ended(process)
        assert status == 2
        assert said.splitlines()[-1].endswith(
            "in every process, found 1 in process 0, 2 in process 1"
        )
    assert not (tmp_path / "run").exists()


def test_processes_with_other_directories_are_refused(
    settings: Config, tmp_path: Path, pair_ends: list[Pair]
) -> None:
    pair = started(given(settings, tmp_path / "run"), given(settings, tmp_path / "other"))
    pair_ends.append(pair)
    (first, said), (second, other) = (ended(process) for process in pair)
    assert (first, second) == (2, 2)
    assert said.splitlines()[-1].startswith("error: another of the 2 processes cannot start")
    assert f"there is no {tmp_path / 'other' / 'tokenizer.json'} here" in other.splitlines()[-1]


def test_processes_that_differ_are_refused(
    settings: Config, tmp_path: Path, pair_ends: list[Pair]
) -> None:
    """As Slurm starts them, which says in the environment what else is said by options."""
    file = tmp_path / "settings.toml"
    file.write_text(config_to_toml(settings), encoding="utf-8")
    rates = {"0": "0.001", "1": "0.002"}
    slurm = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
    }
    slurm |= {"SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0"}
    first, second = (
        training(
            ["--config", str(file), "--out", str(tmp_path / "run"), "--optim.lr", rate],
            slurm | {"SLURM_PROCID": index},
        )
        for index, rate in rates.items()
    )
    pair = first, second
    pair_ends.append(pair)
    for process in pair:
        status, said = ended(process)
        assert status == 2
        assert said.splitlines()[-1].startswith(
            "error: the processes of this run do not have the same configuration"
        )


@pytest.mark.parametrize(
    ("meeting", "message"),
    [
        (("127.0.0.1:1", 2, None), "go together"),
        ((None, 2, 0), "go together"),
        (("127.0.0.1:1", 2, 2), "--process 2: expected 0 to 1"),
        (("127.0.0.1", 2, 0), "expected HOST:PORT"),
        (("127.0.0.1:99999", 2, 0), "expected HOST:PORT"),
        (("127.0.0.1:0", 2, 0), "expected HOST:PORT"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    meeting: tuple[Any, Any, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message), distributed.initialize(*meeting):
        pass


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = f"cannot listen at port {port} of --coordinator: .*; choose another port"
        with (
            pytest.raises(UserError, match=message),
            distributed.initialize(f"127.0.0.1:{port}", 2, 0),
        ):
            pass


def test_where_nobody_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "CONNECT_TIMEOUT", 0)
    meeting = free_port()
    message = f"no answer from --coordinator {meeting} .*; start the process with --process 0 there"
    with pytest.raises(UserError, match=message), distributed.initialize(meeting, 2, 1):
        pass


@pytest.mark.parametrize("number", ["1", "", "two"])
def test_one_process_of_slurm_or_open_mpi_is_no_group(
    number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", number)
    with distributed.initialize():
        assert distributed.process_count() == 1
