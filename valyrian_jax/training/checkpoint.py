"""Checkpoints of a run; the only module that imports orbax.

checkpoints/<step>/
    state/        orbax: step, parameters, optimizer state
    record.json   metadata
    sha256.json   SHA-256 of every other file

A checkpoint is written under a temporary name, hashed and renamed, so it is complete or absent.
The hashes show later damage; a resumed run then uses the previous checkpoint. Saving is
synchronous: errors surface at once, and the next step may overwrite the memory of the state
(donation).

Orbax's CheckpointManager is not used. It renames a checkpoint before the hashes are in it, so a
kill in between would leave a checkpoint without hashes (tests/training/test_killed.py).
"""

import contextlib
import re
import secrets
import shutil
from dataclasses import field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from valyrian_jax.config import explain_error
from valyrian_jax.data.split_record import SplitRecord
from valyrian_jax.errors import UserError, first_line
from valyrian_jax.files import name_in_utf8, read_json_object, sync_to_disk, write_json
from valyrian_jax.training import distributed
from valyrian_jax.training.checkpoint_integrity import describe_damage, find_differences, hash_files
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.train_step import TrainState

FORMAT_VERSION = 1
_MAX_TO_KEEP = 2
_PARTIAL = re.compile(r"\d+(\.[0-9a-f]{8})?(\.old)?\.partial")  # version 0.1 had no token in it


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CheckpointMetadata:
    """Metadata of a checkpoint, stored as record.json."""

    step: int
    progress: Progress
    config: dict[str, dict[str, Any]]
    corpus_sha256: str
    tokenizer_sha256: str
    versions: dict[str, str]
    """Versions of the software, and the kind of device, that computed the state."""
    arrays: dict[str, str] = field(default_factory=dict)
    """Dtype and shape of every array of the state; `save` fills it in."""
    base_model: str | None = None
    """Name of the bundle that the run started from, for the model card."""
    split: SplitRecord | None = None
    """The held-out part; None: version 0.1 wrote the checkpoint."""


class Checkpoint(NamedTuple):
    """An intact checkpoint."""

    path: Path
    metadata: CheckpointMetadata
    damaged: dict[Path, str]  # newer checkpoints, and what is wrong with each


def save(directory: Path, state: TrainState, metadata: CheckpointMetadata) -> None:
    """Write a checkpoint, then remove all but the newest two.

    Every process writes its own shards; the primary process writes the rest.

    Raises:
        OSError: It cannot be written, usually for lack of space; older checkpoints are intact.
        PeerError: Another process cannot be reached.
    """
    # All processes write into one directory, whose name nobody can guess.
    [token] = distributed.all_max(secrets.randbits(31) if distributed.is_primary() else 0)
    partial = directory / f"{metadata.step}.{token:08x}.partial"
    try:
        if distributed.is_primary():
            # Without `parents`: a run whose directory was deleted must not create a new one.
            directory.mkdir(exist_ok=True)
            remove_partial(directory)
            _check_free_space(directory, state)
        distributed.barrier("the checkpoint's directory is ready")
        with name_in_utf8(directory) as name, distributed.peer_errors():
            state_path = Path(name) / partial.name / "state"
            _make_checkpointer().save(state_path, args=ocp.args.StandardSave(state))
        if distributed.is_primary():
            _finish_and_rename(partial, replace(metadata, arrays=_describe_arrays(state)))
    except (OSError, ValueError) as error:  # Orbax reports errors of writing as ValueError.
        with contextlib.suppress(OSError):
            remove_partial(directory)
        raise OSError(
            f"cannot write checkpoint {directory / str(metadata.step)}: {first_line(error)}"
        ) from error
    if distributed.is_primary():
        older = [step for step in list_steps(directory) if step <= metadata.step]
        for step in older[:-_MAX_TO_KEEP]:
            # Renaming first keeps it complete or absent at all times.
            (directory / str(step)).rename(directory / f"{step}.{token:08x}.old.partial")
        remove_partial(directory)


def _check_free_space(directory: Path, state: TrainState) -> None:
    """Check that a state fits on the disk; orbax would report the error in hundreds of lines."""
    needed = sum(array.nbytes for array in jax.tree.leaves(state))
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise OSError(f"it needs {needed / 1e6:,.0f} MB, but only {free / 1e6:,.0f} MB are free")


def _finish_and_rename(partial: Path, metadata: CheckpointMetadata) -> None:
    """Write metadata and hashes beside a written state, and rename its directory to the step."""
    content = TypeAdapter(CheckpointMetadata).dump_python(metadata)
    write_json(partial / "record.json", content | {"format_version": FORMAT_VERSION})
    write_json(partial / "sha256.json", hash_files(partial))
    final = partial.with_name(str(metadata.step))
    if final.exists():  # Left by a run that was killed before it wrote config.toml.
        final.rename(partial.with_suffix(".old.partial"))
    sync_to_disk(*partial.rglob("*"), partial)
    partial.rename(final)
    sync_to_disk(*final.parent.rglob("*"), final.parent)


