"""A training run from configuration to bundle: the one place with time, disk and logging.

The stages stand in `run` from top to bottom; what they call is pure or has one effect.
"""

import functools
import math
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Int
from rich.console import Console

from valyrian_jax.config import Config
from valyrian_jax.errors import StoppedError, StopSignal, UserError
from valyrian_jax.evaluation.evaluate import make_eval_step
from valyrian_jax.files import lock_directory
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import describe_options
from valyrian_jax.plots.curves import save_loss_plot
from valyrian_jax.run_directory import choose_directory, store_config
from valyrian_jax.training import checkpoint, distributed
from valyrian_jax.training.callbacks import describe_failure, evaluate_and_save_best, log_samples
from valyrian_jax.training.console import (
    print_evaluation,
    print_header,
    print_line,
    print_summary,
    progress_bar,
    progress_fields,
)
from valyrian_jax.training.devices import describe_device, select_device, software_versions
from valyrian_jax.training.finetuning import initial_params
from valyrian_jax.training.flops import flops_per_token, peak_flops
from valyrian_jax.training.metrics import CLOSE_SECONDS, HURRIED_SECONDS, MetricsLogger, NullLogger
from valyrian_jax.training.optimizer import make_optimizer, make_schedule
from valyrian_jax.training.progress import Progress, is_out_of_patience
from valyrian_jax.training.resume import resume_run
from valyrian_jax.training.session import RunContext
from valyrian_jax.training.setup import check_processes_agree, prepare
from valyrian_jax.training.signals import stop_signals
from valyrian_jax.training.state import TrainState, abstract_state, init_state
from valyrian_jax.training.train_step import StepMetrics, make_train_step


class TrainResult(NamedTuple):
    """How a run ended."""

    run: Path
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
    """Train a model.

    Args:
        config: everything the run depends on; with `resume`, from `resuming.configuration`.
        out: directory of a new run; None: a new one under runs/.
        resume: directory of a run to go on with.
        init: bundle to start from; its model and tokenizer are used.
        context: with `init`, a context shorter than the bundle's, to which its position table is cut.
        console: where to print; None: standard output.

    Returns:
        The run directory, the steps taken and the best held-out loss.

    Raises:
        UserError: bad input, or nowhere to write, in one line.
        StoppedError: a signal asked for it, and the state is saved.
    """
    where = select_device(config.train.device, config.train.deterministic)
    console = console or Console(quiet=not distributed.is_primary())
    distributed.check_device_counts()
    distributed.barrier("the start")  # which connects the processes, while none of them is slow

    with ExitStack() as held:
        # The devices, the directory, the weights to start from, the text.
        with distributed.sync_errors():
            ready = prepare(config, where, out, resume, init, context)
            directory, config, mesh, how, initial, text = ready
            if distributed.is_primary():
                held.enter_context(lock_directory(directory))
                if not resume:
                    choose_directory(directory)  # nobody was faster
                    text.tokenizer.save(directory / "tokenizer.json")
        asked = held.enter_context(stop_signals())

        # The model and its optimizer, new or as they were.
        origin = check_processes_agree(ready, software_versions(where))
        optimizer = make_optimizer(config.optim, config.train.steps)
        if resume:
            like = abstract_state(config, optimizer, mesh)
            current, progress = resume_run(directory, origin, like, console)
        else:
            weights = initial_params(initial, config.model) if initial else None
            current, progress = init_state(config, optimizer, weights, mesh), origin.progress
            checkpoint.save(directory / "checkpoints", current, origin)
        if distributed.is_primary():
            store_config(directory, config)
        print_header(console, directory, describe_device(where, mesh), text.summary, config, current)
        if means := describe_options(config, how, where):
            print_line(console, f"compute   {means}")

        # The steps.
        track = MetricsLogger(directory, config) if distributed.is_primary() else NullLogger()
        peak = peak_flops(where.device_kind, config.train.dtype, mesh.size)
        session = RunContext(directory, config, text, optimizer, mesh, how, origin, track, console, peak)
        current, progress = train_or_explain(session, current, progress, asked)

        # What is left behind.
        if distributed.is_primary():
            save_loss_plot(directory)
        print_summary(console, directory, int(current.step), progress)
    return TrainResult(directory, int(current.step), progress)


def train_or_explain(
    session: RunContext, current: TrainState, progress: Progress, asked: StopSignal
) -> tuple[TrainState, Progress]:
    """Train to the end; say how to go on wherever it ends before."""
    go_on = f"go on with: python train.py --resume {shlex.quote(str(session.directory))}"
    try:
        current, progress, stop = train_steps(session, current, progress, asked)
        if stop:
            name = signal.Signals(stop).name
            raise StoppedError(f"stopped by {name} after step {int(current.step)}, which is saved; {go_on}", stop)
    except OSError as error:
        raise UserError(
            f"{error}; {checkpoint.describe_last(session.directory / 'checkpoints')}; when that is mended, {go_on}"
        ) from error
    except (RuntimeError, ValueError) as error:
        if not distributed.is_peer_failure(error):
            raise
        last = checkpoint.describe_last(session.directory / "checkpoints")
        raise UserError(
            f"{distributed.describe_peer_failure(error)}; {last}; start all of them again, {go_on}"
        ) from error
    finally:
        session.tracker.close(HURRIED_SECONDS if asked() else CLOSE_SECONDS)
    return current, progress


