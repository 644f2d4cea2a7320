"""Checkpoints of a run, by orbax; the only file that imports it.

checkpoints/<step>/  state/ (orbax: step, parameters, optimizer state)  record.json  sha256.json

A checkpoint is written under a temporary name, hashed and renamed, so it is whole or absent. `sha256.json` names all of
its files, so whatever is changed, truncated or lost later is noticed, and the checkpoint before it is used. Saving is
synchronous: errors surface at once, and the next step reuses the memory of the state being saved.

Orbax's CheckpointManager is not used: it renames a checkpoint before its hashes could be in it, so that a kill in
between would leave a checkpoint without them (tests/training/test_killed.py).
"""

import contextlib
import json
import shutil
from dataclasses import field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from valyrian_jax.config import explain_error
from valyrian_jax.errors import UserError
from valyrian_jax.files import read_json_object, sha256_of_file, sync_to_disk
from valyrian_jax.training import distributed
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.train_step import TrainState

FORMAT_VERSION = 1
_MAX_TO_KEEP = 2


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CheckpointMetadata:
    """What a checkpoint says about itself, in record.json."""

    step: int
    progress: Progress
    config: dict[str, dict[str, Any]]
    corpus_sha256: str
    tokenizer_sha256: str
    versions: dict[str, str]
    """Of the software, and the kind of device, that the step was computed with."""
    arrays: dict[str, str] = field(default_factory=dict)
    """Dtype and shape of every array of the state; `save` fills it in."""


class Checkpoint(NamedTuple):
    """A whole checkpoint."""

    path: Path
    metadata: CheckpointMetadata
    damaged: dict[Path, str]  # newer checkpoints, and what is wrong with each


def save(directory: Path, state: TrainState, metadata: CheckpointMetadata) -> None:
    """Write a checkpoint, then drop all but the newest two.

    Every process writes its own arrays; the primary process writes the rest.

    Raises:
        OSError: It could not be written, mostly for lack of space; older checkpoints are intact.
    """
    partial = directory / f"{metadata.step}.partial"
    try:
        if distributed.is_primary():
            directory.mkdir(parents=True, exist_ok=True)
            remove_partial(directory)
            needed, free = (
                sum(array.nbytes for array in jax.tree.leaves(state)),
                shutil.disk_usage(directory).free,
            )
            if needed > free:  # orbax would fail too, but in hundreds of lines
                raise OSError(f"it needs {needed / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free")
        distributed.barrier("the checkpoint's directory is ready")
        _checkpointer().save((partial / "state").absolute(), args=ocp.args.StandardSave(state))
        if distributed.is_primary():
            _publish(partial, replace(metadata, arrays=_describe_arrays(state)))
    except (OSError, ValueError) as error:  # orbax reports errors of writing as ValueError
        with contextlib.suppress(OSError):
            remove_partial(directory)
        reason = str(error).partition("\n")[0]
        raise OSError(
            f"checkpoint {directory / str(metadata.step)} could not be written: {reason}"
        ) from error
    if distributed.is_primary():
        for old in [step for step in list_steps(directory) if step < metadata.step][
            : 1 - _MAX_TO_KEEP
        ]:
            (directory / str(old)).rename(
                directory / f"{old}.old.partial"
            )  # whole or absent at every moment
        remove_partial(directory)


def _publish(partial: Path, metadata: CheckpointMetadata) -> None:
    """Add metadata and hashes to a written state, and give it its name."""
    content = TypeAdapter(CheckpointMetadata).dump_python(metadata)
    content["format_version"] = FORMAT_VERSION
    (partial / "record.json").write_text(
        json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )
    (partial / "sha256.json").write_text(
        json.dumps(hash_files(partial), indent=2) + "\n", encoding="utf-8"
    )
    final = partial.with_name(str(metadata.step))
    if final.exists():  # of a start that was killed
        final.rename(final.with_name(f"{metadata.step}.old.partial"))
    sync_to_disk(*partial.rglob("*"), partial)
    partial.rename(final)
    sync_to_disk(*final.parent.rglob("*"), final.parent)


