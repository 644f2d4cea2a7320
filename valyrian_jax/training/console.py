"""What a training run prints on the terminal."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO, cast

import jax
from rich import progress as rich_progress
from rich.console import Console

from valyrian_jax.bundle.names import describe_shape
from valyrian_jax.bundle.shipped_model import EXAMPLE_OPTIONS
from valyrian_jax.bundle.text_generation import take_until_end_of_text
from valyrian_jax.config import OptimConfig
from valyrian_jax.data.dataset import Dataset
from valyrian_jax.errors import escape, quote_argument, silence
from valyrian_jax.evaluation.evaluate import Evaluation
from valyrian_jax.evaluation.overfitting import describe_overfitting
from valyrian_jax.model.compute_options import describe_options
from valyrian_jax.tokenizer.display import escape_controls, wrap_words
from valyrian_jax.training.devices import describe_device
from valyrian_jax.training.optimizer import decay_mask
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.setup import RunSetup
from valyrian_jax.training.train_step import TrainState

_NOTEBOOK_SECONDS = 0.2  # between two pictures of the progress bar
_INDENT = 10  # columns for the name at the beginning of a line
_PROMPT_WORDS, _MAX_PROMPT = 3, 30  # of a suggested prompt: words, and characters


def make_console(quiet: bool) -> Console:
    """Return the console of a run: standard output, whose errors do not end the run."""
    file = cast(TextIO, _LenientOutput(sys.stdout)) if sys.stdout else None
    # In a notebook, lines are plain text; rich would display each of them as HTML.
    is_terminal = False if Console().is_jupyter else None
    return Console(file=file, quiet=quiet, force_jupyter=False, force_terminal=is_terminal)


class _LenientOutput:
    """A stream that falls silent at its first error: no reader, no terminal or no space."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        with self._silence_errors():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be written."""
        with self._silence_errors():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _silence_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            silence(self._stream)
            warn(f"cannot print: {error.strerror}; the run continues without output")


def warn(text: str) -> None:
    """Print a line on standard error, if that is possible."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)


NameActivity = Callable[[str], contextlib.AbstractContextManager[None]]
"""A function that returns a context in which the progress bar shows a text such as "evaluating"."""


class ProgressBar(NamedTuple):
    """The functions with which a run controls its progress bar."""

    update: Callable[[int, Mapping[str, float]], None]  # shows the values of a dispatch
    name_activity: NameActivity


@contextlib.contextmanager
def progress_bar(console: Console, steps: int, completed: int) -> Iterator[ProgressBar]:
    """Show a bar with loss, speed and remaining time in a terminal or a notebook."""
    bar = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn("{task.fields[loss]}  {task.fields[speed]}"),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("ETA"),
        rich_progress.TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    is_notebook = Console().is_jupyter and not console.quiet
    drawing = _display_in_notebook(bar) if is_notebook else contextlib.nullcontext(lambda _: None)
    with bar, drawing as draw:
        # The first dispatch compiles the step, which takes longer than the dispatches after it.
        task = bar.add_task("compiling", total=steps, completed=completed, loss="", speed="")

        def update(step: int, values: Mapping[str, float]) -> None:
            loss, speed = f"loss {values['train/loss']:.3f}", _describe_speed(values)
            bar.update(task, description="training", completed=step, loss=loss, speed=speed)
            draw(_NOTEBOOK_SECONDS)

        @contextlib.contextmanager
        def name_activity(name: str) -> Iterator[None]:
            previous = bar.tasks[0].description
            bar.update(task, description=name, refresh=True)
            draw(0)
            yield
            bar.update(task, description=previous)
            draw(0)

        yield ProgressBar(update, name_activity)


@contextlib.contextmanager
def _display_in_notebook(bar: rich_progress.Progress) -> Iterator[Callable[[float], None]]:
    """Display a bar below a cell of a notebook; yield a function that draws it again.

    Its argument is the number of seconds that must have passed since the last drawing. rich
    displays a bar only with ipywidgets, which many notebooks lack.
    """
    from IPython.display import display

    handle = display(bar.make_tasks_table(bar.tasks), display_id=True)
    drawn = time.monotonic()

    def draw(interval: float) -> None:
        nonlocal drawn
        if time.monotonic() - drawn > interval:
            handle.update(bar.make_tasks_table(bar.tasks))
            drawn = time.monotonic()

    try:
        yield draw
    finally:
        handle.update(bar.make_tasks_table(bar.tasks))


def _describe_speed(values: Mapping[str, float]) -> str:
    speed = f"{values['train/tokens_per_second']:,.0f} tokens/s"
    return f"{speed}, {values['train/mfu']:.0%} MFU" if "train/mfu" in values else speed


def print_header(console: Console, setup: RunSetup, state: TrainState) -> None:
    """Print the directory, device, corpus, model, optimizer and options of a run."""
    optim, sizes = setup.config.optim, [array.size for array in jax.tree.leaves(state.params)]
    is_decayed = jax.tree.leaves(decay_mask(state.params))
    decayed = sum(size for size, decays in zip(sizes, is_decayed, strict=True) if decays)
    lines = {
        "run": str(setup.directory),
        "device": describe_device(setup.device, setup.mesh),
        "corpus": setup.dataset.describe(),
        "model": f"{describe_shape(setup.config.model)}, {sum(sizes):,} parameters",
        "optimizer": (
            f"{optim.name}, weight decay {optim.weight_decay} on {decayed:,} parameters; "
            f"no decay on {sum(sizes) - decayed:,} (biases and LayerNorm)"
        ),
    }
    if int(state.step):
        step, steps = int(state.step), setup.config.train.steps
        left = "" if step < steps else "; none is left: raise --train.steps to train on"
        lines["resumed"] = f"at step {step} of {steps}{left}"
    if options := describe_options(setup.config, setup.options, setup.device):
        lines["compute"] = options
    notes = [*setup.dataset.notes]
    if setup.init_bundle and optim.lr >= OptimConfig().lr:
        notes.append(
            f"the learning rate {optim.lr} is that of new weights and raises the loss of trained "
            "ones at first; to fine-tune, pass --config finetune"
        )
    for name, text in [*lines.items(), *(("note", note) for note in notes)]:
        print_fact(console, name, text)


def print_evaluation(
    console: Console, step: int, loss: float, evaluation: Evaluation, is_best: bool
) -> None:
    """Print one line about an evaluation."""
    print_line(
        console,
        f"step {step:>6}  train {loss:.4f}  held-out {evaluation.nats_per_token:.4f} nats/token, "
        f"{evaluation.bits_per_byte:.4f} bits/byte{'  (best)' if is_best else ''}",
    )


def print_summary(
    console: Console, run: Path, steps: int, progress: Progress, options: str
) -> None:
    """Print the best loss, the files of the run and the next command, with its options."""
    print_line(console, "")
    print_line(
        console,
        f"best held-out loss {progress.best_loss:.4f} nats/token, "
        f"{progress.best_bits_per_byte:.4f} bits per byte, at step {progress.best_step} of {steps}",
    )
    if overfitting := describe_overfitting(run):
        print_fact(console, "note", overfitting)
    print_fact(console, "weights", f"{run}/bundle")
    print_fact(console, "metrics", f"{run}/metrics.jsonl, {run}/loss.png")
    print_fact(console, "samples", f"{run}/samples.txt")
    command = f"python -m valyrian_jax sample {quote_argument(str(run))}"
    print_line(console, f"{'next':<{_INDENT}}{command} {options}".rstrip(), wrap=False)


def suggest_options(dataset: Dataset) -> str:
    """Return the options of `sample` for a first text of a run: a prompt in its own language."""
    if dataset.entropy is not None:
        return EXAMPLE_OPTIONS
    # The held-out part begins with <|endoftext|>.
    ids, tokenizer = dataset.eval_set.windows.tokens[0, 0, 1:].tolist(), dataset.tokenizer
    text = tokenizer.decode([*take_until_end_of_text(tokenizer, ids)])
    words = text.replace("\ufffd", " ").split()
    prompt = " ".join(words[:_PROMPT_WORDS])[:_MAX_PROMPT]
    return f"--prompt {quote_argument(prompt)}" if prompt else ""


def print_fact(console: Console, name: str, text: str) -> None:
    """Print a name and a text; further lines of the text are indented."""
    print_line(console, f"{name:<{_INDENT}}{escape(text)}", _INDENT)


def print_line(console: Console, text: str, indent: int = 2, wrap: bool = True) -> None:
    """Print plain text, never interpreted as markup; if nobody reads the output, print nothing.

    Lines break between words at the width of the terminal, or at 80 columns, and all but the first
    are indented. A character that the encoding of the output lacks becomes a question mark.
    """
    text = escape_controls(text) if console.is_terminal else text
    text = "".join(wrap_words([text], console.width, indent)) if wrap else text
    encodable = text.encode(console.encoding, "replace").decode(console.encoding)
    try:
        console.print(encodable, markup=False, emoji=False, highlight=False, soft_wrap=True)
    except (OSError, SystemExit):  # Rich raises SystemExit for a broken pipe.
        console.quiet = True
