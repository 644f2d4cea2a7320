"""Signals to a run: which end it, which make it save, and what is saved."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.forked import ForkedProcess
from tests.support.runs import (
    ROOT,
    assert_same_runs,
    find_last_step,
    load_tiny_config,
    make_text_console,
    read_console,
    resume,
)
from valyrian_jax.config import config_to_toml
from valyrian_jax.errors import save_requests, stop_signals
from valyrian_jax.training import checkpoint
from valyrian_jax.training import run as training_run
from valyrian_jax.training.run import TrainResult, train

Process = subprocess.Popen[str] | ForkedProcess
StartTraining = Callable[..., Process]
STOPPED = r"^stopped at step (\d+) \({}\); saved; resume with: .* train --resume {}$"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def start(small_text: Path, tmp_path: Path, run: Path) -> Iterator[StartTraining]:
    """Return a function that starts a long run; the processes end with the test."""
    config, processes = tmp_path / "config.toml", list[Process]()
    every = {"train.eval_every": 20, "train.sample_every": 0, "train.checkpoint_every": 10**6}
    tiny = load_tiny_config(small_text, **every, **{"train.steps": 5000, "train.patience": 0})
    config.write_text(config_to_toml(tiny), encoding="utf-8")

    def start_training(*launcher: str, terminal: int | None = None) -> Process:
        stream = subprocess.PIPE if terminal is None else terminal
        arguments = [f"--config={config}", f"--out={run}"]
        process: Process
        if launcher:
            process = subprocess.Popen(
                [*launcher, sys.executable, "-u", str(ROOT / "train.py"), *arguments],
                cwd=ROOT,
                stdin=terminal,
                stdout=stream,
                stderr=stream,
                text=True,
            )
        else:
            process = ForkedProcess(arguments, os.environ)
        processes.append(process)
        return process

    yield start_training
    for process in processes:
        process.kill()
        process.communicate()


def wait_for_line(process: Process, pattern: str) -> str:
    assert process.stdout
    assert process.stderr
    line = next((line for line in process.stdout if re.search(pattern, line)), None)
    assert line, process.stderr.read()
    return line


def assert_stopped(process: Process, run: Path, stop: signal.Signals) -> None:
    """Check that a run ends, names the signal, and has saved the step that it names."""
    _, errors = process.communicate(timeout=120)
    message = re.search(STOPPED.format(stop.name, re.escape(str(run))), errors, re.M)
    assert message, errors
    assert process.returncode == 128 + stop
    assert find_last_step(run) == int(message[1])


@pytest.mark.slow
def test_sighup_saves_and_ends_also_when_it_comes_twice(start: StartTraining, run: Path) -> None:
    process = start()
    wait_for_line(process, "^step ")
    # The system and the shell of a closed terminal both send it.
    process.send_signal(signal.SIGHUP)
    assert process.stderr
    assert process.stderr.readline().startswith("finishing the current work and saving")
    process.send_signal(signal.SIGHUP)
    assert_stopped(process, run, signal.SIGHUP)


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_saves(start: StartTraining, run: Path) -> None:
    leader, follower = pty.openpty()
    process = start("setsid", "--ctty", "--wait", terminal=follower)
    os.close(follower)
    output = b""
    while b"step " not in output:
        output += os.read(leader, 4096)
    os.close(leader)  # The system sends SIGHUP; nothing can be printed from here on.
    assert process.wait(120) == 128 + signal.SIGHUP
    assert find_last_step(run) > 0


@pytest.mark.slow
def test_nohup_keeps_a_run_going(start: StartTraining, run: Path) -> None:
    process = start("nohup")
    wait_for_line(process, "^step ")
    process.send_signal(signal.SIGHUP)
    wait_for_line(process, "^step ")
    process.send_signal(signal.SIGTERM)
    assert_stopped(process, run, signal.SIGTERM)


def test_sigusr1_saves_each_time_and_the_run_goes_on(start: StartTraining, run: Path) -> None:
    process, saved = start(), list[int]()
    wait_for_line(process, "^run ")
    for _ in range(2):
        process.send_signal(signal.SIGUSR1)
        line = wait_for_line(process, r"^step +\d+  saved \(SIGUSR1\)")
        saved.append(int(line.split()[1]))
        assert find_last_step(run) == saved[-1]
        wait_for_line(process, "^step .* held-out ")
    assert saved[0] < saved[1]
    process.send_signal(signal.SIGTERM)
    assert_stopped(process, run, signal.SIGTERM)


def test_a_run_that_was_asked_to_save_is_the_same_run(
    finished: TrainResult, small_text: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "print_header", lambda *_: None)
    count_skipped_steps = training_run.count_skipped_steps

    def count_and_signal(setup, state, progress, metrics):  # type: ignore[no-untyped-def]
        if int(state.step) == 30:
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
        return count_skipped_steps(setup, state, progress, metrics)

    monkeypatch.setattr(training_run, "count_skipped_steps", count_and_signal)
    console = make_text_console()
    train(load_tiny_config(small_text), run, console=console)
    assert read_console(console).count("saved (SIGUSR1)") == 1
    assert_same_runs(run, finished.directory)


def test_sigusr1_before_the_first_step_does_not_end_a_run(
    finished: TrainResult, small_text: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = training_run.prepare

    def prepare_and_signal(*arguments, **options):  # type: ignore[no-untyped-def]
        signal.raise_signal(signal.SIGUSR1)
        return prepare(*arguments, **options)

    monkeypatch.setattr(training_run, "prepare", prepare_and_signal)
    train(load_tiny_config(small_text), run, console=make_text_console())
    assert_same_runs(run, finished.directory)


@pytest.fixture(autouse=True)
def default_sighup() -> Iterator[None]:
    """The usual handler of SIGHUP, also where `nohup` started the tests."""
    earlier = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, earlier)


def test_the_handlers_of_the_caller_come_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    with save_requests() as save_requested, stop_signals() as stop_signal:
        signal.raise_signal(signal.SIGUSR1)
        assert save_requested()
        assert not save_requested()
        assert stop_signal() is None
        signal.raise_signal(signal.SIGHUP)
        assert stop_signal() == signal.SIGHUP
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.slow
def test_a_resume_after_sigusr1_and_a_crash_loses_no_step(
    finished: TrainResult, small_text: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_skipped_steps = training_run.count_skipped_steps

    def count_and_crash(setup, state, progress, metrics):  # type: ignore[no-untyped-def]
        if int(state.step) == 30:
            signal.raise_signal(signal.SIGUSR1)
        if int(state.step) == 40:
            raise RuntimeError
        return count_skipped_steps(setup, state, progress, metrics)

    with monkeypatch.context() as patch:
        patch.setattr(training_run, "count_skipped_steps", count_and_crash)
        with pytest.raises(RuntimeError):
            train(load_tiny_config(small_text), run, console=make_text_console())
    assert checkpoint.list_steps(run / "checkpoints")[-1] == 30
    assert resume(run).progress == finished.progress
    assert_same_runs(run, finished.directory)
