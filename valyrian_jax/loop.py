"""A training run from configuration to bundle: the one place with time, disk and logging.

The stages stand in `run` from top to bottom; what they call is pure or has one effect.
"""

import functools
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

from valyrian_jax import (
    bundle,
    checkpoint,
    corpus,
    data,
    device,
    evaluation,
    model,
    optim,
    plot,
    prompt,
    quality,
    runs,
    sampling,
    state,
    step,
)
from valyrian_jax.bundle import Bundle
from valyrian_jax.config import Config, from_tree, to_tree
from valyrian_jax.console import print_evaluation, print_header, print_line, print_summary, progress_bar
from valyrian_jax.corpus import Corpus
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation import Evaluation, Progress
from valyrian_jax.state import TrainState
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tracker import Tracker

_SAMPLE_ROWS = 3  # texts that are shown
_JUDGED_ROWS = 64  # texts that are judged
_MAY_CHANGE = {f"train.{name}" for name in ("steps", "steps_per_dispatch", "device", "patience")}
_MAY_CHANGE |= {f"train.{name}_every" for name in ("eval", "sample", "checkpoint")}


class Session(NamedTuple):
    """What stays the same while a run trains."""

    directory: Path
    config: Config
    corpus: Corpus
    optimizer: optax.GradientTransformation
    checkpoints: checkpoint.CheckpointManager
    tracker: Tracker
    console: Console


class Result(NamedTuple):
    """How a run ended."""

    run: Path
    steps: int
    progress: Progress


def run(
    config: Config,
    out: Path | None = None,
    resume: Path | None = None,
    init: Path | None = None,
    console: Console | None = None,
) -> Result:
    """Train a model.

    Args:
        config: everything the run depends on; with `resume`, from `resumed_config`.
        out: directory of a new run; None: a new one under runs/.
        resume: directory of a run to go on with.
        init: bundle to start from; its model and tokenizer are used.
        console: where to print; None: standard output.

    Returns:
        The run directory, the steps taken and the best held-out loss.

    Raises:
        UserError: bad input, in one line.
    """
    console = console or Console()

    # The device, the directory, the weights to start from.
    where = device.select(config.train.device)
    directory = resume or runs.choose(out)
    initial = bundle.load(init) if init else None
    if initial:
        config = started_from(initial, config)

    # The text.
    known = Tokenizer.load(directory / "tokenizer.json") if resume else initial.tokenizer if initial else None
    text = corpus.prepare(config, known, directory)
    if not resume:
        runs.create(directory, config, text.tokenizer)

    # The model and its optimizer, new or as they were.
    optimizer = optim.make_optimizer(config.optim, config.train.steps)
    current = state.init_state(config, optimizer, model.from_tensors(initial.tensors) if initial else None)
    progress = Progress(text.sha256)
    checkpoints = checkpoint.open_directory(directory / "checkpoints")
    if resume:
        current, progress = resumed(directory, config, text, checkpoints, current)
    else:
        checkpoint.save(checkpoints, current, vars(progress), to_tree(config))
    print_header(console, directory, device.describe(where), text.summary, config, current)

    # The steps.
    tracker = Tracker(directory, config)
    try:
        session = Session(directory, config, text, optimizer, checkpoints, tracker, console)
        current, progress = train(session, current, progress)
    except KeyboardInterrupt:
        saved_at = checkpoints.latest_step()
        print_line(console, f"interrupted; go on from step {saved_at} with: python train.py --resume {directory}")
        raise
    finally:
        tracker.close()
        checkpoints.close()

    # What is left behind.
    plot.save_loss(directory)
    print_summary(console, directory, int(current.step), progress)
    return Result(directory, int(current.step), progress)


def train(session: Session, current: TrainState, progress: Progress) -> tuple[TrainState, Progress]:
    """The loop: a dispatch of steps, then whatever is due."""
    config, settings = session.config, session.config.train
    train_step = step.make_train_step(config, session.optimizer)
    eval_step = step.make_eval_step(config.model)
    done, size = int(current.step), settings.steps_per_dispatch

    def due(every: int) -> bool:
        return every > 0 and (done % every == 0 or done == settings.steps)

    with progress_bar(session.console) as bar:
        task = bar.add_task("training", total=settings.steps, completed=done, loss="", speed="")
        while done < settings.steps and not evaluation.out_of_patience(progress, settings.patience):
            count = min(size - done % size, settings.steps - done)  # dispatches end on multiples of their size
            current, values = dispatch(session, train_step, current, done, count)
            done += count
            if due(settings.eval_every):
                progress, found = evaluated(session, eval_step, current, progress)
                values |= {f"held_out/{name}": value for name, value in found._asdict().items()}
                print_evaluation(session.console, done, values["train/loss"], found, progress.best_step == done)
            session.tracker.log(done, values)
            if due(settings.sample_every):
                sampled(session, current)
            if due(settings.checkpoint_every) or evaluation.out_of_patience(progress, settings.patience):
                checkpoint.save(session.checkpoints, current, vars(progress), to_tree(config))
            loss, speed = f"loss {values['train/loss']:.3f}", f"{values['train/tokens_per_second']:,.0f} tokens/s"
            bar.update(task, completed=done, loss=loss, speed=speed)
    return current, progress


