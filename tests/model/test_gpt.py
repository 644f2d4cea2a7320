"""The model: causality, dropout, initialisation, parameter names, cache and learning."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.config import ModelConfig
from valyrian_jax.model import gpt
from valyrian_jax.model.layers import dropout
from valyrian_jax.model.loss import cross_entropy
from valyrian_jax.model.parameters import Params, from_tensors, init_params, to_tensors

CONFIG = ModelConfig(vocab_size=300, n_positions=16, n_embd=24, n_layer=2, n_head=4, dropout=0.3)
WIDE = ModelConfig(n_embd=256, n_layer=3, init_std=0.02)  # enough weights to measure their spread
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 300, (2, 16)), jnp.int32)


@functools.partial(jax.jit, static_argnames="config")
def forward(
    params: Params, tokens: jax.Array, config: ModelConfig, key: jax.Array | None = None
) -> jax.Array:
    return gpt.forward(params, tokens, config, key)


@functools.partial(jax.jit, static_argnames="config")
def forward_cached(
    params: Params, tokens: jax.Array, config: ModelConfig, cache: gpt.Cache
) -> tuple[jax.Array, gpt.Cache]:
    return gpt.forward_cached(params, tokens, config, cache)


@pytest.fixture(scope="module")
def params() -> Params:
    return init_params(CONFIG, jax.random.key(0))


def test_changing_a_token_changes_no_logit_before_it(params: Params) -> None:
    before = forward(params, TOKENS, CONFIG)
    for t in range(16):
        after = forward(params, TOKENS.at[:, t].add(1), CONFIG)
        changed = np.abs(np.asarray(after - before)).max(axis=(0, 2)) > 0
        assert not changed[:t].any()
        assert changed[t]


@pytest.mark.parametrize("tied", [False, True])
def test_parameters_match_the_name_table(tied: bool) -> None:
    config = replace(WIDE, tie_word_embeddings=tied)
    params = init_params(config, jax.random.key(0))
    tensors = to_tensors(params)
    assert {name: array.shape for name, array in tensors.items()} == parameter_shapes(config)
    assert all(array.dtype == np.float32 for array in tensors.values())
    jax.tree.map(np.testing.assert_array_equal, params, from_tensors(tensors))


def test_the_default_model_has_549696_parameters() -> None:
    assert sum(np.prod(shape) for shape in parameter_shapes(ModelConfig()).values()) == 549_696


@pytest.mark.parametrize(
    ("layers", "width", "heads", "count"),
    [(12, 768, 12, 124_439_808), (48, 1600, 25, 1_557_611_200)],
)
def test_gpt2_sizes_have_gpt2_shapes(layers: int, width: int, heads: int, count: int) -> None:
    config = ModelConfig(50257, 1024, width, layers, heads, tie_word_embeddings=True)
    shapes = jax.eval_shape(lambda key: init_params(config, key), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count
    tokens = jax.ShapeDtypeStruct((1, 1024), jnp.int32)
    logits = jax.eval_shape(
        lambda params, tokens: gpt.forward(params, tokens, config), shapes, tokens
    )
    assert logits.shape == (1, 1024, 50257)


@pytest.mark.parametrize("tied", [False, True])
def test_initial_weights_have_the_configured_mean_and_spread(tied: bool) -> None:
    config = replace(WIDE, tie_word_embeddings=tied)
    tensors = to_tensors(init_params(config, jax.random.key(1)))
    for name, array in tensors.items():
        if name.endswith("bias"):
            assert not array.any()
        elif ".ln_" in name:
            assert (array == 1).all()
        else:
            expected = 0.02 / np.sqrt(2 * 3) if "c_proj" in name else 0.02
            expected *= 4 if "wte" in name and not tied else 1
            assert array.std() == pytest.approx(expected, rel=0.02), name
            assert abs(array.mean()) < 0.02 * expected + 1e-4, name
    weights = [tensors[f"transformer.h.{i}.mlp.c_fc.weight"] for i in range(2)]
    assert not np.array_equal(*weights)


def test_dropout_needs_a_key_and_depends_on_it(params: Params) -> None:
    off = forward(params, TOKENS, CONFIG)
    np.testing.assert_array_equal(off, forward(params, TOKENS, CONFIG))
    one, again, two = (forward(params, TOKENS, CONFIG, jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, two)
    assert not np.allclose(one, off)


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5])
def test_dropout_zeroes_its_share_and_keeps_the_mean(rate: float) -> None:
    x = jnp.ones((1001, 999))
    dropped = np.asarray(dropout(x, rate, jax.random.key(3)))
    assert (dropped == 0).mean() == pytest.approx(rate, abs=0.003)
    assert dropped.mean() == pytest.approx(1, abs=0.003)
    # The bytes of one random word are independent.
    assert np.abs(np.corrcoef(dropped.ravel()[:-1], dropped.ravel()[1:])[0, 1]) < 0.005
    np.testing.assert_array_equal(dropout(x, 0.0, jax.random.key(3)), x)


def test_every_dropout_has_a_different_key(monkeypatch: pytest.MonkeyPatch, params: Params) -> None:
    @jax.jit
    def collect_keys() -> list[jax.Array]:
        keys = []

        def record_key(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
            keys.append(jax.random.key_data(key))
            return dropout(x, rate, key)

        monkeypatch.setattr(gpt, "dropout", record_key)
        gpt.forward(params, TOKENS, CONFIG, jax.random.key(0))
        return keys

    keys = [tuple(key.tolist()) for key in collect_keys()]
    assert len(keys) == len(set(keys)) == 1 + 3 * CONFIG.n_layer


def test_cached_forward_gives_the_same_logits(params: Params) -> None:
    expected = forward(params, TOKENS, CONFIG)
    cache = gpt.empty_cache(CONFIG, 2)
    for start, stop in ((0, 5), (5, 6), (6, 11), (11, 16)):
        logits, cache = forward_cached(params, TOKENS[:, start:stop], CONFIG, cache)
        np.testing.assert_allclose(logits, expected[:, start:stop], atol=1e-5)
    assert cache.lengths.tolist() == [16, 16]


def test_forward_needs_no_implicit_promotion(params: Params) -> None:
    with jax.numpy_dtype_promotion("strict"):
        logits = jax.eval_shape(lambda: gpt.forward(params, TOKENS, CONFIG, jax.random.key(0)))
    assert logits.dtype == jnp.float32


def test_a_tiny_model_overfits_one_batch() -> None:
    config = ModelConfig(
        vocab_size=257, n_positions=16, n_embd=32, n_layer=2, n_head=2, dropout=0.0
    )
    params = init_params(config, jax.random.key(0))
    batch = jnp.asarray(np.random.default_rng(1).integers(0, 257, (4, 17)), jnp.int32)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params: Params, state: optax.OptState) -> tuple[Params, optax.OptState, jax.Array]:
        value, gradients = jax.value_and_grad(
            lambda p: cross_entropy(gpt.forward(p, batch[:, :-1], config), batch[:, 1:])
        )(params)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, value

    state = optimizer.init(params)
    first = None
    for _ in range(150):
        params, state, value = step(params, state)
        first = value if first is None else first
    assert float(first) == pytest.approx(np.log(257), abs=0.1)
    assert float(value) < 0.01
