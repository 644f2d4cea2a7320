"""Measure how cost grows with the size of the work, and fit an exponent to each curve.

python tests/bench/curves.py [FOLDER]
"""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import click
import jax
import jax.numpy as jnp
import numpy as np
import texts
from matplotlib.figure import Figure
from measuring import ROOT, describe_machine, time_call

from valyrian_jax.config import ModelConfig, SampleConfig, config_from_tree, load_config
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.model.parameters import init_params
from valyrian_jax.tokenizer import train_bpe
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.train_step import init_state, make_train_step


class Curve(NamedTuple):
    """One task at several sizes.

    Attributes:
        title: Name of the task.
        axis: Name of the size.
        sizes: Sizes to measure.
        make_task: Function from a size to the function to time.
    """

    title: str
    axis: str
    sizes: Sequence[int]
    make_task: Callable[[int], Callable[[], Any]]


def make_training_task(overrides: dict[str, Any]) -> Callable[[], Any]:
    config = config_from_tree({"train": {"device": "cpu"}, "model": {"dropout": 0.0}}, overrides)
    optimizer = make_optimizer(config.optim, 1000)
    state = init_state(config, optimizer)
    train_step = make_train_step(config, optimizer)
    shape = 2, config.train.batch_size, config.model.n_positions + 1
    tokens = np.random.default_rng(0).integers(0, config.model.vocab_size, shape)
    batches = jnp.asarray(tokens, jnp.int32)

    def run() -> None:
        nonlocal state
        state, metrics = train_step(state, batches)
        metrics.loss.block_until_ready()

    return run


def make_generation_task(rows: int, length: int, c: ModelConfig) -> Callable[[], Any]:
    params = jax.tree.map(lambda x: 3 * x, init_params(c, jax.random.key(0)))
    sample = SampleConfig("", length, 0.8, 0, 0.95, 0)
    return lambda: list(stream_tokens(params, c, [[1]] * rows, range(rows), sample))


def make_bpe_task(megabytes: int, vocab_size: int) -> Callable[[], Any]:
    documents = texts.load_docstrings(megabytes * 1_000_000)
    return lambda: train_bpe(documents, vocab_size)


DEFAULT = load_config(ROOT / "configs" / "valyrian.toml").model
LONG_CONTEXT = replace(DEFAULT, n_positions=512)
CURVES = (
    Curve(
        "BPE training, vocabulary 8,192",
        "megabytes of docstrings",
        (5, 7, 10, 14, 20, 28),
        lambda n: make_bpe_task(n, 8192),
    ),
    Curve(
        "BPE training, 28 MB",
        "vocabulary",
        (1024, 2048, 4096, 8192, 16384, 32768),
        lambda n: make_bpe_task(28, n),
    ),
    Curve(
        "two training steps",
        "width",
        (64, 128, 256, 512),
        lambda n: make_training_task({"model.n_embd": n}),
    ),
    Curve(
        "two training steps",
        "blocks",
        (1, 2, 4, 8),
        lambda n: make_training_task({"model.n_layer": n}),
    ),
    Curve(
        "two training steps",
        "context",
        (32, 64, 128, 256, 512),
        lambda n: make_training_task({"model.n_positions": n}),
    ),
    Curve(
        "two training steps",
        "batch",
        (2, 4, 8, 16, 32, 64),
        lambda n: make_training_task({"train.batch_size": n}),
    ),
    Curve(
        "generating, context 512",
        "new tokens",
        (32, 64, 128, 256, 500),
        lambda n: make_generation_task(1, n, LONG_CONTEXT),
    ),
    Curve(
        "generating 60 tokens",
        "batch",
        (1, 2, 4, 8, 16, 32, 64),
        lambda n: make_generation_task(n, 60, DEFAULT),
    ),
)


def time_size(curve: Curve, size: int) -> float:
    """Return the median seconds of five calls, after one that compiles."""
    task = curve.make_task(size)
    task()
    return statistics.median(time_call(task) for _ in range(5))


@click.command()
@click.argument(
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=ROOT / "tests" / "bench",
)
def main(folder: Path) -> None:
    """Time every curve, and write curves.json and curves.png to FOLDER (tests/bench)."""
    curves = [
        {
            "title": curve.title,
            "axis": curve.axis,
            "sizes": curve.sizes,
            "seconds": [time_size(curve, size) for size in curve.sizes],
        }
        for curve in CURVES
    ]
    content = {"machine": describe_machine(), "curves": curves}
    (folder / "curves.json").write_text(json.dumps(content, indent=1) + "\n")
    plot_curves(folder)


def plot_curves(folder: Path) -> None:
    """Plot the curves of curves.json with their fits, and print the exponents."""
    figure = Figure(figsize=(14, 7), layout="constrained")
    curves = json.loads((folder / "curves.json").read_text())["curves"]
    for axes, curve in zip(figure.subplots(2, 4).flat, curves, strict=True):
        sizes, times = np.array(curve["sizes"], float), np.array(curve["seconds"])
        slope, offset = np.polyfit(np.log(sizes), np.log(times), 1)
        fit = np.exp(offset) * sizes**slope
        axes.loglog(sizes, times, "o", color="#d95f02")
        axes.loglog(sizes, fit, color="#1b6ca8", label=f"size^{slope:.2f}")
        axes.set(title=curve["title"], xlabel=curve["axis"], ylabel="seconds")
        axes.set_xticks(
            sizes, [f"{size / 1024:.0f}k" if size >= 1024 else f"{size:.0f}" for size in sizes]
        )
        axes.set_yticks(times[[0, -1]], [f"{time:.3g}" for time in times[[0, -1]]])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
        print(f"{curve['title']}, {curve['axis']}: exponent {slope:.2f}")
    figure.savefig(folder / "curves.png", dpi=100)


if __name__ == "__main__":
    main()
