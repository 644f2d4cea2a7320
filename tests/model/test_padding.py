"""Padding of the vocabulary changes no weight, loss, step or text, and no bundle contains it."""

import functools
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.tiny import QUICK
from valyrian_jax import tokenizer
from valyrian_jax.bundle.bundle import Bundle, load_bundle, save_bundle
from valyrian_jax.bundle.names import parameter_shapes, unpad_config
from valyrian_jax.config import Config, ModelConfig, OptimConfig, SampleConfig, TrainConfig
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.evaluate import make_eval_step
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.model.parameters import (
    Params,
    from_tensors,
    init_params,
    pad_tensors,
    to_tensors,
    unpad_tensors,
)
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.setup import use_bundle_model
from valyrian_jax.training.train_step import init_state, make_train_step, value_and_gradients

MODEL = ModelConfig(vocab_size=300, n_positions=16, n_embd=16, n_layer=1, n_head=2)
TIED = replace(MODEL, tie_word_embeddings=True)
SHAPES = pytest.mark.parametrize("shape", [MODEL, TIED], ids=["separate", "tied"])
WINDOWS = jnp.asarray(np.random.default_rng(0).integers(0, 300, (5, 4, 17)), jnp.int32)


def pad(shape: ModelConfig) -> ModelConfig:
    return replace(shape, vocab_multiple=64)  # 320 rows


@functools.cache
def make_params(shape: ModelConfig) -> Params:
    return init_params(shape, jax.random.key(0))


def assert_padded(actual: Params, expected: Params, shape: ModelConfig, tolerance: float) -> None:
    """Check that weights are equal within a tolerance and that padding is exactly 0."""
    tensors, plain = to_tensors(actual), to_tensors(expected)
    assert {name: array.shape for name, array in tensors.items()} == parameter_shapes(pad(shape))
    for name, array in unpad_tensors(tensors, shape).items():
        np.testing.assert_allclose(array, plain[name], rtol=0, atol=tolerance, err_msg=name)
    extra = [array[300:] for array in tensors.values() if len(array) == 320]
    assert len(extra) == (1 if shape.tie_word_embeddings else 2)
    assert not np.any(extra)


@SHAPES
def test_padding_does_not_change_initial_weights(shape: ModelConfig) -> None:
    assert_padded(make_params(pad(shape)), make_params(shape), shape, tolerance=0)
    tensors = pad_tensors(to_tensors(make_params(shape)), shape)
    assert tensors.keys() == parameter_shapes(shape).keys()


@SHAPES
def test_padding_does_not_change_loss_and_gradients(shape: ModelConfig) -> None:
    (expected, gradients), (actual, padded_gradients) = (
        jax.jit(functools.partial(value_and_gradients, Config(model=each)), compiler_options=QUICK)(
            make_params(each), WINDOWS[0], jax.random.key(1)
        )
        for each in (shape, pad(shape))
    )
    assert float(actual) == pytest.approx(float(expected), rel=1e-6)
    assert_padded(padded_gradients, gradients, shape, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "rule"), [(MODEL, "adamw"), (TIED, "muon")], ids=["separate", "tied, muon"]
)
def test_padding_does_not_change_twenty_steps(shape: ModelConfig, rule: str) -> None:
    results = []
    for each in (shape, pad(shape)):
        config = Config(
            model=each, optim=OptimConfig(name=rule, lr=1e-2), train=TrainConfig(batch_size=4)
        )
        optimizer = make_optimizer(config.optim, 20)
        state, losses = init_state(config, optimizer), []
        train_step = jax.jit(make_train_step(config, optimizer), compiler_options=QUICK)
        for _ in range(4):
            state, metrics = train_step(state, WINDOWS)
            losses += metrics.loss.tolist()
        # Attention does not depend on the bias of keys. Its gradient is rounding only, but Adam
        # takes full steps of it.
        c_attn = state.params["transformer"]["h"]["0"]["attn"]["c_attn"]
        c_attn["bias"] = c_attn["bias"].at[16:32].set(0)
        results.append((losses, state.params))
    (expected, params), (actual, padded_params) = results
    assert actual[-1] < actual[0] - 0.2
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert_padded(padded_params, params, shape, 1e-4)


def test_padding_does_not_change_evaluation() -> None:
    counted = jnp.ones((5, 4, 16), bool)
    sums = [make_eval_step(each)(make_params(each), WINDOWS, counted) for each in (TIED, pad(TIED))]
    np.testing.assert_allclose(sums[1], sums[0], rtol=1e-6)


SETTINGS = [
    (0.0, 0, 1.0),
    (1.0, 0, 1.0),
    (1.0, 0, 0.9),
    (0.7, 20, 1.0),
    (1.5, 310, 1.0),
    (1.5, 310, 2.0),
]


def test_padding_does_not_change_texts() -> None:
    shapes = TIED, pad(TIED)
    params_of = {each: jax.tree.map(lambda x: 3 * x, make_params(each)) for each in shapes}
    for temperature, top_k, top_p in SETTINGS:  # top_k 310 is between tokens and rows
        sample = SampleConfig(
            temperature=temperature, top_k=top_k, top_p=top_p, seed=3, max_new_tokens=30
        )
        texts = [
            np.stack(list(stream_tokens(params, each, [[1, 2]] * 2, [3, 4], sample)))
            for each, params in params_of.items()
        ]
        np.testing.assert_array_equal(*texts)
        assert texts[1].max() < 300


def test_padding_is_never_sampled_from_equal_logits() -> None:
    """All logits are 0, so without the mask one token in 16 would be padding."""
    zeros = jax.tree.map(jnp.zeros_like, make_params(pad(TIED)))
    sample = SampleConfig(temperature=5.0, top_p=1.0, max_new_tokens=200)
    rows = np.stack(list(stream_tokens(zeros, pad(TIED), [[1]] * 2, [0, 1], sample)))
    assert rows.max() < 300
    assert len(np.unique(rows)) > 150


def test_saving_a_bundle_removes_padding_and_loading_restores_it(tmp_path: Path) -> None:
    directory = tmp_path / "bundle"
    text = "the dragon sees the wolf and the wolf sees the river " * 50
    vocabulary = tokenizer.train_bpe(text, 270)
    shape = replace(TIED, vocab_size=270)
    params = make_params(pad(shape))
    tensors = unpad_tensors(to_tensors(params), pad(shape))
    with pytest.raises(UserError, match="has shape"):
        save_bundle(Bundle(unpad_config(pad(shape)), to_tensors(params), vocabulary), directory)
    save_bundle(Bundle(unpad_config(pad(shape)), tensors, vocabulary), directory)
    bundle = load_bundle(directory)
    assert bundle.model == shape
    config = use_bundle_model(Config(model=ModelConfig(vocab_multiple=64)), bundle)
    assert config.model == pad(shape)
    restored = from_tensors(pad_tensors(bundle.tensors, config.model))
    jax.tree.map(np.testing.assert_array_equal, restored, params)
