"""Checkpoints: whole or absent, and never believed unseen."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from valyrian_jax.errors import UserError
from valyrian_jax.training import checkpoint
from valyrian_jax.training.checkpoint import CheckpointMetadata
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.train_step import TrainState

RECORD = CheckpointMetadata(0, Progress(), {"model": {"n_embd": 2}}, "a", "b", {"jax": "0"})


def at(step: int) -> TrainState:
    return TrainState(
        jnp.int32(step),
        {"w": jnp.arange(6.0) + step},
        (jnp.zeros((3, 2)), {"count": jnp.int32(step)}),
    )


def saved(directory: Path, *steps: int) -> Path:
    for step in steps:
        checkpoint.save(directory, at(step), replace(RECORD, step=step))
    return directory


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that three checkpoints were saved to."""
    return saved(tmp_path_factory.mktemp("checkpoints"), 0, 5, 10)


def test_the_newest_two_are_kept_and_come_back_exactly(three: Path) -> None:
    assert checkpoint.list_steps(three) == [5, 10]
    assert {path.name for path in three.iterdir()} == {"5", "10"}
    found = checkpoint.find_newest(three)
    assert found.metadata.arrays["params.w"] == "float32[6]"
    assert replace(found.metadata, arrays={}) == replace(RECORD, step=10)
    assert found.damaged == {}
    state = checkpoint.restore(found, at(0))
    np.testing.assert_array_equal(state.params["w"], at(10).params["w"])
    assert int(state.opt_state[1]["count"]) == 10


def flip(file: Path, draw: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def cut(file: Path, draw: random.Random) -> None:
    file.write_bytes(
        file.read_bytes()[: draw.randrange(max(file.stat().st_size - 1, 1))]
    )  # more than a last newline


def lose(file: Path, draw: random.Random) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [flip, cut, lose])
def test_whatever_happens_to_a_file_is_noticed(
    damage: Callable[[Path, random.Random], None], three: Path, tmp_path: Path
) -> None:
    draw = random.Random(0)
    files = sorted(file.relative_to(three) for file in (three / "10").rglob("*") if file.is_file())
    assert len(files) > 8
    for name in files:
        if not (three / name).stat().st_size and damage is not lose:
            continue
        shutil.copytree(three, tmp_path / "copy")
        damage(tmp_path / "copy" / name, draw)
        found = checkpoint.find_newest(tmp_path / "copy")
        assert found.metadata.step == 5, name
        assert list(found.damaged) == [tmp_path / "copy" / "10"]
        assert "copy/10 is damaged: " in found.damaged[tmp_path / "copy" / "10"]
        shutil.rmtree(tmp_path / "copy")


def test_without_a_whole_one_nothing_is_made_up(three: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="no checkpoint to resume from: .* holds none; start a new run"
    ):
        checkpoint.find_newest(tmp_path / "none")
    shutil.copytree(three, tmp_path / "copy")
    for step in (5, 10):
        flip(tmp_path / "copy" / str(step) / "record.json", random.Random(0))
    with pytest.raises(
        UserError,
        match="/10 is damaged: record.json was changed, truncated or lost; .*/5 is damaged",
    ):
        checkpoint.find_newest(tmp_path / "copy")


def test_a_damaged_one_does_not_count_and_leftovers_go(three: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(three, copy)
    flip(copy / "10" / "record.json", random.Random(0))
    shutil.copytree(copy / "5", copy / "15.partial")  # as a save that was killed leaves it
    for damaged in checkpoint.find_newest(copy).damaged:
        checkpoint.set_aside(damaged)
    saved(copy, 12)
    assert {path.name for path in copy.iterdir()} == {"5", "10.damaged", "12"}
    flip(copy / "12" / "record.json", random.Random(0))
    assert checkpoint.find_newest(copy).metadata.step == 5


def test_leftovers_go_before_space_is_measured(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, usage = tmp_path / "copy", shutil.disk_usage(tmp_path)
    shutil.copytree(three, copy)
    shutil.copytree(copy / "5", copy / "15.partial")
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda path: usage._replace(free=0 if (copy / "15.partial").exists() else 10**9),
    )
    saved(copy, 20)
    assert checkpoint.list_steps(copy) == [10, 20]


def test_a_full_disk_is_told_of_and_harms_nothing(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(three, tmp_path / "copy")
    full = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(
        OSError, match="checkpoint .*20 could not be written: it needs 0 MB and 0 MB are free"
    ):
        saved(tmp_path / "copy", 20)
    assert checkpoint.find_newest(tmp_path / "copy").metadata.step == 10


def forged(three: Path, copy: Path, change: Callable[[dict[str, object]], object]) -> Path:
    """A copy whose newest record is changed and whose hashes agree."""
    shutil.copytree(three, copy)
    content = json.loads((copy / "10" / "record.json").read_text())
    change(content)
    (copy / "10" / "record.json").write_text(json.dumps(content))
    (copy / "10" / "sha256.json").write_text(json.dumps(checkpoint.hash_files(copy / "10")))
    return copy


def test_a_newer_format_is_refused_by_name(three: Path, tmp_path: Path) -> None:
    copy = forged(three, tmp_path / "copy", lambda content: content.update(format_version=2))
    with pytest.raises(
        UserError, match="checkpoint .*copy/10 has format 2; this version reads up to 1: upgrade"
    ):
        checkpoint.find_newest(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"progress": 3},
        {"progress": {"best": 1}},
        {"step": "x"},
        {"config": {"a": 1}},
        {"versions": None},
        {"more": 1},
    ],
)
def test_a_record_of_another_form_is_refused(
    change: dict[str, object], three: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="record.json: "):
        checkpoint.find_newest(
            forged(three, tmp_path / "copy", lambda content: content.update(change))
        )


def test_a_state_of_another_shape_is_refused(three: Path) -> None:
    class Other(NamedTuple):
        step: object
        params: object

    wider = at(0)._replace(params={"w": jnp.zeros(7)})
    for other in (
        wider,
        at(0)._replace(params={"v": jnp.zeros(6)}),
        Other(jnp.int32(0), {"w": jnp.zeros(6)}),
    ):
        with pytest.raises(
            UserError,
            match=r"does not fit this run's model and optimizer: expected [.\w]+ to be \w+.*, found \w+",
        ):
            checkpoint.restore(checkpoint.find_newest(three), other)  # type: ignore[arg-type]
