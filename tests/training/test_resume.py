"""Stopped and resumed runs: the result is that of an uninterrupted run, bit for bit."""

import contextlib
import functools
import platform
import signal
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path

import pytest

from tests.support.full_disk import file_size_limit
from tests.support.killing import FORK_SERVER
from tests.support.runs import (
    assert_same_runs,
    find_last_step,
    list_evaluation_steps,
    load_tiny_config,
    make_text_console,
    read_console,
    resume,
    train_disturbed,
)
from valyrian_jax.config import Config
from valyrian_jax.errors import StoppedError, UserError
from valyrian_jax.run_directory import load_run_config
from valyrian_jax.training import checkpoint
from valyrian_jax.training import run as training_run
from valyrian_jax.training.run import TrainResult, train


def crash() -> None:
    raise RuntimeError


@pytest.mark.parametrize(
    ("disturb", "step", "saved"),
    [
        (crash, 30, 20),
        (crash, 60, 40),  # The steps after 40 are taken again.
        # After a signal, the current dispatch is finished and saved.
        (functools.partial(signal.raise_signal, signal.SIGINT), 10, 10),
        (functools.partial(signal.raise_signal, signal.SIGTERM), 50, 50),
    ],
    ids=["crash-at-30", "crash-at-60", "SIGINT", "SIGTERM"],
)
def test_a_resumed_run_equals_an_uninterrupted_run_bit_for_bit(
    disturb: Callable[[], None],
    step: int,
    saved: int,
    finished: TrainResult,
    small_text: Path,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    with pytest.raises((RuntimeError, StoppedError)):
        train_disturbed(load_tiny_config(small_text), run, step, disturb)
    assert checkpoint.list_steps(run / "checkpoints")[-1] == saved
    assert resume(run).progress == finished.progress
    assert_same_runs(run, finished.directory)


def test_a_run_whose_files_are_links_goes_on_in_their_targets(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    run, disk = tmp_path / "run", tmp_path / "disk"
    with pytest.raises(RuntimeError):
        train_disturbed(load_tiny_config(small_text), run, 30, crash)
    disk.mkdir()
    names = {path.name for path in run.iterdir()} - {"lock"}
    assert names >= {"bundle", "checkpoints", "config.toml", "metrics.jsonl", "samples.txt"}
    for name in names:
        (run / name).rename(disk / name)
        (run / name).symlink_to(disk / name)
    resume(run)
    assert_same_runs(run, finished.directory)
    assert all((run / name).is_symlink() for name in names)
    assert {path.name for path in disk.iterdir()} == names


def test_a_stopped_run_names_the_command_that_resumes_it(
    small_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        training_run, "print_header", lambda *_: signal.raise_signal(signal.SIGTERM)
    )
    handler = signal.getsignal(signal.SIGTERM)
    expected = r"stopped at step 0 \(SIGTERM\); saved; .*valyrian_jax train --resume .*run$"
    with pytest.raises(StoppedError, match=expected) as stopped:
        train(load_tiny_config(small_text), tmp_path / "run", console=make_text_console())
    assert stopped.value.status == 143
    assert signal.getsignal(signal.SIGTERM) == handler


@pytest.mark.parametrize("questions", range(4))
def test_whenever_a_signal_arrives_the_reported_step_is_saved(
    questions: int, small_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = chain(repeat(None, questions), repeat(signal.SIGTERM))
    monkeypatch.setattr(
        training_run, "stop_signals", lambda: contextlib.nullcontext(lambda: next(answers))
    )
    with pytest.raises(StoppedError) as stopped:
        train(load_tiny_config(small_text), tmp_path / "run", console=make_text_console())
    step = find_last_step(tmp_path / "run")
    assert f"stopped at step {step} (SIGTERM); saved" in str(stopped.value)


def test_a_finished_run_can_be_extended(copy: Path) -> None:
    console = make_text_console()
    assert resume(copy, console, **{"train.steps": 65}).steps == 65
    note = "note      train.steps has changed from 60 to 65: the learning rate now follows the"
    assert note in read_console(console)
    assert load_run_config(copy).train.steps == 65
    assert list_evaluation_steps(copy) == [20, 40, 60, 65]


def test_a_finished_run_says_that_no_step_is_left_and_nothing_of_its_schedule(copy: Path) -> None:
    console = make_text_console()
    resume(copy, console)
    assert "at step 60 of 60; none is left: raise --train.steps" in read_console(console)
    assert "schedule" not in read_console(console)


@pytest.mark.slow
def test_evaluations_keep_their_steps_after_an_end_between_dispatches(
    small_text: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(load_tiny_config(small_text, **{"train.steps": 5}), run, console=make_text_console())
    resume(run, **{"train.steps": 60})
    assert list_evaluation_steps(run) == [5, 20, 40, 60]


def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    copy: Path, finished: TrainResult
) -> None:
    console = make_text_console()
    (copy / "checkpoints" / "60" / "state" / "manifest.ocdbt").write_bytes(b"")
    resume(copy, console)
    expected = "60 is damaged: state/manifest.ocdbt was changed, truncated or lost"
    assert expected in read_console(console)
    assert "resumed   at step 40 of 60\n" in read_console(console)
    assert_same_runs(copy, finished.directory)


def test_the_steps_may_be_fewer_if_the_last_checkpoint_is_damaged(copy: Path) -> None:
    (copy / "checkpoints" / "60" / "record.json").unlink()
    assert resume(copy, **{"train.steps": 50}).steps == 50
    assert load_run_config(copy).train.steps == 50


def test_a_resumed_run_reports_other_software(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console, version = make_text_console(), platform.python_version()
    monkeypatch.setattr(platform, "python_version", lambda: "4.0")
    resume(copy, console)
    assert f"python has changed from {version} to 4.0: results may" in read_console(console)


def run_out_of_space(config: Config, run: Path) -> None:
    """Receive a stop signal at step 50, when no file can grow any more."""

    def disturb() -> None:
        limit.enter_context(file_size_limit(20_000))
        signal.raise_signal(signal.SIGTERM)

    expected = (
        "cannot write .*50: .*File too large.*; the last checkpoint is of step 40; .*--resume"
    )
    with contextlib.ExitStack() as limit, pytest.raises(UserError, match=expected):
        train_disturbed(config, run, 50, disturb)


def test_a_full_disk_ends_the_run_and_loses_nothing(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    # In a process, because orbax's unfinished writes raise warnings when they are collected.
    process = FORK_SERVER.Process(target=run_out_of_space, args=(load_tiny_config(small_text), run))
    process.start()
    process.join()
    assert process.exitcode == 0
    resume(run)
    assert_same_runs(run, finished.directory)
