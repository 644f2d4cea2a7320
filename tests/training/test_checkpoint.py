"""Checkpoints are whole or absent, and every damage is noticed."""

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
from valyrian_jax.training.checkpoint_integrity import hash_files
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.train_step import TrainState

METADATA = CheckpointMetadata(0, Progress(), {"model": {"n_embd": 2}}, "a", "b", {"jax": "0"})


def make_state(step: int) -> TrainState:
    opt_state = (jnp.zeros((3, 2)), {"count": jnp.int32(step)})
    return TrainState(jnp.int32(step), {"w": jnp.arange(6.0) + step}, opt_state)


def save(directory: Path, step: int) -> None:
    checkpoint.save(directory, make_state(step), replace(METADATA, step=step))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the checkpoints of steps 0, 5 and 10 were saved."""
    directory = tmp_path_factory.mktemp("checkpoints")
    for step in (0, 5, 10):
        save(directory, step)
    return directory


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "copy")


def test_the_newest_two_are_kept_and_restored_exactly(saved: Path) -> None:
    assert checkpoint.list_steps(saved) == [5, 10]
    assert {path.name for path in saved.iterdir()} == {"5", "10"}
    newest = checkpoint.find_newest(saved)
    assert newest.metadata.arrays["params.w"] == "float32[6]"
    assert replace(newest.metadata, arrays={}) == replace(METADATA, step=10)
    assert newest.damaged == {}
    state = checkpoint.restore(newest, make_state(0))
    np.testing.assert_array_equal(state.params["w"], make_state(10).params["w"])
    assert int(state.opt_state[1]["count"]) == 10


def flip_bit(file: Path, generator: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    file.write_bytes(content)


def truncate(file: Path, generator: random.Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: generator.randrange(max(len(content) - 1, 1))])


def delete(file: Path, generator: random.Random) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [flip_bit, truncate, delete])
def test_damage_of_any_file_is_noticed(
    damage: Callable[[Path, random.Random], None], saved: Path, tmp_path: Path
) -> None:
    generator, copy = random.Random(0), tmp_path / "copy"
    names = sorted(file.relative_to(saved) for file in (saved / "10").rglob("*") if file.is_file())
    assert len(names) > 8
    for name in names:
        if not (saved / name).stat().st_size and damage is not delete:
            continue
        shutil.copytree(saved, copy)
        damage(copy / name, generator)
        newest = checkpoint.find_newest(copy)
        assert newest.metadata.step == 5, name
        assert list(newest.damaged) == [copy / "10"]
        assert "copy/10 is damaged: " in newest.damaged[copy / "10"]
        shutil.rmtree(copy)


def test_a_directory_without_a_whole_checkpoint_is_refused(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    expected = "cannot resume: .* contains no checkpoint; start a new run"
    with pytest.raises(UserError, match=expected):
        checkpoint.find_newest(tmp_path / "none")
    for step in (5, 10):
        flip_bit(copy / str(step) / "record.json", random.Random(0))
    expected = "/10 is damaged: record.json was changed, truncated or lost; .*/5 is damaged"
    with pytest.raises(UserError, match=expected):
        checkpoint.find_newest(copy)


def test_errors_that_can_pass_are_not_damage(copy: Path) -> None:
    names = {path.name for path in copy.iterdir()}
    state = copy / "10" / "state"
    for lost in (state / "d", copy / "10" / "sha256.json"):
        lost.rename(copy.with_name("lost"))
        lost.symlink_to("/proc/self/mem")  # Reading it fails: EIO.
        with pytest.raises(UserError, match="Input/output error; nothing was changed"):
            checkpoint.find_newest(copy)
        lost.unlink()
        copy.with_name("lost").rename(lost)
    record = copy / "10" / "record.json"
    record.rename(copy.with_name("record.json"))
    record.symlink_to(copy.with_name("unmounted") / "record.json")
    with pytest.raises(UserError, match="record.json: No such file or directory; nothing was"):
        checkpoint.find_newest(copy)
    record.unlink()
    copy.with_name("record.json").rename(record)
    assert checkpoint.find_newest(copy).metadata.step == 10
    assert {path.name for path in copy.iterdir()} == names


def test_a_lost_directory_of_checkpoints_is_named(tmp_path: Path) -> None:
    expected = "none: No such file or directory; nothing was changed: put it back"
    with pytest.raises(UserError, match=expected):
        checkpoint.find_newest(tmp_path / "none")


def test_damaged_and_partial_checkpoints_do_not_count(copy: Path) -> None:
    flip_bit(copy / "10" / "record.json", random.Random(0))
    shutil.copytree(copy / "5", copy / "15.partial")  # A killed save leaves this.
    for damaged in checkpoint.find_newest(copy).damaged:
        checkpoint.set_aside(damaged)
    save(copy, 12)
    assert {path.name for path in copy.iterdir()} == {"5", "10.damaged", "12"}
    flip_bit(copy / "12" / "record.json", random.Random(0))
    assert checkpoint.find_newest(copy).metadata.step == 5


@pytest.mark.parametrize("name", ["a.partial", "10.partial.txt", "5.partial", "x.old.partial"])
def test_files_of_the_user_stay_and_stop_no_save(name: str, copy: Path) -> None:
    (copy / name).write_text("mine")
    (copy / "my.partial").mkdir()
    save(copy, 20)
    save(copy, 30)
    assert (copy / name).read_text() == "mine"
    assert {path.name for path in copy.iterdir()} == {"20", "30", name, "my.partial"}


def test_an_interrupted_save_is_removed_by_the_next_one(copy: Path) -> None:
    for name in ("20.0123abcd.partial", "5.0123abcd.old.partial", "15.old.partial"):
        shutil.copytree(copy / "5", copy / name)
    save(copy, 20)
    assert {path.name for path in copy.iterdir()} == {"10", "20"}


def test_a_directory_whose_name_is_not_utf8_holds_checkpoints(tmp_path: Path) -> None:
    directory = tmp_path / "caf\udce9"
    for step in (0, 5):
        save(directory, step)
    state = checkpoint.restore(checkpoint.find_newest(directory), make_state(0))
    np.testing.assert_array_equal(state.params["w"], make_state(5).params["w"])


def test_partial_checkpoints_are_removed_before_the_free_space_is_read(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, partial = shutil.disk_usage(copy), copy / "15.partial"
    shutil.copytree(copy / "5", partial)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: usage._replace(free=0 if partial.exists() else 10**9)
    )
    save(copy, 20)
    assert checkpoint.list_steps(copy) == [10, 20]


def test_a_full_disk_is_reported_and_older_checkpoints_stay(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(copy)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    expected = "cannot write checkpoint .*20: it needs 0 MB, but only 0 MB are free"
    with pytest.raises(OSError, match=expected):
        save(copy, 20)
    assert checkpoint.find_newest(copy).metadata.step == 10


def forge_metadata(directory: Path, **changes: object) -> None:
    """Change the metadata of the newest checkpoint, and make its hashes agree."""
    newest = directory / "10"
    content = json.loads((newest / "record.json").read_text()) | changes
    (newest / "record.json").write_text(json.dumps(content))
    (newest / "sha256.json").write_text(json.dumps(hash_files(newest)))


def test_a_newer_format_is_refused_by_its_number(copy: Path) -> None:
    forge_metadata(copy, format_version=2)
    expected = "checkpoint .*copy/10 has format 2; this version reads up to 1: upgrade"
    with pytest.raises(UserError, match=expected):
        checkpoint.find_newest(copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"progress": 3},
        {"progress": {"best": 1}},
        {"step": "x"},
        {"step": 5},
        {"config": {"a": 1}},
        {"versions": None},
        {"more": 1},
    ],
)
def test_metadata_that_does_not_fit_is_refused(changes: dict[str, object], copy: Path) -> None:
    forge_metadata(copy, **changes)
    with pytest.raises(UserError, match=r"record.json (is not the record of a|belongs to another)"):
        checkpoint.find_newest(copy)


def test_a_state_of_another_structure_is_refused(saved: Path) -> None:
    class TwoFields(NamedTuple):
        step: object
        params: object

    state = make_state(0)
    templates = (
        state._replace(params={"w": jnp.zeros(7)}),
        state._replace(params={"v": jnp.zeros(6)}),
        TwoFields(jnp.int32(0), {"w": jnp.zeros(6)}),
    )
    expected = r"not fit the model and optimizer .*: expected [.\w]+ to be \w+.*, found \w+"
    for template in templates:
        with pytest.raises(UserError, match=expected):
            checkpoint.restore(checkpoint.find_newest(saved), template)  # type: ignore[arg-type]
