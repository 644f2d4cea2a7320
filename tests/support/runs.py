"""Train small runs, and read what they wrote."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import jax
import numpy as np
import pytest
from rich.console import Console

from tests.support.tiny import TINY
from valyrian_jax.config import Config, OptimConfig, load_config
from valyrian_jax.run_directory import load_run_config, read_metrics
from valyrian_jax.training import checkpoint
from valyrian_jax.training import run as training_run
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.run import TrainResult, train
from valyrian_jax.training.start_options import load_resume_config
from valyrian_jax.training.train_step import TrainState, init_state

ROOT = Path(__file__).parents[2]
OPTIMIZERS = get_args(get_type_hints(OptimConfig)["name"])


def load_tiny_config(text: Path, **overrides: Any) -> Config:
    file = ROOT / "configs" / "tiny.toml"
    return load_config(file, TINY | {"data.path": str(text)} | overrides)


def make_text_console() -> Console:
    """Return a console that prints into memory."""
    return Console(file=io.StringIO(), width=200)


def read_console(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def train_disturbed(config: Config, run: Path, step: int, disturb: Callable[[], None]) -> None:
    """Train, and call `disturb` after the dispatch that ends at a step, before its evaluation."""
    count_skipped_steps = training_run.count_skipped_steps

    def count_and_disturb(setup: Any, state: Any, progress: Any, metrics: Any) -> Any:
        if int(state.step) == step:
            disturb()
        return count_skipped_steps(setup, state, progress, metrics)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_run, "count_skipped_steps", count_and_disturb)
        train(config, run, console=make_text_console())


def resume(run: Path, console: Console | None = None, **overrides: Any) -> TrainResult:
    config = load_resume_config(run, overrides)
    return train(config, resume=run, console=console or make_text_console())


def read_values(run: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run without the speed, which depends on the clock."""
    return [
        {name: value for name, value in record.items() if name != "train/tokens_per_second"}
        for record in read_metrics(run)
    ]


def list_evaluation_steps(run: Path) -> list[int]:
    return [record["step"] for record in read_values(run) if "held_out/nats_per_token" in record]


def find_last_step(run: Path) -> int:
    return checkpoint.find_newest(run / "checkpoints").metadata.step


def load_last_state(run: Path) -> TrainState:
    config = load_run_config(run)
    template = init_state(config, make_optimizer(config.optim, config.train.steps))
    return checkpoint.restore(checkpoint.find_newest(run / "checkpoints"), template)


def assert_same_runs(run: Path, other: Path) -> None:
    """Check that metrics, samples, best weights and last states are equal bit for bit."""
    assert read_values(run) == read_values(other)
    for name in ("samples.txt", "bundle/model.safetensors"):
        assert (run / name).read_bytes() == (other / name).read_bytes()
    jax.tree.map(np.testing.assert_array_equal, load_last_state(run), load_last_state(other))
