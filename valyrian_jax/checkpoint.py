"""Checkpoints of the whole training state, by orbax. The only file that imports it.

A checkpoint holds the state (step, parameters, optimizer state) and, as JSON, a progress record (best loss, patience,
corpus hash) and the configuration. Orbax writes into a temporary directory and renames it, so a checkpoint is whole or
absent. Saving is synchronous: the next step reuses the memory of the state being saved.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import CheckpointManager

from valyrian_jax.errors import UserError
from valyrian_jax.state import TrainState

__all__ = ["CheckpointManager", "open_directory", "restore", "save"]

_KEPT = 2


def open_directory(path: Path) -> CheckpointManager:
    """The checkpoints of a run; made if absent, and cleared of what an interrupted save left."""
    options = ocp.CheckpointManagerOptions(
        max_to_keep=_KEPT, enable_async_checkpointing=False, cleanup_tmp_directories=True
    )
    return CheckpointManager(path.absolute(), options=options)


def save(manager: CheckpointManager, state: TrainState, progress: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Write a checkpoint under the state's step; the configuration is kept for the reader."""
    args = ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        progress=ocp.args.JsonSave(dict(progress)),
        config=ocp.args.JsonSave(dict(config)),
    )
    manager.save(int(state.step), args=args)


def restore(manager: CheckpointManager, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """Read the newest checkpoint.

    Args:
        manager: from `open_directory`.
        like: a state of the same structure; its values are not used.

    Returns:
        The state, exactly as saved, and the progress record.

    Raises:
        UserError: there is no checkpoint, or it does not fit the model and optimizer.
    """
    step = manager.latest_step()
    if step is None:
        raise UserError(f"no checkpoint in {manager.directory}; this run cannot be resumed, start a new one")
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), progress=ocp.args.JsonRestore())
    try:
        found = manager.restore(step, args=args)
    except (ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"checkpoint {step} in {manager.directory} is damaged or does not fit this run: {reason}"
        ) from error
    return found.state, found.progress
