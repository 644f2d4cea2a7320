"""Rows that pad the vocabulary: weights, losses, steps and texts are those without, and no bundle has any."""

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
from valyrian_jax.training.setup import initial_config
from valyrian_jax.training.train_step import init_state, make_train_step, value_and_gradients

MODEL = ModelConfig(vocab_size=300, n_positions=16, n_embd=16, n_layer=1, n_head=2)
TIED = replace(MODEL, tie_word_embeddings=True)
SHAPES = pytest.mark.parametrize("shape", [MODEL, TIED], ids=["separate", "tied"])
WINDOWS = jnp.asarray(np.random.default_rng(0).integers(0, 300, (5, 4, 17)), jnp.int32)


def padded(shape: ModelConfig) -> ModelConfig:
    return replace(shape, vocab_multiple=64)  # 320 rows


@functools.cache
def drawn(shape: ModelConfig) -> Params:
    return init_params(shape, jax.random.key(0))


def assert_padded(found: Params, expected: Params, shape: ModelConfig, tolerance: float) -> None:
    """Equal to rounding, with rows of exact zeros."""
    tensors, plain = to_tensors(found), to_tensors(expected)
    assert {name: array.shape for name, array in tensors.items()} == parameter_shapes(padded(shape))
    for name, array in unpad_tensors(tensors, shape).items():
        np.testing.assert_allclose(array, plain[name], rtol=0, atol=tolerance, err_msg=name)
    extra = [array[300:] for array in tensors.values() if len(array) == 320]
    assert len(extra) == (1 if shape.tie_word_embeddings else 2)
    assert not np.any(extra)


@SHAPES
def test_the_weights_drawn_are_those_without_padding(shape: ModelConfig) -> None:
    assert_padded(drawn(padded(shape)), drawn(shape), shape, tolerance=0)
    assert pad_tensors(to_tensors(drawn(shape)), shape).keys() == parameter_shapes(shape).keys()


@SHAPES
def test_loss_and_gradients_are_those_without_padding(shape: ModelConfig) -> None:
    (value, gradients), (ours, our_gradients) = (
        jax.jit(functools.partial(value_and_gradients, Config(model=each)), compiler_options=QUICK)(
            drawn(each), WINDOWS[0], jax.random.key(1)
        )
        for each in (shape, padded(shape))
    )
    assert float(ours) == pytest.approx(float(value), rel=1e-6)
    assert_padded(our_gradients, gradients, shape, 1e-6)


@pytest.mark.parametrize(
    ("shape", "rule"), [(MODEL, "adamw"), (TIED, "muon")], ids=["separate", "tied, muon"]
)
def test_twenty_steps_are_those_without_padding(shape: ModelConfig, rule: str) -> None:
    ends = []
    for each in (shape, padded(shape)):
        config = Config(
            model=each, optim=OptimConfig(name=rule, lr=1e-2), train=TrainConfig(batch_size=4)
        )
        optimizer = make_optimizer(config.optim, 20)
        now, losses = init_state(config, optimizer), []
        train_step = jax.jit(make_train_step(config, optimizer), compiler_options=QUICK)
        for _ in range(4):
            now, metrics = train_step(now, WINDOWS)
            losses += metrics.loss.tolist()
        # Attention does not depend on the bias of keys: Adam makes whole steps of its gradient, which is rounding.
        bias = now.params["transformer"]["h"]["0"]["attn"]["c_attn"]["bias"]
        now.params["transformer"]["h"]["0"]["attn"]["c_attn"]["bias"] = bias.at[16:32].set(0)
        ends.append((losses, now.params))
    (theirs, params), (ours, our_params) = ends
    assert ours[-1] < ours[0] - 0.2
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert_padded(our_params, params, shape, 1e-4)


def test_evaluation_does_not_see_the_padding() -> None:
    counted = jnp.ones((5, 4, 16), bool)
    sums = [make_eval_step(each)(drawn(each), WINDOWS, counted) for each in (TIED, padded(TIED))]
    np.testing.assert_allclose(sums[1], sums[0], rtol=1e-6)


WAYS = [
    (0.0, 0, 1.0),
    (1.0, 0, 1.0),
    (1.0, 0, 0.9),
    (0.7, 20, 1.0),
    (1.5, 310, 1.0),
    (1.5, 310, 2.0),
]


def test_texts_are_those_without_padding() -> None:
    loud = {each: jax.tree.map(lambda x: 3 * x, drawn(each)) for each in (TIED, padded(TIED))}
    for temperature, top_k, top_p in WAYS:  # 310: more than there are tokens, fewer than rows
        sample = SampleConfig(
            temperature=temperature, top_k=top_k, top_p=top_p, seed=3, max_new_tokens=30
        )
        texts = [
            np.stack(list(stream_tokens(params, each, [1, 2], sample, rows=2)))
            for each, params in loud.items()
        ]
        np.testing.assert_array_equal(*texts)
        assert texts[1].max() < 300


def test_no_draw_takes_padding_where_all_is_equally_probable() -> None:
    """Every score is 0, so without the mask one draw in 16 would fall on the padding."""
    silent = jax.tree.map(jnp.zeros_like, drawn(padded(TIED)))
    sample = SampleConfig(temperature=5.0, top_p=1.0, max_new_tokens=200)
    rows = np.stack(list(stream_tokens(silent, padded(TIED), [1], sample, rows=2)))
    assert rows.max() < 300
    assert len(np.unique(rows)) > 150


def test_a_bundle_has_no_padding_and_comes_back_with_it(tmp_path: Path) -> None:
    directory = tmp_path / "bundle"
    learnt = tokenizer.train_bpe("the dragon sees the wolf and the wolf sees the river " * 50, 270)
    shape = replace(TIED, vocab_size=270)
    params = drawn(padded(shape))
    tensors = unpad_tensors(to_tensors(params), padded(shape))
    with pytest.raises(UserError, match="has shape"):
        save_bundle(Bundle(unpad_config(padded(shape)), to_tensors(params), learnt), directory)
    save_bundle(Bundle(unpad_config(padded(shape)), tensors, learnt), directory)
    found = load_bundle(directory)
    assert found.model == shape
    config = initial_config(found, Config(model=ModelConfig(vocab_multiple=64)))
    assert config.model == padded(shape)
    again = from_tensors(pad_tensors(found.tensors, config.model))
    jax.tree.map(np.testing.assert_array_equal, again, params)
