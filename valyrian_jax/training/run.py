"""A training run, from configuration to bundle: the only place where time, disk and log files meet."""

import math
import shlex
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
from rich.console import Console

from valyrian_jax.config import Config
from valyrian_jax.errors import StoppedError, StopSignal, UserError
from valyrian_jax.plots.curves import save_loss_plot
from valyrian_jax.run_directory import save_config
from valyrian_jax.training import checkpoint, distributed
from valyrian_jax.training.batches import place_dispatches
from valyrian_jax.training.callbacks import Callback, StepReport, describe_failure, make_callbacks
from valyrian_jax.training.checkpoint import CheckpointMetadata
from valyrian_jax.training.console import print_header, print_summary, progress_bar
from valyrian_jax.training.devices import flops_per_token, peak_flops, select_device
from valyrian_jax.training.metrics import close_seconds, open_logger
from valyrian_jax.training.optimizer import make_optimizer, make_schedule
from valyrian_jax.training.progress import Progress, is_due, is_out_of_patience
from valyrian_jax.training.resume import resume_run
from valyrian_jax.training.setup import RunSetup, claim_directory, make_metadata, prepare, start_run
from valyrian_jax.training.signals import stop_signals
from valyrian_jax.training.train_step import StepMetrics, TrainState, make_train_step


class TrainResult(NamedTuple):
    """How a run ended."""

    directory: Path
    steps: int
    progress: Progress


def train(
    config: Config,
    out: Path | None = None,
    resume: Path | None = None,
    init: Path | None = None,
    context: int | None = None,
    console: Console | None = None,
) -> TrainResult:
    """Train a model; save checkpoints, samples and the best weights as a bundle.

    Args:
        config: Everything the run depends on; to resume, that of `load_resume_config`.
        out: Directory of a new run; None: a new one under runs/.
        resume: Directory of a run to continue.
        init: Bundle to start from; its model and tokenizer are used.
        context: With `init`, a context shorter than the bundle's.
        console: Where to print; None: standard output of the primary process.

    Returns:
        The run directory, the number of steps taken and the progress.

    Raises:
        UserError: The input is wrong, or there is nowhere to write.
        StoppedError: A signal asked to stop; the state is saved.
    """
    device = select_device(config.train.device, config.train.deterministic)
    console = console or Console(quiet=not distributed.is_primary())
    distributed.check_device_counts()
    distributed.barrier("start")  # connects the processes while none of them is slow
    setup = distributed.call_together(
        lambda: prepare(config, device, out=out, resume=resume, init=init, context=context)
    )
    with (
        distributed.call_together(lambda: claim_directory(setup, is_new=resume is None)),
        stop_signals() as stop_signal,
    ):
        metadata = make_metadata(setup)
        optimizer = make_optimizer(setup.config.optim, setup.config.train.steps)
        if resume:
            state, progress = resume_run(setup, optimizer, metadata, console)
        else:
            state, progress = start_run(setup, optimizer, metadata)
        if distributed.is_primary():
            save_config(setup.directory, setup.config)
        print_header(console, setup, state)
        state, progress = train_or_explain(
            setup, optimizer, metadata, state, progress, console, stop_signal
        )
        if distributed.is_primary():
            save_loss_plot(setup.directory)
        print_summary(console, setup.directory, int(state.step), progress)
    return TrainResult(setup.directory, int(state.step), progress)


def train_or_explain(
    setup: RunSetup,
    optimizer: optax.GradientTransformation,
    metadata: CheckpointMetadata,
    state: TrainState,
    progress: Progress,
    console: Console,
    stop_signal: StopSignal,
) -> tuple[TrainState, Progress]:
    """Train to the end; wherever that fails or stops, say how to resume."""
    hint = f"resume with: python train.py --resume {shlex.quote(str(setup.directory))}"
    checkpoints = setup.directory / "checkpoints"
    logger = open_logger(setup.directory, setup.config)
    try:
        callbacks = make_callbacks(setup, metadata, logger, console)
        state, progress, stop = train_steps(
            setup, optimizer, metadata, state, progress, callbacks, console, stop_signal
        )
        if stop:
            name = signal.Signals(stop).name
            raise StoppedError(f"stopped at step {int(state.step)} ({name}); saved; {hint}", stop)
    except OSError as error:
        raise UserError(
            f"{error}; {checkpoint.describe_last(checkpoints)}; when that is fixed, {hint}"
        ) from error
    except (distributed.PeerError, jax.errors.JaxRuntimeError) as error:
        if not distributed.is_peer_failure(error):
            raise
        failure, last = (
            distributed.describe_peer_failure(error),
            checkpoint.describe_last(checkpoints),
        )
        raise UserError(f"{failure}; {last}; start all processes again, {hint}") from error
    finally:
        logger.close(close_seconds(stop_signal))
    return state, progress


