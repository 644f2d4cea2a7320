"""Resuming a run: what may have changed since its newest checkpoint, and what must not.

The configuration comes from config.toml and the command line; the one in the checkpoint is only
compared with it.
"""

from pathlib import Path

from rich.console import Console

from valyrian_jax.bundle.bundle import read_bundle_step, recover_bundle
from valyrian_jax.config import Config, config_to_tree
from valyrian_jax.data.split_record import check_split
from valyrian_jax.errors import UserError
from valyrian_jax.run_directory import truncate_logs
from valyrian_jax.training import checkpoint, distributed
from valyrian_jax.training.checkpoint import CheckpointMetadata, find_newest
from valyrian_jax.training.console import print_fact
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.setup import RunContext
from valyrian_jax.training.train_step import TrainState, abstract_state

_MAY_CHANGE = {
    "data.path",  # A text may move; its hash shows that it is the same.
    "data.mixture",  # The shards may move, too; the hash covers them and the weights.
    "train.steps",  # Also changes the length of the learning-rate schedule.
    "train.steps_per_dispatch",
    "train.eval_every",
    "train.sample_every",
    "train.checkpoint_every",
    "train.patience",
    "train.max_skipped",
    "train.device",
    # Another device may need other values of these. They change results by rounding only, except
    # that `accumulate` also changes which values dropout drops.
    "train.scan_layers",
    "train.remat",
    "train.attention",
    "train.accumulate",
}
_SECTIONS_THAT_MAY_CHANGE = ("mesh", "sample", "wandb")


def check_unchanged(
    current: CheckpointMetadata, saved: CheckpointMetadata, directory: Path
) -> None:
    """Check that nothing has changed since the checkpoint that a resumed run must keep.

    These are the text, its split, the tokenizer, and the settings of the model, the optimizer and
    the order of batches. Nor may the new number of steps be below that of the checkpoint.

    Raises:
        UserError: Something has changed.
    """
    for section, defaults in config_to_tree(Config()).items():
        # A version that did not have a setting yet behaved as with its default.
        for name, before in (defaults | saved.config.get(section, {})).items():
            key, value = f"{section}.{name}", current.config.get(section, {}).get(name)
            may_change = section in _SECTIONS_THAT_MAY_CHANGE or key in _MAY_CHANGE
            if value != before and not may_change:
                raise UserError(
                    f"cannot change {key} of a resumed run: expected {before!r} as in {directory}, "
                    f"found {value!r}; leave it as it was, or start a new run"
                )
    steps = current.config["train"]["steps"]
    if steps < saved.step:
        raise UserError(
            f"cannot resume {directory} with train.steps = {steps}: expected at least the "
            f"{saved.step} steps that it has taken; raise --train.steps"
        )
    if current.corpus_sha256 != saved.corpus_sha256:
        raise UserError(
            f"the text {current.config['data']['path']} has changed since {directory} was started; "
            "put the old text back, or start a new run"
        )
    if current.tokenizer_sha256 != saved.tokenizer_sha256:
        raise UserError(
            f"{directory / 'tokenizer.json'} has changed since {directory} was started; put the "
            "old file back, or start a new run"
        )
    if current.split:
        losses = saved.progress.best_loss, saved.progress.best_bits_per_byte
        text = current.config["data"]["path"]
        check_split(current.split, saved.split, losses, text, directory)


def describe_changes(current: CheckpointMetadata, saved: CheckpointMetadata) -> list[str]:
    """Return notices about another number of steps, and about other software, settings and device.

    All but the first can change results by rounding.
    """
    notices, steps = [], current.config["train"]["steps"]
    if steps != (steps_before := saved.config["train"]["steps"]):
        notices.append(
            f"train.steps has changed from {steps_before:,} to {steps:,}: the learning rate "
            "now follows the schedule of the new number"
        )
    return notices + [
        f"{name} has changed from {before or 'unset'} to {current.versions.get(name) or 'unset'}: "
        "results may differ in the last bits from here on"
        for name, before in saved.versions.items()
        if current.versions.get(name) != before
    ]


def resume_run(run: RunContext, console: Console) -> tuple[TrainState, Progress]:
    """Return the state and the progress of the newest intact checkpoint.

    When all checks have passed, recover the bundle after a kill, rename damaged checkpoints and
    truncate the logs.

    Raises:
        UserError: There is no intact checkpoint, or something has changed that a run must keep.
    """
    setup, optimizer, metadata = run
    directory = setup.directory
    newest = distributed.call_together(
        lambda: find_newest(directory / "checkpoints") if distributed.is_primary() else None
    )
    # Only the primary process passes a step, so the maximum is its step.
    [step] = distributed.all_max(newest.metadata.step if newest else 0)
    last = newest or checkpoint.open_step(directory / "checkpoints", step)
    check_unchanged(metadata, last.metadata, directory)
    notices = [*last.damaged.values(), *describe_changes(metadata, last.metadata)]
    if (bundle_step := read_bundle_step(directory / "bundle")) > step:
        notices.append(
            f"the bundle is from step {bundle_step}, after this checkpoint; the next evaluation "
            "that beats the best loss of the checkpoint replaces it"
        )
    state = checkpoint.restore(last, abstract_state(setup.config, optimizer, setup.mesh))
    for notice in notices:
        print_fact(console, "note", notice)
    if distributed.is_primary():
        recover_bundle(directory / "bundle")
        for damaged in last.damaged:
            checkpoint.set_aside(damaged)
        truncate_logs(directory, step)
    return state, last.metadata.progress