def train_steps(
    session: RunContext, current: TrainState, progress: Progress, asked: StopSignal
) -> tuple[TrainState, Progress, int]:
    """The loop: a dispatch of steps, then whatever is due; when a signal asks to stop, the state is saved.

    Returns:
        The state, progress, and the signal (0: none).
    """
    config, settings = session.config, session.config.train
    train_step = make_train_step(config, session.optimizer, session.how)
    eval_step = make_eval_step(config.model, session.how)
    done, stop = int(current.step), distributed.all_max(asked() or 0)

    def due(every: int) -> bool:
        return every > 0 and (done % every == 0 or done == settings.steps)

    def over() -> bool:
        return done == settings.steps or is_out_of_patience(progress, settings.patience)

    # Compiled, because a GPU would start a kernel for every operation of the schedule, after every dispatch.
    learning_rate = jax.jit(make_schedule(session.config.optim, settings.steps))
    dispatches = place_dispatches(session, done)
    batches = next(dispatches, None)
    with progress_bar(session.console) as bar:
        task = bar.add_task("training", total=settings.steps, completed=done, loss="", speed="")
        while batches is not None and not over() and not stop:
            began, done = time.perf_counter(), done + len(batches)
            current, metrics = train_step(current, batches)
            batches = next(dispatches, None)  # made on the host while the device computes
            metrics = jax.device_get(metrics)  # waits for the device
            progress = skip_steps(session, current, progress, metrics)
            values = dispatch_values(session, progress, metrics, time.perf_counter() - began)
            values["train/learning_rate"] = float(learning_rate(done - 1 - progress.skipped_steps))
            if due(settings.eval_every):
                progress, found = evaluate_and_save_best(session, eval_step, current, progress)
                values |= {f"held_out/{name}": value for name, value in found._asdict().items()}
                if session.corpus.entropy is not None:  # the floor under the loss, every time, so that it is a line
                    values["held_out/entropy_bits_per_byte"] = session.corpus.entropy
                print_evaluation(session.console, done, values["train/loss"], found, progress.best_step == done)
            session.tracker.log(done, values)
            if due(settings.sample_every):
                log_samples(session, current)
            stop = distributed.all_max(asked() or 0)  # once, so that no stop goes without a save
            if due(settings.checkpoint_every) or over() or stop:
                record = replace(session.origin, step=done, progress=progress)
                checkpoint.save(session.directory / "checkpoints", current, record)
            bar.update(task, completed=done, **progress_fields(values))
    return current, progress, stop


def place_dispatches(session: RunContext, done: int) -> Iterator[Int[Array, "N B W"]]:
    """Yield the batches of each dispatch after `done` steps. Dispatches end on multiples of their size."""
    settings = session.config.train
    while done < settings.steps:
        count = min(settings.steps_per_dispatch - done % settings.steps_per_dispatch, settings.steps - done)
        yield place_batches(session, done, count)
        done += count


def place_batches(session: RunContext, step: int, count: int) -> Int[Array, "N B W"]:
    """Put the batches of `count` steps on the devices; every process makes the rows of its own devices only."""

    @functools.cache  # devices that share products have the same rows
    def rows(first: int | None, last: int | None) -> npt.NDArray[np.int32]:
        return np.stack([session.corpus.batches(step + i, slice(first, last)) for i in range(count)])

    shape = (count, session.config.train.batch_size, session.config.model.n_positions + 1)
    return sharding.make_global_array(
        lambda places: rows(places[1].start, places[1].stop), shape, sharding.batch_sharding(session.mesh)
    )


def skip_steps(session: RunContext, current: TrainState, progress: Progress, metrics: StepMetrics) -> Progress:
    """Return the progress with the steps of a dispatch counted that were not taken.

    Raises:
        UserError: more steps than may be skipped had no finite update.
    """
    left, skipped = session.config.train.max_skipped - progress.skipped_steps, np.flatnonzero(~metrics.taken)
    if len(skipped) > left:
        first = skipped[left]
        step = int(current.step) - len(metrics.taken) + first + 1
        found = f"loss {metrics.loss[first]}, gradient norm {metrics.grad_norm[first]}"
        raise UserError(
            f"step {step} has no finite update: {found}; {describe_failure(session, current)}; try a lower --optim.lr"
        )
    return replace(progress, skipped_steps=progress.skipped_steps + len(skipped))


def dispatch_values(session: RunContext, progress: Progress, metrics: StepMetrics, seconds: float) -> dict[str, float]:
    """Return what is logged about a dispatch that took so many seconds."""
    settings, model = session.config.train, session.config.model
    losses, norms, taken = metrics
    values = {
        "train/loss": float(losses[taken].mean()) if taken.any() else math.nan,
        "train/grad_norm": float(norms[taken].mean()) if taken.any() else math.nan,
        "train/tokens_per_second": len(losses) * settings.batch_size * model.n_positions / seconds,
    }
    if session.peak:
        values["train/mfu"] = values["train/tokens_per_second"] * flops_per_token(model) / session.peak
    if progress.skipped_steps:
        values["train/skipped_steps"] = progress.skipped_steps
    return values
