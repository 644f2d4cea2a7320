"""Killed runs: a run that is killed repeatedly ends with the result of an uninterrupted one."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.killing import FORK_SERVER, fingerprint, train_in_process
from tests.support.runs import load_tiny_config
from valyrian_jax.errors import delay_interrupts, stop_signals
from valyrian_jax.training import checkpoint

# Of the file operations of a whole run; no process gets through more than half of one.
KILLED_AFTER = (0.5, 0.05, 0.45, 0.3)


@pytest.mark.slow
def test_a_run_killed_four_times_equals_an_uninterrupted_run(
    small_text: Path, tmp_path: Path
) -> None:
    config = load_tiny_config(small_text)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    uninterrupted = train_in_process(config, whole)
    assert uninterrupted.code == 0
    codes, reached = set[int | None](), set[int]()
    for share in KILLED_AFTER:
        kill_at = round(share * uninterrupted.operations)
        codes.add(train_in_process(config, killed, kill_at).code)
        reached.update(checkpoint.list_steps(killed / "checkpoints"))
    assert -signal.SIGKILL in codes <= {-signal.SIGKILL, 0}
    assert len(reached) >= 3
    assert train_in_process(config, killed).code == 0
    assert fingerprint(killed) == fingerprint(whole)


def receive_two_signals() -> None:
    with stop_signals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)


def receive_two_delayed_signals() -> None:
    with delay_interrupts():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("target", "number"),
    [(receive_two_signals, signal.SIGTERM), (receive_two_delayed_signals, signal.SIGINT)],
)
def test_a_second_signal_ends_the_process_at_once(
    target: Callable[[], None], number: signal.Signals
) -> None:
    process = FORK_SERVER.Process(target=target)
    process.start()
    process.join()
    assert process.exitcode == -number


def test_ctrl_c_waits_for_compiled_code() -> None:
    finished = []

    def compute() -> None:
        with delay_interrupts():
            signal.raise_signal(signal.SIGINT)
            finished.append(True)

    with pytest.raises(KeyboardInterrupt):
        compute()
    assert finished
    with stop_signals() as stop_signal:
        with delay_interrupts():
            signal.raise_signal(signal.SIGINT)
            assert stop_signal() is None
        assert stop_signal() == signal.SIGINT
