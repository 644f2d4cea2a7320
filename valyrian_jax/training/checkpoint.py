"""Checkpoints of a run, by orbax. The only file that imports it.

checkpoints/<step>/  state/ (orbax: step, parameters, optimizer state)  record.json  sha256.json

A checkpoint is written under another name, hashed, and renamed: it is whole or absent. `sha256.json` names every file
of it, so whatever is changed, cut or lost later is noticed, and the checkpoint before is used. Saving is synchronous:
its errors surface at once, and the next step reuses the memory of the state being saved.
"""

import contextlib
import json
import os
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
from valyrian_jax.files import read_json_object, sha256_of_file
from valyrian_jax.training import distributed
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.state import TrainState

FORMAT_VERSION = 1
_KEPT = 2


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CheckpointMetadata:
    """What a checkpoint says about itself."""

    step: int
    progress: Progress
    config: dict[str, dict[str, Any]]
    corpus_sha256: str
    tokenizer_sha256: str
    versions: dict[str, str]
    """Of the software, and the kind of device, that the step was computed with."""
    arrays: dict[str, str] = field(default_factory=dict)
    """Type and shape of every array of the state; `save` fills it in."""


class Checkpoint(NamedTuple):
    """A whole checkpoint."""

    path: Path
    record: CheckpointMetadata
    passed_over: dict[Path, str]  # the newer ones, and what is wrong with each


def save(directory: Path, state: TrainState, record: CheckpointMetadata) -> None:
    """Write a checkpoint, and drop all but the newest two. Every process writes its arrays, the first one the rest.

    Raises:
        OSError: it could not be written, for want of space mostly; those before it are intact.
    """
    partial = directory / f"{record.step}.partial"
    try:
        if distributed.is_primary():
            directory.mkdir(parents=True, exist_ok=True)
            remove_partial(directory)
            needed, free = sum(array.nbytes for array in jax.tree.leaves(state)), shutil.disk_usage(directory).free
            if needed > free:  # orbax would fail too, but in hundreds of lines
                raise OSError(f"it needs {needed / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free")
        distributed.barrier("there is a place for the checkpoint")
        _checkpointer().save((partial / "state").absolute(), args=ocp.args.StandardSave(state))
        if distributed.is_primary():
            _complete(partial, replace(record, arrays=_arrays(state)))
    except (OSError, ValueError) as error:  # orbax has errors of writing as ValueError
        if distributed.is_peer_failure(error):
            raise
        with contextlib.suppress(OSError):
            remove_partial(directory)
        reason = str(error).partition("\n")[0]
        raise OSError(f"checkpoint {directory / str(record.step)} could not be written: {reason}") from error
    if distributed.is_primary():
        for old in [step for step in list_steps(directory) if step < record.step][: 1 - _KEPT]:
            (directory / str(old)).rename(directory / f"{old}.old.partial")  # whole or absent at every moment
        remove_partial(directory)


def _complete(partial: Path, record: CheckpointMetadata) -> None:
    """Add record and hashes to a written state, and give it its name."""
    content = TypeAdapter(CheckpointMetadata).dump_python(record)
    content["format_version"] = FORMAT_VERSION
    (partial / "record.json").write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    (partial / "sha256.json").write_text(json.dumps(hash_files(partial), indent=2) + "\n", encoding="utf-8")
    final = partial.with_name(str(record.step))
    if final.exists():  # of a start that was killed
        final.rename(final.with_name(f"{record.step}.old.partial"))
    _sync(partial)
    partial.rename(final)
    _sync(partial.parent)


def find_newest(directory: Path) -> Checkpoint:
    """The newest checkpoint that is whole.

    Raises:
        UserError: there is none, or a newer version of this package wrote it.
    """
    passed_over: dict[Path, str] = {}
    for step in reversed(list_steps(directory)):
        path = directory / str(step)
        problem = _damage(path)
        if problem is None:
            return Checkpoint(path, _read_record(path), passed_over)
        passed_over[path] = f"checkpoint {path} is damaged: {problem}"
    found = "; ".join(passed_over.values()) or f"{directory} holds none"
    raise UserError(f"no checkpoint to go on from: {found}; this run cannot be resumed, start a new one")


