"""Estimates of memory are near what XLA reports for its compiled programs."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from valyrian_jax.bundle.memory import (
    ACCURACY,
    MAX_TEXTS,
    check_memory,
    count_texts,
    estimate_memory,
)
from valyrian_jax.config import Config, ModelConfig, load_config
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.evaluate import make_eval_step
from valyrian_jax.files import memory_bytes
from valyrian_jax.generation.generate import prefill
from valyrian_jax.generation.sampler import SamplingParams
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import ComputeOptions
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.train_step import abstract_state, make_train_step

pytestmark = pytest.mark.slow

WIDE_VOCABULARY: dict[str, Any] = {
    "model.vocab_size": 8000,
    "model.n_positions": 64,
    "model.n_layer": 2,
    "train.batch_size": 8,
}
LONG_CONTEXT: dict[str, Any] = {
    "model.n_positions": 256,
    "model.n_embd": 96,
    "model.n_layer": 2,
    "train.batch_size": 8,
}


def measure_training(config: Config) -> int:
    """Return the bytes of a compiled training step: its state, and what it needs beyond."""
    mesh, train = sharding.single_device_mesh(), config.train
    options = ComputeOptions(train.scan_layers, train.remat, mesh=mesh)
    optimizer = make_optimizer(config.optim, train.steps)
    state = abstract_state(config, optimizer, mesh)
    shape = (1, train.batch_size, config.model.n_positions + 1)
    batch = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding.batch_sharding(mesh))
    train_step: Any = make_train_step(config, optimizer, options)
    return measure(train_step.lower(state, batch))


def measure(lowered: Any) -> int:
    memory = lowered.compile().memory_analysis()
    in_place = memory.alias_size_in_bytes
    outputs = memory.output_size_in_bytes - in_place
    return int(memory.argument_size_in_bytes + outputs + memory.temp_size_in_bytes)


def assert_near(estimate: int, measured: int) -> None:
    assert measured / ACCURACY < estimate < measured * ACCURACY


@pytest.mark.parametrize(
    "shape",
    [
        WIDE_VOCABULARY,
        LONG_CONTEXT | {"train.accumulate": 4},
        # XLA on a CPU rematerialises in a loop only.
        LONG_CONTEXT | {"train.remat": True, "train.scan_layers": True},
    ],
    ids=["vocabulary", "accumulate", "remat"],
)
def test_the_memory_of_training_is_estimated(shape: dict[str, Any]) -> None:
    config = load_config(None, shape)
    estimate = estimate_memory(config.model, config.train)
    assert_near(estimate.training, measure_training(config))


@pytest.mark.parametrize("shape", [WIDE_VOCABULARY, LONG_CONTEXT], ids=["vocabulary", "context"])
def test_the_memory_of_evaluation_and_generation_is_estimated(shape: dict[str, Any]) -> None:
    config, rows = load_config(None, shape), 8
    estimate, model = estimate_memory(config.model, config.train), config.model
    mesh = sharding.single_device_mesh()
    optimizer = make_optimizer(config.optim, config.train.steps)
    params = abstract_state(config, optimizer, mesh).params
    windows = jax.ShapeDtypeStruct((1, rows, model.n_positions + 1), jnp.int32)
    counted = jax.ShapeDtypeStruct((1, rows, model.n_positions), bool)
    eval_step: Any = make_eval_step(model)
    evaluation = measure(eval_step.lower(params, windows, counted))
    assert_near(estimate.weights + estimate.evaluation, evaluation)
    sampling = SamplingParams(jnp.zeros(rows, jnp.uint32), 0.8, 0, 0.95)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    lengths = jax.ShapeDtypeStruct((rows,), jnp.int32)
    tokens = jax.ShapeDtypeStruct((rows, model.n_positions), jnp.int32)
    generation = measure(prefill.lower(params, tokens, lengths, sampling, number, model))
    assert_near(estimate.weights + rows * estimate.text, generation)


def test_the_estimates_follow_the_reported_memory_of_an_h100() -> None:
    # tests/bench/README.md: state and temporary of the presets, compiled for an H100 with cuDNN.
    reported = {"124m": 1.50 + 18.38, "350m": 4.26 + 18.85, "774m": 9.29 + 36.38}
    for name, gigabytes in reported.items():
        config = load_config(f"configs/gpt2-{name}.toml")
        estimate = estimate_memory(config.model, config.train, keeps_scores=False)
        assert estimate.training / 1e9 == pytest.approx(gigabytes, rel=0.1)


def test_fewer_texts_are_generated_together_where_they_are_large() -> None:
    assert count_texts(ModelConfig()) == MAX_TEXTS
    gpt2 = load_config("configs/gpt2-124m.toml").model
    text = estimate_memory(gpt2).text
    assert count_texts(gpt2, 5 * text) == 5
    assert count_texts(gpt2, text // 2) == 1


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    gigabyte = 10**9
    check = functools.partial(check_memory, purpose="training this model", remedy="buy more")
    check(int(1.4 * gigabyte), gigabyte)
    expected = "training this model does not fit into memory: expected at most 1.00 GB, found an "
    with pytest.raises(UserError, match=f"^{expected}estimate of 1.60 GB; buy more$"):
        check(int(1.6 * gigabyte), gigabyte)
    assert memory_bytes() > 1 << 28
