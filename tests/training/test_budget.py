"""What a run evaluates and samples stays within a part of its memory and time."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.runs import load_tiny_config, make_text_console, read_console
from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.bundle.memory import MAX_TEXTS, estimate_memory
from valyrian_jax.bundle.text_generation import generate_many_tokens
from valyrian_jax.config import Config, SampleConfig, load_config
from valyrian_jax.data.windows import EvalSet, make_eval_windows
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.evaluate import evaluate, make_eval_step, split_batches
from valyrian_jax.generation.generate import make_generator
from valyrian_jax.model.compute_options import DEFAULT_OPTIONS
from valyrian_jax.model.parameters import from_tensors
from valyrian_jax.training import budget
from valyrian_jax.training.budget import (
    limit_eval_set,
    limit_memory,
    limit_texts,
    limit_tokens,
)
from valyrian_jax.training.run import TrainResult, train

# The shape in which 64 texts took 4.8 GB of cache: 86M parameters, two windows a batch.
LARGE: dict[str, Any] = {
    "model.n_positions": 1024,
    "model.n_embd": 768,
    "model.n_layer": 12,
    "model.n_head": 12,
    "train.batch_size": 2,
    "train.eval_every": 100,
}


def test_the_shipped_presets_sample_and_evaluate_without_a_limit() -> None:
    for preset in ("valyrian", "quick", "tiny", "muon", "long"):
        config = load_config(f"configs/{preset}.toml")
        assert limit_texts(config, DEFAULT_OPTIONS) == (MAX_TEXTS, MAX_TEXTS)
        # Windows overlap by half. The held-out part of the shipped corpus has 188,364 tokens, of
        # which a run evaluates two fifths while it trains.
        assert limit_tokens(config) > 0.4 * 188_364 * 2


def test_texts_of_a_large_model_take_half_the_memory_of_a_step_and_a_twentieth_of_the_time() -> (
    None
):
    config = load_config(None, LARGE)
    texts, batch_size = limit_texts(config, DEFAULT_OPTIONS)
    estimate = estimate_memory(config.model, config.train)
    assert 1 <= batch_size < MAX_TEXTS
    assert batch_size * estimate.text <= estimate.training / 2
    trained = 3 * 100 * 2 * 1024
    assert texts * 1024 <= trained / 20
    often = replace(config, train=replace(config.train, eval_every=10))
    assert 1 <= limit_texts(often, DEFAULT_OPTIONS).texts < texts


def make_eval_set(config: Config, count: int) -> EvalSet:
    tokens = np.random.default_rng(0).integers(0, 257, count, np.int32)
    rows = config.train.batch_size // config.train.accumulate
    return EvalSet(make_eval_windows(tokens, rows, config.model.n_positions), 3 * (count - 1))


def test_an_evaluation_of_a_large_model_covers_evenly_spaced_batches() -> None:
    config = load_config(None, LARGE)
    whole = make_eval_set(config, 200_000)
    part = limit_eval_set(whole, config, DEFAULT_OPTIONS)
    assert part.windows.tokens.size < limit_tokens(config) * 1.01 < whole.windows.tokens.size
    stride = len(whole.windows.tokens) // len(part.windows.tokens)
    assert stride > 1
    np.testing.assert_array_equal(part.windows.tokens[1], whole.windows.tokens[stride])
    bytes_per_token = part.text_bytes / part.windows.counted.sum()
    assert bytes_per_token == pytest.approx(3, rel=1e-3)


def test_a_small_evaluation_set_is_left_alone() -> None:
    config = load_config("configs/tiny.toml")
    whole = make_eval_set(config, 5000)
    part = limit_eval_set(whole, config, DEFAULT_OPTIONS)
    for array, expected in zip(part.windows, whole.windows, strict=True):
        np.testing.assert_array_equal(array, expected)
    assert part.text_bytes == whole.text_bytes


def test_batches_that_are_too_large_are_split_and_give_the_same_loss(finished: TrainResult) -> None:
    bundle = load_bundle(finished.directory / "bundle")
    config = load_config(None, {"train.batch_size": 12})
    model = bundle.model
    whole = make_eval_set(replace(config, model=replace(model, vocab_size=257)), 2000)
    one_row = estimate_memory(model, replace(config.train, batch_size=1)).evaluation
    split = whole._replace(windows=split_batches(whole.windows, model, 5 * one_row))
    assert split.windows.tokens.shape[1] == 4  # the largest divisor of 12 that fits
    assert split_batches(whole.windows, model, 5 * one_row, 3).tokens.shape[1] == 3
    assert split_batches(whole.windows, model, 0, 3).tokens.shape[1] == 3  # as small as possible
    params, eval_step = from_tensors(bundle.tensors), make_eval_step(model)
    expected = evaluate(eval_step, params, whole)
    assert evaluate(eval_step, params, split) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_do_not_change_texts(finished: TrainResult, batch_size: int) -> None:
    bundle = load_bundle(finished.directory / "bundle")
    generate = make_generator(bundle)
    sample = SampleConfig(max_new_tokens=40, seed=2**32 - 3)
    expected = [*generate_many_tokens(generate, bundle.tokenizer, sample, 8)]
    texts = generate_many_tokens(generate, bundle.tokenizer, sample, 8, batch_size)
    assert [*texts] == expected
    assert len({tuple(ids) for ids in expected}) == 8


@pytest.mark.slow
def test_a_run_with_limits_says_so_and_samples_less(
    small_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "FREE_FLOPS", 0)
    overrides = {"train.steps": 4, "train.steps_per_dispatch": 2, "train.batch_size": 2}
    every = {f"train.{name}_every": 2 for name in ("eval", "sample", "checkpoint")}
    config, console = load_tiny_config(small_text, **overrides, **every), make_text_console()
    run = train(config, tmp_path / "run", console=console)
    assert "the held-out loss of this run covers " in read_console(console)
    assert (run.directory / "samples.txt").read_text().count("\n---\n") == 2  # one at a time
    assert load_bundle(run.directory / "bundle").manifest["step"] in (2, 4)


@pytest.mark.parametrize(
    "shape",
    [
        {"model.n_embd": 65_536, "model.n_layer": 96, "train.accumulate": 8},  # state
        {"model.n_positions": 65_536, "train.accumulate": 8},  # scores
        {"train.batch_size": 10_000_000},  # logits
    ],
    ids=["weights", "context", "batch"],
)
def test_a_model_that_is_too_large_is_refused_before_anything_is_read(
    tmp_path: Path, shape: dict[str, Any]
) -> None:
    config = load_config(None, {**shape, "data.path": "not there"})
    expected = r"^training this model does not fit into memory: .* GB, found an estimate of .* GB; "
    with pytest.raises(UserError, match=expected):
        train(config, tmp_path / "run", console=make_text_console())
    assert not (tmp_path / "run").exists()


def test_a_limit_of_the_address_space_counts_as_memory() -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (40 << 30, 40 << 30))
from valyrian_jax.files import memory_bytes
assert memory_bytes() <= 40 << 30
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 40 << 30))
assert memory_bytes() == 1 << 30
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_memory_of_a_run_is_not_limited_below_what_small_runs_take() -> None:
    assert limit_memory(load_config(None), DEFAULT_OPTIONS) == budget.FREE_BYTES
