"""A training run from configuration to bundle: the one place with time, disk and logging.

The stages stand in `run` from top to bottom; what they call is pure or has one effect.
"""

import functools
import math
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
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
    resuming,
    runs,
    sampling,
    state,
    step,
    stopping,
    tracker,
)
from valyrian_jax.bundle import Bundle
from valyrian_jax.checkpoint import Record
from valyrian_jax.config import Config, to_tree
from valyrian_jax.console import print_evaluation, print_header, print_line, print_summary, progress_bar
from valyrian_jax.corpus import Corpus
from valyrian_jax.errors import StoppedError, UserError
from valyrian_jax.evaluation import Evaluation, Progress
from valyrian_jax.pieces import label
from valyrian_jax.state import TrainState
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tracker import Tracker

_SAMPLE_ROWS = 3  # texts that are shown
_JUDGED_ROWS = 64  # texts that are judged
_MAPPED_TOKENS = 24  # in which attention is shown


class Session(NamedTuple):
    """What stays the same while a run trains."""

    directory: Path
    config: Config
    corpus: Corpus
    optimizer: optax.GradientTransformation
    origin: Record  # what every checkpoint of this session says beside step and progress
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
        config: everything the run depends on; with `resume`, from `resuming.configuration`.
        out: directory of a new run; None: a new one under runs/.
        resume: directory of a run to go on with.
        init: bundle to start from; its model and tokenizer are used.
        console: where to print; None: standard output.

    Returns:
        The run directory, the steps taken and the best held-out loss.

    Raises:
        UserError: bad input, or nowhere to write, in one line.
        StoppedError: a signal asked for it, and the state is saved.
    """
    console = console or Console()

    # The device, the directory, the weights to start from, the text.
    where = device.select(config.train.device, config.train.deterministic)
    directory = resume or runs.choose(out)
    initial = bundle.load(init) if init else None
    if initial:
        config = started_from(initial, config)
    known = Tokenizer.load(directory / "tokenizer.json") if resume else initial.tokenizer if initial else None
    text = corpus.prepare(config, known, directory)

    with runs.lock(directory), stopping.listening() as asked:
        # The model and its optimizer, new or as they were.
        if not resume:
            runs.choose(directory)  # nobody was faster
            text.tokenizer.save(directory / "tokenizer.json")
        tokenizer_sha256 = bundle.sha256(directory / "tokenizer.json")
        origin = Record(0, Progress(), to_tree(config), text.sha256, tokenizer_sha256, device.versions(where))
        optimizer = optim.make_optimizer(config.optim, config.train.steps)
        current = state.init_state(config, optimizer, model.from_tensors(initial.tensors) if initial else None)
        progress = origin.progress
        if resume:
            current, progress = resuming.resumed(directory, origin, current, console)
        else:
            checkpoint.save(directory / "checkpoints", current, origin)
        runs.store_config(directory, config)
        print_header(console, directory, device.describe(where), text.summary, config, current)

        # The steps.
        session = Session(directory, config, text, optimizer, origin, Tracker(directory, config), console)
        current, progress = trained(session, current, progress, asked)

        # What is left behind.
        plot.save_loss(directory)
        print_summary(console, directory, int(current.step), progress)
    return Result(directory, int(current.step), progress)


def trained(
    session: Session, current: TrainState, progress: Progress, asked: stopping.Asked
) -> tuple[TrainState, Progress]:
    """Train to the end; say how to go on wherever it ends before."""
    go_on = f"go on with: python train.py --resume {shlex.quote(str(session.directory))}"
    try:
        current, progress = train(session, current, progress, asked)
        if stop := asked():
            raise StoppedError(f"stopped by {stop.name} after step {int(current.step)}, which is saved; {go_on}", stop)
    except OSError as error:
        raise UserError(
            f"{error}; {checkpoint.last(session.directory / 'checkpoints')}; when that is mended, {go_on}"
        ) from error
    finally:
        session.tracker.close(tracker.HURRIED_SECONDS if asked() else tracker.CLOSE_SECONDS)
    return current, progress


def train(
    session: Session, current: TrainState, progress: Progress, asked: stopping.Asked
) -> tuple[TrainState, Progress]:
    """The loop: a dispatch of steps, then whatever is due; when asked to stop, the state is saved."""
    config, settings = session.config, session.config.train
    train_step = step.make_train_step(config, session.optimizer)
    eval_step = step.make_eval_step(config.model)
    done, size, stop = int(current.step), settings.steps_per_dispatch, asked() is not None

    def due(every: int) -> bool:
        return every > 0 and (done % every == 0 or done == settings.steps)

    def over() -> bool:
        return done == settings.steps or evaluation.out_of_patience(progress, settings.patience)

    with progress_bar(session.console) as bar:
        task = bar.add_task("training", total=settings.steps, completed=done, loss="", speed="")
        while not over() and not stop:
            count = min(size - done % size, settings.steps - done)  # dispatches end on multiples of their size
            current, progress, values = dispatch(session, train_step, current, progress, count)
            done += count
            if due(settings.eval_every):
                progress, found = evaluated(session, eval_step, current, progress)
                values |= {f"held_out/{name}": value for name, value in found._asdict().items()}
                if session.corpus.entropy is not None:  # the floor under the loss, every time, so that it is a line
                    values["held_out/entropy_bits_per_byte"] = session.corpus.entropy
                print_evaluation(session.console, done, values["train/loss"], found, progress.best_step == done)
            session.tracker.log(done, values)
            if due(settings.sample_every):
                sampled(session, current)
            stop = asked() is not None  # once, so that no stop goes without a save
            if due(settings.checkpoint_every) or over() or stop:
                record = replace(session.origin, step=done, progress=progress)
                checkpoint.save(session.directory / "checkpoints", current, record)
            loss, speed = f"loss {values['train/loss']:.3f}", f"{values['train/tokens_per_second']:,.0f} tokens/s"
            bar.update(task, completed=done, loss=loss, speed=speed)
    return current, progress


def dispatch(
    session: Session, train_step: step.TrainStep, current: TrainState, progress: Progress, count: int
) -> tuple[TrainState, Progress, dict[str, float]]:
    """Take `count` steps in one go on the device.

    Returns:
        The new state (the old one's memory is gone), progress, and the numbers to log.

    Raises:
        UserError: more steps than may be skipped had no finite update.
    """
    settings, length = session.config.train, session.config.model.n_positions
    began, done = time.perf_counter(), int(current.step)
    batches = np.stack(
        [data.batch(session.corpus.train, settings.seed, done + i, settings.batch_size, length) for i in range(count)]
    )
    current, metrics = train_step(current, jnp.asarray(batches))
    losses, norms, taken = (np.asarray(values) for values in metrics)  # waits for the device
    left, skipped = settings.max_skipped - progress.skipped_steps, np.flatnonzero(~taken)
    progress = replace(progress, skipped_steps=progress.skipped_steps + len(skipped))
    if len(skipped) > left:
        first = skipped[left]
        found = f"step {done + first + 1} has no finite update: loss {losses[first]}, gradient norm {norms[first]}"
        raise UserError(f"{found}; {where_it_stands(session, current)}; try a lower --optim.lr")
    rate = optim.schedule(session.config.optim, settings.steps)
    values = {
        "train/loss": float(losses[taken].mean()) if taken.any() else math.nan,
        "train/grad_norm": float(norms[taken].mean()) if taken.any() else math.nan,
        "train/learning_rate": float(rate(done + count - 1 - progress.skipped_steps)),
        "train/tokens_per_second": count * settings.batch_size * length / (time.perf_counter() - began),
    }
    if progress.skipped_steps:
        values["train/skipped_steps"] = progress.skipped_steps
    return current, progress, values


def where_it_stands(session: Session, current: TrainState) -> str:
    """The last good checkpoint and the norms of the parameters, for a message."""
    sizes = {
        name: float(np.linalg.norm(tensor.astype(np.float64)))
        for name, tensor in model.to_tensors(current.params).items()
    }
    largest = ", ".join(f"{name} {sizes[name]:.3g}" for name in sorted(sizes, key=sizes.__getitem__)[:-4:-1])
    whole = math.sqrt(sum(size**2 for size in sizes.values()))
    return f"{checkpoint.last(session.directory / 'checkpoints')}; parameter norms: {whole:.3g} in all, {largest}"


def evaluated(
    session: Session, eval_step: step.EvalStep, current: TrainState, progress: Progress
) -> tuple[Progress, Evaluation]:
    """Evaluate; if the weights are the best so far, write them as the run's bundle.

    Raises:
        UserError: the loss is not finite.
    """
    found = evaluation.evaluate(eval_step, current.params, session.corpus.held_out)
    done = int(current.step)
    if not math.isfinite(found.nats_per_token):
        raise UserError(f"the held-out loss at step {done} is not finite; {where_it_stands(session, current)}")
    progress = evaluation.judged(progress, done, found)
    if progress.best_step == done:
        manifest = {
            "config": to_tree(session.config),
            "corpus_sha256": session.corpus.sha256,
            "versions": session.origin.versions,
            "step": done,
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
    if session.tracker.draws:
        session.tracker.log_attention(step_now, *attention(session, current))
    session.tracker.log_text(step_now, texts[:_SAMPLE_ROWS])
    line = f"  {texts[0].strip()}"
    if training is not None:
        found = quality.measure(texts, training)
        session.tracker.log(step_now, {f"samples/{name}": value for name, value in found._asdict().items()})
        line += f"\n  of {found.sentences} such sentences {found.grammatical:.1%} are grammatical, {found.new:.1%} new"
    print_line(session.console, line)


def attention(session: Session, current: TrainState) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Where every head looks in the first tokens of the held-out part: their labels [T], weights [L, H, T, T]."""
    count = min(_MAPPED_TOKENS, session.config.model.n_positions)
    tokens = session.corpus.held_out.windows.tokens[0, 0, :count]
    weights = model.attention(current.params, jnp.asarray(tokens[None]), session.config.model)
    labels = [label(session.corpus.tokenizer, token) for token in tokens.tolist()]
    return labels, np.asarray(weights[:, 0])


def started_from(initial: Bundle, config: Config) -> Config:
    """The configuration of a run that starts from a bundle: its model and tokenizer, our dropout."""
    model_config = replace(initial.model, dropout=config.model.dropout)
    return replace(config, model=model_config, data=replace(config.data, tokenizer=""))