def dispatch(
    session: Session, train_step: step.TrainStep, current: TrainState, done: int, count: int
) -> tuple[TrainState, dict[str, float]]:
    """Take `count` steps after step `done` in one go on the device.

    Returns:
        The new state (the old one's memory is gone) and the numbers to log.

    Raises:
        UserError: loss or gradient is no longer finite.
    """
    settings, length = session.config.train, session.config.model.n_positions
    began = time.perf_counter()
    batches = np.stack(
        [data.batch(session.corpus.train, settings.seed, done + i, settings.batch_size, length) for i in range(count)]
    )
    current, metrics = train_step(current, jnp.asarray(batches))
    losses = np.asarray(metrics.loss)  # waits for the device
    if not np.isfinite([losses, np.asarray(metrics.grad_norm)]).all():
        best = session.directory / "bundle"
        kept = f"the best weights so far are in {best}; " if best.exists() else ""
        raise UserError(
            f"loss or gradient is no longer finite between steps {done + 1} and {done + count}; {kept}"
            "try a lower --optim.lr"
        )
    rate = optim.schedule(session.config.optim, settings.steps)
    return current, {
        "train/loss": float(losses.mean()),
        "train/grad_norm": float(np.mean(metrics.grad_norm)),
        "train/learning_rate": float(rate(done + count - 1)),
        "train/tokens_per_second": count * settings.batch_size * length / (time.perf_counter() - began),
    }


def evaluated(
    session: Session, eval_step: step.EvalStep, current: TrainState, progress: Progress
) -> tuple[Progress, Evaluation]:
    """Evaluate; if the weights are the best so far, write them as the run's bundle."""
    found = evaluation.evaluate(eval_step, current.params, session.corpus.held_out)
    progress = evaluation.judged(progress, int(current.step), found)
    if progress.best_step == int(current.step):
        manifest = {
            "config": to_tree(session.config),
            "corpus_sha256": session.corpus.sha256,
            "step": progress.best_step,
            "held_out": found._asdict(),
        }
        tensors = model.to_tensors(current.params)
        best = Bundle(session.config.model, tensors, session.corpus.tokenizer, manifest)
        bundle.save(best, session.directory / "bundle")
    return progress, found


def sampled(session: Session, current: TrainState) -> None:
    """Draw texts, log them, and judge more of them where the language's grammar is the source of the corpus."""
    config, step_now, training = session.config, int(current.step), session.corpus.sentences
    generate = functools.partial(sampling.generate, current.params, config.model)
    count = _SAMPLE_ROWS if training is None else _JUDGED_ROWS
    texts = list(prompt.many_texts(generate, session.corpus.tokenizer, config.sample, count))
    session.tracker.log_text(step_now, texts[:_SAMPLE_ROWS])
    line = f"  {texts[0].strip()}"
    if training is not None:
        found = quality.measure(texts, training)
        session.tracker.log(step_now, {f"samples/{name}": value for name, value in found._asdict().items()})
        line += f"\n  of {found.sentences} such sentences {found.grammatical:.1%} are grammatical, {found.new:.1%} new"
    print_line(session.console, line)


def started_from(initial: Bundle, config: Config) -> Config:
    """The configuration of a run that starts from a bundle: its model and tokenizer, our dropout."""
    model_config = replace(initial.model, dropout=config.model.dropout)
    return replace(config, model=model_config, data=replace(config.data, tokenizer=""))


def resumed(
    directory: Path, config: Config, text: Corpus, checkpoints: checkpoint.CheckpointManager, like: TrainState
) -> tuple[TrainState, Progress]:
    """The newest checkpoint of a run, with everything logged after it forgotten and the configuration stored.

    Raises:
        UserError: there is no checkpoint that fits, or the text has changed.
    """
    current, saved = checkpoint.restore(checkpoints, like)
    progress = Progress(**saved)
    if progress.corpus_sha256 != text.sha256:
        raise UserError(f"the text {config.data.path} has changed since {directory} was started; start a new run")
    runs.forget_after(directory, int(current.step))
    runs.store_config(directory, config)
    return current, progress


def resumed_config(directory: Path, overrides: Mapping[str, Any]) -> Config:
    """The configuration of a run to go on with, with what may change changed.

    Raises:
        UserError: no run is there, or something else would change.
    """
    stored = runs.load_config(runs.find(directory))
    for key in overrides:
        if not key.startswith(("sample.", "wandb.")) and key not in _MAY_CHANGE:
            raise UserError(f"--{key} cannot change when a run is resumed; leave it out, or start a new run")
    return from_tree(to_tree(stored), overrides)
