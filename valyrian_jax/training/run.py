"""The training loop: it connects the compiled step with the clock, checkpoints and logs."""

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console

from valyrian_jax.config import Config
from valyrian_jax.errors import (
    SaveRequest,
    StoppedError,
    StopSignal,
    UserError,
    quote_argument,
    save_requests,
    stop_signals,
)
from valyrian_jax.model.jax_settings import pin_jax_settings
from valyrian_jax.plots.curves import save_loss_plot
from valyrian_jax.run_directory import make_gone_error, save_config, watch_directory
from valyrian_jax.training import checkpoint, distributed
from valyrian_jax.training.batches import iterate_batches
from valyrian_jax.training.best_weights import describe_failure
from valyrian_jax.training.callbacks import make_callbacks
from valyrian_jax.training.console import (
    make_console,
    print_header,
    print_line,
    print_summary,
    progress_bar,
    suggest_options,
)
from valyrian_jax.training.devices import flops_per_token, peak_flops, select_device
from valyrian_jax.training.metrics import open_logger
from valyrian_jax.training.optimizer import make_optimizer, make_schedule
from valyrian_jax.training.progress import Progress, is_due, is_finished
from valyrian_jax.training.resume import resume_run
from valyrian_jax.training.setup import (
    RunContext,
    RunSetup,
    claim_directory,
    make_metadata,
    prepare,
    start_run,
)
from valyrian_jax.training.step_report import StepReport
from valyrian_jax.training.train_step import StepMetrics, TrainState, make_train_step


class RunSignals(NamedTuple):
    """What the signals to this process ask for."""

    stop: StopSignal
    save_requested: SaveRequest


class TrainResult(NamedTuple):
    """The result of a run."""

    directory: Path
    steps: int
    progress: Progress


