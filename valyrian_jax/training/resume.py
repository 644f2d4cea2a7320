"""Going on with a run: what may have changed since its last checkpoint, and what must not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optax
from rich.console import Console

from valyrian_jax.bundle.bundle import recover_bundle, step_of
from valyrian_jax.config import Config, config_from_tree, config_to_tree
from valyrian_jax.errors import UserError
from valyrian_jax.run_directory import find_run, load_run_config, truncate_logs
from valyrian_jax.training import checkpoint, distributed
from valyrian_jax.training.checkpoint import Checkpoint, CheckpointMetadata
from valyrian_jax.training.console import print_line
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.setup import RunSetup
from valyrian_jax.training.train_step import TrainState, abstract_state

_MAY_CHANGE = {
    f"train.{name}" for name in ("steps", "steps_per_dispatch", "device", "patience", "max_skipped")
}
_MAY_CHANGE |= {f"train.{name}_every" for name in ("eval", "sample", "checkpoint")}
# Only rounding follows from these, and from the last of them, if there is dropout, what is dropped; other devices
# than before may need another choice.
_MAY_CHANGE |= {f"train.{name}" for name in ("scan_layers", "remat", "attention", "accumulate")}
_MAY_CHANGE |= {"data.path"}  # a text may move; what it says is held to its hash
_FREE_SECTIONS = ("mesh", "sample", "wandb")


def load_resume_config(directory: Path, overrides: Mapping[str, Any]) -> Config:
    """The configuration of a run to go on with, with changes.

    Raises:
        UserError: no run is there, or a value is wrong.
    """
    return config_from_tree(
        config_to_tree(load_run_config(find_run(directory))),
        overrides,
        f"{directory / 'config.toml'}",
    )


def check_unchanged(
    now: CheckpointMetadata, then: CheckpointMetadata, directory: Path
) -> list[str]:
    """Hold a run that goes on to its last checkpoint.

    Args:
        now: what the next checkpoint would say.
        then: what the last one says.
        directory: of the run.

    Returns:
        What has changed and may, but can change the result: software and device.

    Raises:
        UserError: text, tokenizer or a setting of the model, the optimizer or the order of batches has changed.
    """
    for section, values in then.config.items():
        for name, before in values.items():
            key, value = f"{section}.{name}", now.config.get(section, {}).get(name)
            if value != before and section not in _FREE_SECTIONS and key not in _MAY_CHANGE:
                raise UserError(
                    f"{key} was {before!r} in {directory} so far and would be {value!r}; it cannot change when a run "
                    "is resumed: leave it as it was, or start a new run"
                )
    if now.corpus_sha256 != then.corpus_sha256:
        path = now.config["data"]["path"]
        raise UserError(
            f"the text {path} has changed since {directory} was started; start a new run"
        )
    if now.tokenizer_sha256 != then.tokenizer_sha256:
        raise UserError(
            f"{directory / 'tokenizer.json'} has changed since {directory} was started: its tokens would mean other "
            "text; put the old file back, or start a new run"
        )
    return [
        f"{name} was {before} and is {now.versions.get(name)}: results may differ in the last bits from here"
        for name, before in then.versions.items()
        if now.versions.get(name) != before
    ]


def resume_run(
    setup: RunSetup,
    optimizer: optax.GradientTransformation,
    metadata: CheckpointMetadata,
    console: Console,
) -> tuple[TrainState, Progress]:
    """Return the state of the newest whole checkpoint; the primary process drops everything logged after it.

    Raises:
        UserError: There is none, it does not fit, or something has changed that must not.
    """
    directory = setup.directory
    newest = distributed.call_together(
        lambda: _find_newest(directory) if distributed.is_primary() else None
    )
    step = distributed.all_max(newest.metadata.step if newest else 0)
    found = newest or checkpoint.open_step(directory / "checkpoints", step)
    notices = [*found.damaged.values(), *check_unchanged(metadata, found.metadata, directory)]
    if (ahead := step_of(directory / "bundle")) > found.metadata.step:
        notices.append(f"the bundle holds the weights of step {ahead}, until others are the best")
    state = checkpoint.restore(found, abstract_state(setup.config, optimizer, setup.mesh))
    for notice in notices:
        print_line(console, f"note      {notice}")
    if distributed.is_primary():
        for damaged in found.damaged:
            checkpoint.set_aside(damaged)
        truncate_logs(directory, found.metadata.step)
    return state, found.metadata.progress


def _find_newest(directory: Path) -> Checkpoint:
    """Finish what a kill interrupted, and return the newest whole checkpoint, which reads all of it."""
    recover_bundle(directory / "bundle")
    return checkpoint.find_newest(directory / "checkpoints")