def find_newest(directory: Path) -> Checkpoint:
    """Return the newest intact checkpoint.

    Raises:
        UserError: There is no intact checkpoint, one cannot be read, or a newer version of this
            package wrote it.
    """
    damaged: dict[Path, str] = {}
    try:
        for step in reversed(list_steps(directory)):
            path = directory / str(step)
            damage = describe_damage(path)
            if damage is None:
                return Checkpoint(path, _read_metadata(path), damaged)
            damaged[path] = f"checkpoint {path} is damaged: {damage}"
    except OSError as error:  # It can be temporary: permissions, or a disk that is not mounted.
        raise UserError(
            "cannot read the checkpoints: expected files that can be read, found "
            f"{error.filename or directory}: {error.strerror}; nothing was changed: put it back or "
            "make it readable, then resume again"
        ) from error
    reason = "; ".join(damaged.values()) or f"{directory} contains no checkpoint"
    raise UserError(f"cannot resume: {reason}; start a new run")


def open_step(directory: Path, step: int) -> Checkpoint:
    """Return the checkpoint of a step, which another process has found to be intact."""
    path = directory / str(step)
    return Checkpoint(path, _read_metadata(path), {})


def read_base_model(directory: Path) -> str | None:
    """Return the base model from the newest readable metadata, or None."""
    with contextlib.suppress(OSError):  # `find_newest` reports what cannot be read or is damaged.
        for step in reversed(list_steps(directory)):
            with contextlib.suppress(UserError):
                return _read_metadata(directory / str(step)).base_model
    return None


def describe_last(directory: Path) -> str:
    """Describe the newest intact checkpoint, for a message."""
    try:
        return f"the last checkpoint is of step {find_newest(directory).metadata.step}"
    except (OSError, UserError) as error:
        return str(error)


def restore(checkpoint: Checkpoint, template: TrainState) -> TrainState:
    """Return the state of a checkpoint, exactly as it was saved.

    Args:
        checkpoint: Checkpoint.
        template: State of the same structure, abstract or not; the arrays get its shardings.

    Raises:
        UserError: The checkpoint does not fit the template, or cannot be read.
        PeerError: Another process cannot be reached.
    """
    path = checkpoint.path
    expected, stored = _describe_arrays(template), checkpoint.metadata.arrays
    if differences := find_differences(expected, stored):
        name = differences[0]
        raise UserError(
            f"checkpoint {path} does not fit the model and optimizer of this run: "
            f"expected {name} to be {expected.get(name, 'absent')}, "
            f"found {stored.get(name, 'absent')}; start a new run"
        )
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
    try:
        with name_in_utf8(path) as name, distributed.peer_errors():
            state: TrainState = _make_checkpointer().restore(
                Path(name) / "state", args=ocp.args.StandardRestore(abstract)
            )
    except distributed.PeerError:
        raise
    except Exception as error:  # A forged file can fail anywhere in orbax.
        raise UserError(
            f"cannot read checkpoint {path}: {first_line(error)}; move it away to resume from the "
            "one before"
        ) from error
    if int(state.step) != checkpoint.metadata.step:
        raise UserError(
            f"checkpoint {path} is damaged: expected the state of step {checkpoint.metadata.step}, "
            f"found that of step {int(state.step)}; delete it to resume from the one before"
        )
    return state


def list_steps(directory: Path) -> list[int]:
    """Return the steps of all checkpoints, whole or damaged, in ascending order.

    Raises:
        OSError: The directory is missing or cannot be read; `Path.glob` would find nothing there.
    """
    names = (path.name for path in directory.iterdir())
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())


def set_aside(damaged: Path) -> None:
    """Rename a damaged checkpoint, so that it does not count among the newest two."""
    aside = damaged.with_name(f"{damaged.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    damaged.rename(aside)


def remove_partial(directory: Path) -> None:
    """Remove the leftovers of interrupted saves, and nothing else."""
    for path in directory.iterdir():
        if _PARTIAL.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)


def _describe_arrays(state: TrainState) -> dict[str, str]:
    """Return dtype and shape of every array of a state, by its path in the tree."""
    arrays = jax.tree_util.tree_flatten_with_path(state)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{array.dtype}{list(array.shape)}"
        for path, array in arrays
    }


def _make_checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.StandardCheckpointHandler())


def _read_metadata(path: Path) -> CheckpointMetadata:
    file = path / "record.json"
    content = read_json_object(file)
    version = content.pop("format_version", None)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise UserError(
            f"checkpoint {path} has format {version!r}; this version reads up to "
            f"{FORMAT_VERSION}: upgrade to read it"
        )
    try:
        metadata = TypeAdapter(CheckpointMetadata).validate_python(content)
    except ValidationError as error:
        raise UserError(
            f"{file} is not the record of a checkpoint: {explain_error(error)}; move the "
            "checkpoint away to resume from the one before"
        ) from error
    if str(metadata.step) != path.name:
        raise UserError(
            f"{file} belongs to another checkpoint: expected step {path.name}, "
            f"found {metadata.step}; put the right file back"
        )
    return metadata
