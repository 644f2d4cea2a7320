"""A bundle is saved whole or not at all, and replaces nothing else."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.bundles import make_bundle
from tests.support.full_disk import file_size_limit
from valyrian_jax.bundle.bundle import find_previous, load_bundle, recover_bundle, save_bundle
from valyrian_jax.errors import UserError
from valyrian_jax.files import make_temporary_directory


def test_transposed_views_are_saved_correctly(tmp_path: Path) -> None:
    ours = make_bundle()
    strided = {name: np.asfortranarray(tensor) for name, tensor in ours.tensors.items()}
    save_bundle(dataclasses.replace(ours, tensors=strided), tmp_path / "b")
    for name, tensor in load_bundle(tmp_path / "b").tensors.items():
        np.testing.assert_array_equal(tensor, ours.tensors[name])


def test_saving_again_replaces_the_bundle_and_leaves_no_other_files(tmp_path: Path) -> None:
    save_bundle(make_bundle(step=1), tmp_path / "b")
    save_bundle(make_bundle(step=2), tmp_path / "b")
    assert load_bundle(tmp_path / "b").manifest["step"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("name", ["b.partial", "b.previous", "b.old"])
def test_a_save_leaves_directories_of_similar_names_alone(name: str, tmp_path: Path) -> None:
    file = tmp_path / name / "file.txt"
    file.parent.mkdir()
    file.write_text("mine")
    recover_bundle(tmp_path / "b")
    for step in (1, 2):
        save_bundle(make_bundle(step=step), tmp_path / "b")
    assert file.read_text() == "mine"
    assert load_bundle(tmp_path / "b").manifest["step"] == 2


def test_a_killed_save_is_recovered_and_cleaned_up(tmp_path: Path) -> None:
    bundle_path, previous = tmp_path / "b", tmp_path / f".b.{'0' * 16}.previous"
    save_bundle(make_bundle(step=1), previous)  # killed between the two renames
    partial = make_temporary_directory(bundle_path)
    assert find_previous(bundle_path) == previous
    recover_bundle(bundle_path)
    assert load_bundle(bundle_path).manifest["step"] == 1
    assert not partial.exists()
    save_bundle(make_bundle(step=0), previous)  # killed after them
    recover_bundle(bundle_path)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert load_bundle(bundle_path).manifest["step"] == 1


def test_a_link_to_a_directory_is_followed_at_every_save(tmp_path: Path) -> None:
    link, target = tmp_path / "run" / "bundle", tmp_path / "disk" / "b"
    link.parent.mkdir()
    target.parent.mkdir()
    link.symlink_to(target)  # which does not exist yet
    for step in (1, 2, 3):
        save_bundle(make_bundle(step=step), link)
        assert load_bundle(target).manifest["step"] == step
    assert link.is_symlink()
    target.rename(target.with_name(f".b.{'0' * 16}.previous"))
    recover_bundle(link)
    assert load_bundle(link).manifest["step"] == 3


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch])
def test_a_bundle_replaces_nothing_but_directories(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "b")
    with pytest.raises(UserError, match="expected a directory or a new name"):
        save_bundle(make_bundle(), tmp_path / "b")
    assert not (tmp_path / "b").is_dir()


def test_a_save_that_fails_names_the_bundle_and_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "b"
    save_bundle(make_bundle(step=1), path)
    with file_size_limit(1_000), pytest.raises(OSError, match=r"File too large: '.*/b'$"):
        save_bundle(make_bundle(step=2), path)
    assert load_bundle(path).manifest["step"] == 1
    assert list(tmp_path.iterdir()) == [path]