def train_steps(
    setup: RunSetup,
    optimizer: optax.GradientTransformation,
    metadata: CheckpointMetadata,
    state: TrainState,
    progress: Progress,
    callbacks: list[Callback],
    console: Console,
    stop_signal: StopSignal,
) -> tuple[TrainState, Progress, int]:
    """Take the steps: a dispatch, then whatever is due; when a signal asks to stop, save the state.

    Returns:
        The state, the progress, and the signal (0: none).
    """
    config, settings = setup.config, setup.config.train
    train_step = make_train_step(config, optimizer, setup.options)
    # Compiled, because a GPU would start a kernel for every operation of the schedule, after every dispatch.
    learning_rate = jax.jit(make_schedule(config.optim, settings.steps))
    step, stop = int(state.step), distributed.all_max(stop_signal() or 0)
    dispatches = place_dispatches(setup.dataset, config, setup.mesh, step)
    batches = next(dispatches, None)

    def is_finished() -> bool:
        return step == settings.steps or is_out_of_patience(progress, settings.patience)

    with progress_bar(console, settings.steps, step) as update_bar:
        while batches is not None and not is_finished() and not stop:
            began, step = time.perf_counter(), step + len(batches)
            state, metrics = train_step(state, batches)
            batches = next(dispatches, None)  # made on the host while the devices compute
            metrics = jax.device_get(metrics)  # waits for the devices
            progress = skip_steps(setup, state, progress, metrics)
            values = summarize_steps(setup, progress, metrics, time.perf_counter() - began)
            values["train/learning_rate"] = float(learning_rate(step - 1 - progress.skipped_steps))
            report = StepReport(step, state, progress, values)
            for callback in callbacks:
                report = callback(report)
            progress = report.progress
            stop = distributed.all_max(
                stop_signal() or 0
            )  # asked once, so that no stop goes without a save
            if is_due(step, settings.checkpoint_every, settings.steps) or is_finished() or stop:
                checkpoint.save(
                    setup.directory / "checkpoints",
                    state,
                    replace(metadata, step=step, progress=progress),
                )
            update_bar(step, report.values)
    return state, progress, stop


def skip_steps(
    setup: RunSetup, state: TrainState, progress: Progress, metrics: StepMetrics
) -> Progress:
    """Return the progress with the steps of a dispatch counted that were not taken.

    Raises:
        UserError: More steps than may be skipped had no finite update.
    """
    left, skipped = (
        setup.config.train.max_skipped - progress.skipped_steps,
        np.flatnonzero(~metrics.taken),
    )
    if len(skipped) > left:
        first = skipped[left]
        step = int(state.step) - len(metrics.taken) + first + 1
        found = f"loss {metrics.loss[first]}, gradient norm {metrics.grad_norm[first]}"
        failure = describe_failure(setup.directory, state, setup.mesh)
        raise UserError(
            f"step {step} has no finite update: {found}; {failure}; try a lower --optim.lr"
        )
    return replace(progress, skipped_steps=progress.skipped_steps + len(skipped))


def summarize_steps(
    setup: RunSetup, progress: Progress, metrics: StepMetrics, seconds: float
) -> dict[str, float]:
    """Return what is logged about a dispatch that took so many seconds."""
    settings, model = setup.config.train, setup.config.model
    losses, norms, taken = metrics
    speed = len(losses) * settings.batch_size * model.n_positions / seconds
    values = {
        "train/loss": float(losses[taken].mean()) if taken.any() else math.nan,
        "train/grad_norm": float(norms[taken].mean()) if taken.any() else math.nan,
        "train/tokens_per_second": speed,
    }
    if peak := peak_flops(setup.device.device_kind, settings.dtype, setup.mesh.size):
        values["train/mfu"] = speed * flops_per_token(model) / peak
    if progress.skipped_steps:
        values["train/skipped_steps"] = progress.skipped_steps
    return values