def open_step(directory: Path, step: int) -> Checkpoint:
    """The checkpoint of a step, of which another process knows that it is whole.

    Raises:
        UserError: its record cannot be read.
    """
    path = directory / str(step)
    return Checkpoint(path, _read_record(path), {})


def describe_last(directory: Path) -> str:
    """The newest whole checkpoint, in words for a message."""
    try:
        return f"the last checkpoint is of step {find_newest(directory).record.step}"
    except (OSError, UserError) as error:
        return str(error)


def restore(found: Checkpoint, like: TrainState) -> TrainState:
    """The state of a checkpoint, exactly as it was saved.

    Args:
        found: from `newest`.
        like: a state of the same structure, abstract or not; its values are not used. Arrays come to its places.

    Raises:
        UserError: it does not fit the model and optimizer.
    """
    here, there = _arrays(like), found.record.arrays
    wrong = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    if wrong:
        is_was = f"{wrong[0]} is {there.get(wrong[0], 'absent')} there and {here.get(wrong[0], 'absent')} here"
        raise UserError(f"checkpoint {found.path} does not fit this run's model and optimizer: {is_was}")
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    try:
        state: TrainState = _checkpointer().restore(
            (found.path / "state").absolute(), args=ocp.args.StandardRestore(abstract)
        )
    except Exception as error:  # what a stranger has made can fail anywhere
        raise UserError(f"checkpoint {found.path} cannot be read: {str(error).partition(chr(10))[0]}") from error
    if int(state.step) != found.record.step:
        raise UserError(f"checkpoint {found.path} holds the state of step {int(state.step)}")
    return state


def list_steps(directory: Path) -> list[int]:
    """The steps that have a checkpoint, whole or damaged, in order."""
    return sorted(int(path.name) for path in directory.glob("*") if path.name.isascii() and path.name.isdecimal())


def set_aside(damaged: Path) -> None:
    """Give a damaged checkpoint another name, so that it does not count as one of those that are kept."""
    aside = damaged.with_name(f"{damaged.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    damaged.rename(aside)


def remove_partial(directory: Path) -> None:
    """Remove what interrupted saves left."""
    for path in directory.glob("*.partial*"):
        shutil.rmtree(path)


def hash_files(path: Path) -> dict[str, str]:
    """The SHA-256 of every file of a checkpoint but the list of them itself, by its place in there."""
    files = (file for file in sorted(path.rglob("*")) if file.is_file() and file != path / "sha256.json")
    return {file.relative_to(path).as_posix(): sha256_of_file(file) for file in files}


def _arrays(state: TrainState) -> dict[str, str]:
    named = jax.tree_util.tree_flatten_with_path(state)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{array.dtype}{list(array.shape)}"
        for path, array in named
    }


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.StandardCheckpointHandler())


def _sync(path: Path) -> None:
    """Have the disk, too, hold the files and names of a directory, in case the power goes."""
    for each in (*path.rglob("*"), path):
        place = os.open(each, os.O_RDONLY)
        try:
            os.fsync(place)
        except OSError:
            if each.is_file():  # not every file system can do it for a directory
                raise
        finally:
            os.close(place)


def _damage(path: Path) -> str | None:
    """What is wrong with the files of a checkpoint; None: nothing."""
    try:
        expected, found = read_json_object(path / "sha256.json"), hash_files(path)
    except (OSError, UserError) as error:
        return f"its files cannot be read: {error}"
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return f"{wrong[0]} was changed, cut or lost" if wrong else None


def _read_record(path: Path) -> CheckpointMetadata:
    content = read_json_object(path / "record.json")
    version = content.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise UserError(
            f"checkpoint {path} has format {version!r}; this version reads up to {FORMAT_VERSION}: upgrade to read it"
        )
    try:
        record = TypeAdapter(CheckpointMetadata).validate_python(
            {k: v for k, v in content.items() if k != "format_version"}
        )
    except ValidationError as error:
        raise UserError(f"{path / 'record.json'}: {explain_error(error)}") from error
    if str(record.step) != path.name:
        raise UserError(f"{path / 'record.json'} is of step {record.step}: it belongs to another checkpoint")
    return record
