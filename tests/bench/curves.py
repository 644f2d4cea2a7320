"""How cost grows with the work, each curve with its exponent: python tests/bench/curves.py [FOLDER]"""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import texts
from matplotlib.figure import Figure
from measuring import ROOT, machine, seconds

from valyrian_jax.config import ModelConfig, SampleConfig, config_from_tree, load_config
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.model.parameters import init_params
from valyrian_jax.tokenizer import train_bpe
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.train_step import init_state, make_train_step


class Curve(NamedTuple):
    """Seconds of the same work in several sizes."""

    title: str
    axis: str
    sizes: Sequence[int]
    once: Callable[[int], Callable[[], Any]]  # makes what is timed, after one call that is not


def step_with(changed: Callable[[int], dict[str, Any]]) -> Callable[[int], Callable[[], Any]]:
    def make(size: int) -> Callable[[], Any]:
        settings = config_from_tree(
            {"train": {"device": "cpu"}, "model": {"dropout": 0.0}}, changed(size)
        )
        optimizer = make_optimizer(settings.optim, 1000)
        now = [init_state(settings, optimizer)]
        train_step = make_train_step(settings, optimizer)
        shape = 2, settings.train.batch_size, settings.model.n_positions + 1
        data = jnp.asarray(
            np.random.default_rng(0).integers(0, settings.model.vocab_size, shape), jnp.int32
        )

        def run() -> None:
            now[0], metrics = train_step(now[0], data)
            metrics.loss.block_until_ready()

        return run

    return make


def generate(rows: int, length: int, c: ModelConfig) -> Callable[[], Any]:
    params = jax.tree.map(lambda x: 3 * x, init_params(c, jax.random.key(0)))
    return lambda: list(
        stream_tokens(params, c, [1], SampleConfig("", length, 0.8, 0, 0.95, 0), rows)
    )


def bpe(megabytes: int, vocab_size: int) -> Callable[[], Any]:
    documents = texts.prose(megabytes * 1_000_000)
    return lambda: train_bpe(documents, vocab_size)


DEFAULT = load_config(ROOT / "configs" / "valyrian.toml").model
WIDE = replace(DEFAULT, n_positions=512)
CURVES = (
    Curve(
        "BPE training, vocabulary 8,192",
        "megabytes of docstrings",
        (5, 7, 10, 14, 20, 28),
        lambda n: bpe(n, 8192),
    ),
    Curve(
        "BPE training, 28 MB",
        "vocabulary",
        (1024, 2048, 4096, 8192, 16384, 32768),
        lambda n: bpe(28, n),
    ),
    Curve(
        "two training steps", "width", (64, 128, 256, 512), step_with(lambda n: {"model.n_embd": n})
    ),
    Curve("two training steps", "blocks", (1, 2, 4, 8), step_with(lambda n: {"model.n_layer": n})),
    Curve(
        "two training steps",
        "context",
        (32, 64, 128, 256, 512),
        step_with(lambda n: {"model.n_positions": n}),
    ),
    Curve(
        "two training steps",
        "batch",
        (2, 4, 8, 16, 32, 64),
        step_with(lambda n: {"train.batch_size": n}),
    ),
    Curve(
        "generating, context 512",
        "new tokens",
        (32, 64, 128, 256, 500),
        lambda n: generate(1, n, WIDE),
    ),
    Curve(
        "generating 60 tokens",
        "batch",
        (1, 2, 4, 8, 16, 32, 64),
        lambda n: generate(n, 60, DEFAULT),
    ),
)


def main(folder: Path) -> None:
    found = []
    for curve in CURVES:
        times = []
        for size in curve.sizes:
            once = curve.once(size)
            once()
            times.append(statistics.median(seconds(once) for _ in range(5)))
        found.append(
            {"title": curve.title, "axis": curve.axis, "sizes": curve.sizes, "seconds": times}
        )
    (folder / "curves.json").write_text(
        json.dumps({"machine": machine(), "curves": found}, indent=1) + "\n"
    )
    draw(folder)


def draw(folder: Path) -> None:
    """The picture of what was found."""
    figure = Figure(figsize=(14, 7), layout="constrained")
    curves = json.loads((folder / "curves.json").read_text())["curves"]
    for axes, curve in zip(figure.subplots(2, 4).flat, curves, strict=True):
        sizes, times = np.array(curve["sizes"], float), np.array(curve["seconds"])
        slope, offset = np.polyfit(np.log(sizes), np.log(times), 1)
        axes.loglog(sizes, times, "o", color="#d95f02")
        axes.loglog(
            sizes, np.exp(offset) * sizes**slope, color="#1b6ca8", label=f"size^{slope:.2f}"
        )
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
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests" / "bench")
