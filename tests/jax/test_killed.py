"""Runs that are killed: what is on disk is always whole, and the end is the same as without."""

import random
import signal
from pathlib import Path

import pytest

from valyrian_jax import config
from valyrian_jax.config import Config
from valyrian_jax.stopping import listening

from ..chaos import FORKING, fingerprint, spawned
from ..tiny import TINY

ROOT = Path(__file__).parent.parent.parent
KILLS = 12
OPERATIONS = 100  # on files, a little more than a run makes from one checkpoint to the next


@pytest.fixture(scope="module")
def settings(small_text: Path) -> Config:
    return config.load(ROOT / "configs" / "tiny.toml", TINY | {"data.path": str(small_text)})


def test_a_run_killed_a_dozen_times_is_the_undisturbed_run(settings: Config, tmp_path: Path) -> None:
    assert spawned(settings, tmp_path / "whole") == 0
    draw = random.Random(0)
    ends = [spawned(settings, tmp_path / "killed", draw.randint(1, OPERATIONS)) for _ in range(KILLS)]
    assert ends.count(-signal.SIGKILL) >= KILLS - 2  # one or two at most may come to the end of the run before
    assert spawned(settings, tmp_path / "killed") == 0
    assert fingerprint(tmp_path / "killed") == fingerprint(tmp_path / "whole")


def stopped_twice() -> None:
    with listening():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)


def test_a_second_signal_ends_a_process_at_once() -> None:
    process = FORKING.Process(target=stopped_twice)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGTERM
