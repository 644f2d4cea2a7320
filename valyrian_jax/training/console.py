"""What a training run shows on the terminal."""

import contextlib
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
from rich import progress as bars
from rich.console import Console

from valyrian_jax.bundle.names import axis_sizes
from valyrian_jax.evaluation.evaluate import Evaluation
from valyrian_jax.model.compute_options import describe_options
from valyrian_jax.training.devices import describe_device
from valyrian_jax.training.optimizer import decay_mask
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.setup import RunSetup
from valyrian_jax.training.train_step import TrainState


@contextlib.contextmanager
def progress_bar(
    console: Console, steps: int, completed: int
) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Show a bar with loss, speed and time left; nothing where the output is no terminal.

    Yields:
        A function that takes the step and the values of a dispatch.
    """
    bar = bars.Progress(
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[loss]}  {task.fields[speed]}"),
        bars.TimeElapsedColumn(),
        bars.TextColumn("ETA"),
        bars.TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("training", total=steps, completed=completed, loss="", speed="")
        yield lambda step, values: bar.update(
            task,
            completed=step,
            loss=f"loss {values['train/loss']:.3f}",
            speed=_describe_speed(values),
        )


def _describe_speed(values: Mapping[str, float]) -> str:
    speed = f"{values['train/tokens_per_second']:,.0f} tokens/s"
    return f"{speed}, {values['train/mfu']:.0%} MFU" if "train/mfu" in values else speed


def print_header(console: Console, setup: RunSetup, state: TrainState) -> None:
    """Print what is about to be trained, on what, where and how."""
    config, m, rows = setup.config, setup.config.model, axis_sizes(setup.config.model)["vocab"]
    sizes = [array.size for array in jax.tree.leaves(state.params)]
    decayed = sum(
        n for n, on in zip(sizes, jax.tree.leaves(decay_mask(state.params)), strict=True) if on
    )
    lines = {
        "run": str(setup.directory),
        "device": describe_device(setup.device, setup.mesh),
        "corpus": setup.dataset.describe(),
        "model": (
            f"{m.n_layer} blocks, {m.n_head} heads, {m.n_embd} wide, context {m.n_positions}, "
            f"vocabulary {m.vocab_size}{f' in {rows} rows' if rows > m.vocab_size else ''}: {sum(sizes):,} parameters"
        ),
        "optimizer": (
            f"{config.optim.name}; weight decay {config.optim.weight_decay} on {decayed:,} parameters, "
            f"none on the {sum(sizes) - decayed:,} of biases and LayerNorm"
        ),
    }
    if int(state.step):
        lines["resumed"] = f"at step {int(state.step)}"
    if options := describe_options(config, setup.options, setup.device):
        lines["compute"] = options
    for name, text in lines.items():
        print_line(console, f"{name:<10}{text}")


def print_evaluation(
    console: Console, step: int, loss: float, found: Evaluation, best: bool
) -> None:
    """One line an evaluation."""
    print_line(
        console,
        f"step {step:>6}  loss {loss:.4f}  held out {found.nats_per_token:.4f} nats/token, "
        f"{found.bits_per_byte:.4f} bits per byte{'  (best)' if best else ''}",
    )


def print_summary(console: Console, run: Path, steps: int, progress: Progress) -> None:
    """How it ended, where everything is, and what to type next."""
    print_line(
        console,
        f"\nbest held-out loss {progress.best_loss:.4f} nats/token, {progress.best_bits_per_byte:.4f} bits per byte, "
        f"at step {progress.best_step} of {steps}\n"
        f"weights   {run / 'bundle'}\n"
        f"numbers   {run / 'metrics.jsonl'}, {run / 'loss.png'}, {run / 'samples.txt'}\n"
        f'next      python -m valyrian_jax sample {shlex.quote(str(run))} --prompt "valar morghulis"',
    )


def print_line(console: Console, text: str) -> None:
    """Plain text, never wrapped or read as markup. Where nobody can read it any more, nothing, and the run goes on."""
    try:
        console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)
    except (OSError, SystemExit):  # the latter is what rich makes of a broken pipe
        console.quiet = True