@pin_jax_settings()
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
        config: Everything the run depends on; to resume, the one from `load_resume_config`.
        out: Directory of a new run; None: a new one under runs/.
        resume: Directory of a run to continue.
        init: Bundle whose weights, model and tokenizer the run starts from.
        context: Context length, shorter than that of `init`; None: the same.
        console: Where to print; None: standard output of the primary process.

    Raises:
        UserError: The input is wrong, or a file cannot be written.
        StoppedError: A signal asked to stop; the state is saved.
    """
    device = select_device(config.train.device, config.train.deterministic)
    console = console or make_console(quiet=not distributed.is_primary())
    distributed.check_device_counts()
    distributed.barrier("start")  # Connect the processes now, before one of them becomes slow.
    with save_requests() as save_requested:  # From here on, SIGUSR1 must not end the process.
        setup = distributed.call_together(
            lambda: prepare(config, device, out=out, resume=resume, init=init, context=context)
        )
        lock = distributed.call_together(lambda: claim_directory(setup, is_new=resume is None))
        with lock, stop_signals() as stop_signal:
            optimizer = make_optimizer(setup.config.optim, setup.config.train.steps)
            run = RunContext(setup, optimizer, make_metadata(setup))
            state, progress = resume_run(run, console) if resume else start_run(run)
            if distributed.is_primary():
                save_config(setup.directory, setup.config)
            print_header(console, setup, state)
            signals = RunSignals(stop_signal, save_requested)
            with explain_failures(setup.directory):
                state, progress = train_steps(run, state, progress, console, signals)
                if distributed.is_primary():
                    save_loss_plot(setup.directory)
            options = suggest_options(setup.dataset)
            print_summary(console, setup.directory, int(state.step), progress, options)
    return TrainResult(setup.directory, int(state.step), progress)


def train_steps(
    run: RunContext, state: TrainState, progress: Progress, console: Console, signals: RunSignals
) -> tuple[TrainState, Progress]:
    """Train until the last step or until patience ends; save the state when it is due.

    Raises:
        StoppedError: A signal asked to stop; the state is saved.
    """
    setup, optimizer, _ = run
    config, settings = setup.config, setup.config.train
    train_step = make_train_step(config, optimizer, setup.options)
    # Compiled, because a GPU would otherwise start a kernel for every operation of the schedule.
    learning_rate = jax.jit(make_schedule(config.optim, settings.steps))
    step, [stop] = int(state.step), distributed.all_max(signals.stop() or 0)
    dispatches = iterate_batches(setup.dataset, config, setup.mesh, step)
    batches = next(dispatches, None)

    with (
        open_logger(setup.directory, config, signals.stop) as logger,
        progress_bar(console, settings.steps, step) as bar,
        watch_directory(setup.directory) as check_directory,
    ):
        callbacks = make_callbacks(run, logger, console, bar.name_activity)
        while batches is not None and not is_finished(progress, step, settings) and not stop:
            start_time, step = time.perf_counter(), step + len(batches)
            state, metrics = train_step(state, batches)
            batches = next(dispatches, None)  # The host makes them while the devices compute.
            metrics = jax.device_get(metrics)  # Waits for the devices.
            progress = count_skipped_steps(setup, state, progress, metrics)
            values = summarize_steps(setup, progress, metrics, time.perf_counter() - start_time)
            values["train/learning_rate"] = float(learning_rate(step - 1 - progress.skipped_steps))
            bar.update(step, values)
            report = StepReport(step, state, progress, values)
            check_directory()  # Before the first write.
            for callback in callbacks:  # EvaluateAndKeepBest, MeasurePairs, LogValues, LogSamples.
                report = callback(report)
            progress = report.progress
            # Read the signals only once: one between two reads would stop the run without a save.
            stop, is_requested = read_signals(signals)
            is_last = stop or is_finished(progress, step, settings)
            # Save last: bundle and logs are then never older than the checkpoint, and resuming only
            # drops what is newer.
            if is_last or is_requested or is_due(step, settings.checkpoint_every, settings.steps):
                with bar.name_activity("saving"):
                    save_state(run, state, progress)
            if is_requested:
                print_line(console, f"step {step:>6}  saved (SIGUSR1)")
    if stop:
        name, hint = signal.Signals(stop).name, resume_hint(setup.directory)
        raise StoppedError(f"stopped at step {step} ({name}); saved; {hint}", stop)
    return state, progress


def save_state(run: RunContext, state: TrainState, progress: Progress) -> None:
    """Write a checkpoint of this state."""
    metadata = replace(run.metadata, step=int(state.step), progress=progress)
    checkpoint.save(run.setup.directory / "checkpoints", state, metadata)


def read_signals(signals: RunSignals) -> tuple[int, bool]:
    """Return the signal that asks any process to stop, or 0, and whether one is asked to save."""
    stop, is_requested = distributed.all_max(signals.stop() or 0, signals.save_requested())
    return stop, bool(is_requested)


@contextlib.contextmanager
def explain_failures(directory: Path) -> Iterator[None]:
    """Turn failures of the disk and of other processes into messages that say how to resume."""
    try:
        yield
    except OSError as error:
        if not directory.exists():
            raise make_gone_error(directory) from error
        last = checkpoint.describe_last(directory / "checkpoints")
        raise UserError(f"{error}; {last}; fix this, then {resume_hint(directory)}") from error
    except (distributed.PeerError, jax.errors.JaxRuntimeError) as error:
        if not (explanation := distributed.explain_failure(error)):
            raise
        failure, advice = explanation
        last = checkpoint.describe_last(directory / "checkpoints")
        raise UserError(f"{failure}; {last}; {advice}; {resume_hint(directory)}") from error


def resume_hint(directory: Path) -> str:
    """Return how to resume a run, for a message."""
    return f"resume with: python -m valyrian_jax train --resume {quote_argument(str(directory))}"


def count_skipped_steps(
    setup: RunSetup, state: TrainState, progress: Progress, metrics: StepMetrics
) -> Progress:
    """Return the progress with the skipped steps of a dispatch counted."""
    skipped = np.flatnonzero(~metrics.taken)
    allowed = setup.config.train.max_skipped - progress.skipped_steps
    if len(skipped) > allowed:
        index = skipped[allowed]
        step = int(state.step) - len(metrics.taken) + index + 1
        raise UserError(
            f"step {step} has no finite update: loss {metrics.loss[index]}, "
            f"gradient norm {metrics.grad_norm[index]}; "
            f"{describe_failure(setup.directory, state, setup.mesh)}; try a lower --optim.lr"
        )
    return replace(progress, skipped_steps=progress.skipped_steps + len(skipped))


def summarize_steps(
    setup: RunSetup, progress: Progress, metrics: StepMetrics, seconds: float
) -> dict[str, float]:
    """Return the values to log about a dispatch that took `seconds`, by name."""
    settings, model = setup.config.train, setup.config.model
    losses, norms, taken = metrics
    tokens_per_second = len(losses) * settings.batch_size * model.n_positions / seconds
    values = {
        "train/loss": float(losses[taken].mean()) if taken.any() else math.nan,
        "train/grad_norm": float(norms[taken].mean()) if taken.any() else math.nan,
        "train/tokens_per_second": tokens_per_second,
    }
    if peak := peak_flops(setup.device.device_kind, settings.dtype, setup.mesh.size):
        values["train/mfu"] = tokens_per_second * flops_per_token(model) / peak
    if progress.skipped_steps:
        values["train/skipped_steps"] = progress.skipped_steps
    return values