def find_newest(directory: Path) -> Checkpoint:
    """Return the newest checkpoint that is whole.

    Raises:
        UserError: There is none, or a newer version of this package wrote it.
    """
    damaged: dict[Path, str] = {}
    for step in reversed(list_steps(directory)):
        path = directory / str(step)
        problem = _find_damage(path)
        if problem is None:
            return Checkpoint(path, _read_metadata(path), damaged)
        damaged[path] = f"checkpoint {path} is damaged: {problem}"
    found = "; ".join(damaged.values()) or f"{directory} holds none"
    raise UserError(f"no checkpoint to resume from: {found}; start a new run")


def open_step(directory: Path, step: int) -> Checkpoint:
    """Return the checkpoint of a step that another process knows to be whole.

    Raises:
        UserError: Its metadata cannot be read.
    """
    path = directory / str(step)
    return Checkpoint(path, _read_metadata(path), {})


def describe_last(directory: Path) -> str:
    """Describe the newest whole checkpoint, for a message."""
    try:
        return f"the last checkpoint is of step {find_newest(directory).metadata.step}"
    except (OSError, UserError) as error:
        return str(error)


def restore(checkpoint: Checkpoint, like: TrainState) -> TrainState:
    """Return the state of a checkpoint, exactly as it was saved.

    Args:
        checkpoint: Checkpoint from `find_newest`.
        like: State of the same structure, abstract or not; its values are not used. Arrays get its shardings.

    Raises:
        UserError: The checkpoint does not fit the model and optimizer.
    """
    path, expected, found = checkpoint.path, _describe_arrays(like), checkpoint.metadata.arrays
    wrong = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    if wrong:
        raise UserError(
            f"checkpoint {path} does not fit this run's model and optimizer: expected {wrong[0]} to be "
            f"{expected.get(wrong[0], 'absent')}, found {found.get(wrong[0], 'absent')}"
        )
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    try:
        state: TrainState = _checkpointer().restore(
            (path / "state").absolute(), args=ocp.args.StandardRestore(abstract)
        )
    except Exception as error:  # a crafted file can fail anywhere
        raise UserError(
            f"checkpoint {path} cannot be read: {str(error).partition(chr(10))[0]}"
        ) from error
    if int(state.step) != checkpoint.metadata.step:
        raise UserError(f"checkpoint {path} holds the state of step {int(state.step)}")
    return state


def list_steps(directory: Path) -> list[int]:
    """Return the steps that have a checkpoint, whole or damaged, in order."""
    return sorted(
        int(path.name)
        for path in directory.glob("*")
        if path.name.isascii() and path.name.isdecimal()
    )


def set_aside(damaged: Path) -> None:
    """Rename a damaged checkpoint, so that it does not count as one of those that are kept."""
    aside = damaged.with_name(f"{damaged.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    damaged.rename(aside)


def remove_partial(directory: Path) -> None:
    """Remove what interrupted saves left."""
    for path in directory.glob("*.partial*"):
        shutil.rmtree(path)


def hash_files(path: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a checkpoint except sha256.json, by its relative path."""
    files = (
        file for file in sorted(path.rglob("*")) if file.is_file() and file != path / "sha256.json"
    )
    return {file.relative_to(path).as_posix(): sha256_of_file(file) for file in files}


def _describe_arrays(state: TrainState) -> dict[str, str]:
    """Return dtype and shape of every array of a state, by its path."""
    named = jax.tree_util.tree_flatten_with_path(state)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{array.dtype}{list(array.shape)}"
        for path, array in named
    }


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.StandardCheckpointHandler())


def _find_damage(path: Path) -> str | None:
    """Return what is wrong with the files of a checkpoint; None: nothing."""
    try:
        expected, found = read_json_object(path / "sha256.json"), hash_files(path)
    except (OSError, UserError) as error:
        return f"its files cannot be read: {error}"
    wrong = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    return f"{wrong[0]} was changed, truncated or lost" if wrong else None


def _read_metadata(path: Path) -> CheckpointMetadata:
    content = read_json_object(path / "record.json")
    version = content.pop("format_version", None)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise UserError(
            f"checkpoint {path} has format {version!r}; this version reads up to {FORMAT_VERSION}: upgrade to read it"
        )
    try:
        metadata = TypeAdapter(CheckpointMetadata).validate_python(content)
    except ValidationError as error:
        raise UserError(f"{path / 'record.json'}: {explain_error(error)}") from error
    if str(metadata.step) != path.name:
        raise UserError(
            f"{path / 'record.json'} is of step {metadata.step}: it belongs to another checkpoint"
        )
    return metadata
