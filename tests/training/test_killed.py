"""Runs that are killed: what is on disk is always whole, and the end is the same as without."""

import random
import signal
from pathlib import Path

import pytest

from tests.support.killing import FORKING, fingerprint, spawned
from tests.support.tiny import TINY
from valyrian_jax.config import Config, load_config
from valyrian_jax.training import checkpoint
from valyrian_jax.training.signals import stop_signals

ROOT = Path(__file__).parents[2]
KILLS = 8


@pytest.fixture(scope="module")
def settings(small_text: Path) -> Config:
    return load_config(ROOT / "configs" / "tiny.toml", TINY | {"data.path": str(small_text)})


def test_a_run_killed_again_and_again_is_the_undisturbed_run(
    settings: Config, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = spawned(settings, whole)
    assert undisturbed.code == 0
    draw, ends, reached = random.Random(0), [], set[int]()
    for _ in range(
        KILLS
    ):  # up to half of a run further each, so that they come early and late, and some get nowhere
        ends.append(spawned(settings, killed, draw.randint(1, undisturbed.operations // 2)).code)
        reached.update(checkpoint.list_steps(killed / "checkpoints"))
    assert {*ends} <= {-signal.SIGKILL, 0}
    assert len(reached) >= 3
    assert spawned(settings, killed).code == 0
    assert fingerprint(killed) == fingerprint(whole)


def stopped_twice() -> None:
    with stop_signals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)


def test_a_second_signal_ends_a_process_at_once() -> None:
    process = FORKING.Process(target=stopped_twice)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGTERM
