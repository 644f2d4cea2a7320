"""How cost grows with the work, each curve with its exponent: python tests/bench/curves.py [tests/bench/curves.png]"""

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import texts
from matplotlib.figure import Figure
from measuring import ROOT, seconds

from valyrian_jax import config, model, optim, sampling, state, step
from valyrian_jax.config import ModelConfig, SampleConfig
from valyrian_jax.tokenizer import train_bpe


class Curve(NamedTuple):
    """Seconds of the same work in several sizes."""

    title: str
    axis: str
    sizes: Sequence[int]
    once: Callable[[int], Callable[[], Any]]  # makes what is timed, after one call that is not


def step_with(changed: Callable[[int], dict[str, Any]]) -> Callable[[int], Callable[[], Any]]:
    def make(size: int) -> Callable[[], Any]:
        settings = config.from_tree({"train": {"device": "cpu"}, "model": {"dropout": 0.0}}, changed(size))
        optimizer = optim.make_optimizer(settings.optim, 1000)
        now = [state.init_state(settings, optimizer)]
        train_step = step.make_train_step(settings, optimizer)
        shape = 2, settings.train.batch_size, settings.model.n_positions + 1
        data = jnp.asarray(np.random.default_rng(0).integers(0, settings.model.vocab_size, shape), jnp.int32)

        def run() -> None:
            now[0], metrics = train_step(now[0], data)
            metrics.loss.block_until_ready()

        return run

    return make


def generate(rows: int, length: int, c: ModelConfig) -> Callable[[], Any]:
    params = jax.tree.map(lambda x: 3 * x, model.init_params(c, jax.random.key(0)))
    return lambda: list(sampling.generate(params, c, [1], SampleConfig("", length, 0.8, 0, 0.95, 0), rows))


def bpe(megabytes: int, vocab_size: int) -> Callable[[], Any]:
    documents = texts.prose(megabytes * 1_000_000)
    return lambda: train_bpe(documents, vocab_size)


DEFAULT = config.load(ROOT / "configs" / "valyrian.toml").model
WIDE = replace(DEFAULT, n_positions=512)
CURVES = (
    Curve("BPE training, vocabulary 8,192", "megabytes of docstrings", (5, 7, 10, 14, 20, 28), lambda n: bpe(n, 8192)),
    Curve("BPE training, 28 MB", "vocabulary", (1024, 2048, 4096, 8192, 16384, 32768), lambda n: bpe(28, n)),
    Curve("training step", "width", (64, 128, 256, 512), step_with(lambda n: {"model.n_embd": n})),
    Curve("training step", "blocks", (1, 2, 4, 8), step_with(lambda n: {"model.n_layer": n})),
    Curve("training step", "context", (32, 64, 128, 256, 512), step_with(lambda n: {"model.n_positions": n})),
    Curve("training step", "batch", (2, 4, 8, 16, 32, 64), step_with(lambda n: {"train.batch_size": n})),
    Curve("generating, context 512", "new tokens", (32, 64, 128, 256, 500), lambda n: generate(1, n, WIDE)),
    Curve("generating 60 tokens", "batch", (1, 2, 4, 8, 16, 32, 64), lambda n: generate(n, 60, DEFAULT)),
)


def main(path: str) -> None:
    figure = Figure(figsize=(14, 7), layout="constrained")
    for axes, curve in zip(figure.subplots(2, 4).flat, CURVES, strict=True):
        found = []
        for size in curve.sizes:
            once = curve.once(size)
            once()
            found.append(statistics.median(seconds(once) for _ in range(5)))
        slope, offset = np.polyfit(np.log(curve.sizes), np.log(found), 1)
        fitted = np.exp(offset) * np.array(curve.sizes, float) ** slope
        axes.loglog(curve.sizes, found, "o", color="#d95f02")
        axes.loglog(curve.sizes, fitted, color="#1b6ca8", label=f"size^{slope:.2f}")
        axes.set(title=curve.title, xlabel=curve.axis, ylabel="seconds")
        axes.set_xticks(curve.sizes, [f"{size:,}" for size in curve.sizes])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
        print(
            f"{curve.title}, {curve.axis}: exponent {slope:.2f};",
            *(f"{s}: {t:.4g} s" for s, t in zip(curve.sizes, found, strict=True)),
        )
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "tests" / "bench" / "curves.png"))
