"""What a training run shows on the terminal."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from rich import progress as bars
from rich.console import Console

from valyrian_jax.bundle.names import axis_sizes
from valyrian_jax.config import Config
from valyrian_jax.evaluation.evaluate import Evaluation
from valyrian_jax.training.optimizer import decay_mask
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.state import TrainState


def progress_bar(console: Console) -> bars.Progress:
    """A bar with loss, speed and time left; nothing where the output is no terminal."""
    return bars.Progress(
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


def progress_fields(values: Mapping[str, float]) -> dict[str, Any]:
    """What the bar shows of the numbers of a dispatch."""
    speed = f"{values['train/tokens_per_second']:,.0f} tokens/s"
    if "train/mfu" in values:
        speed += f", {values['train/mfu']:.0%} MFU"
    return {"loss": f"loss {values['train/loss']:.3f}", "speed": speed}


def print_header(console: Console, run: Path, device: str, corpus: str, config: Config, current: TrainState) -> None:
    """What is about to be trained, on what, where."""
    m, rows = config.model, axis_sizes(config.model)["vocab"]
    sizes = [array.size for array in jax.tree.leaves(current.params)]
    decayed = sum(n for n, on in zip(sizes, jax.tree.leaves(decay_mask(current.params)), strict=True) if on)
    lines = {
        "run": str(run),
        "device": device,
        "corpus": corpus,
        "model": (
            f"{m.n_layer} blocks, {m.n_head} heads, {m.n_embd} wide, context {m.n_positions}, "
            f"vocabulary {m.vocab_size}{f' in {rows} rows' if rows > m.vocab_size else ''}: {sum(sizes):,} parameters"
        ),
        "optimizer": (
            f"{config.optim.name}; weight decay {config.optim.weight_decay} on {decayed:,} parameters, "
            f"none on the {sum(sizes) - decayed:,} of biases and LayerNorm"
        ),
    }
    if int(current.step):
        lines["resumed"] = f"at step {int(current.step)}"
    for name, text in lines.items():
        print_line(console, f"{name:<10}{text}")


def print_evaluation(console: Console, step: int, loss: float, found: Evaluation, best: bool) -> None:
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
