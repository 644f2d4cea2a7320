"""Killed runs: a run that is killed repeatedly ends with the result of an uninterrupted one."""

import random
import signal
from pathlib import Path

from tests.support.killing import FORK_SERVER, fingerprint, train_in_process
from tests.support.runs import load_tiny_config
from valyrian_jax.errors import stop_signals
from valyrian_jax.training import checkpoint

KILLS = 8


def test_a_run_killed_eight_times_equals_an_uninterrupted_run(
    small_text: Path, tmp_path: Path
) -> None:
    config = load_tiny_config(small_text)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    uninterrupted = train_in_process(config, whole)
    assert uninterrupted.code == 0
    generator, codes, reached = random.Random(0), set[int | None](), set[int]()
    for _ in range(KILLS):
        # Each process gets through at most half a run; some are killed before the first step.
        kill_at = generator.randint(1, uninterrupted.operations // 2)
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


def test_a_second_signal_ends_the_process_at_once() -> None:
    process = FORK_SERVER.Process(target=receive_two_signals)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGTERM
