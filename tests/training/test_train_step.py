"""One step: compiled once, the same however steps are dispatched, and true to its loss."""

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valyrian_jax.config import Config, ModelConfig, TrainConfig
from valyrian_jax.evaluation.evaluate import make_eval_step
from valyrian_jax.model.gpt import forward
from valyrian_jax.model.loss import token_cross_entropy
from valyrian_jax.model.parameters import init_params
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.train_step import (
    TrainState,
    TrainStep,
    init_state,
    make_train_step,
    value_and_gradients,
)

MODEL = ModelConfig(vocab_size=300, n_positions=8, n_embd=16, n_layer=1, n_head=2, dropout=0.2)
CONFIG = Config(model=MODEL, train=TrainConfig(steps=20))
BATCHES = jnp.asarray(np.random.default_rng(0).integers(0, 300, (6, 4, 9)), jnp.int32)


def new_state() -> TrainState:
    return init_state(CONFIG, make_optimizer(CONFIG.optim, 20))


@functools.cache
def train_step_of(config: Config) -> TrainStep:
    return make_train_step(config, make_optimizer(config.optim, 20))


def taken(dispatches: list[int]) -> TrainState:
    state, done = new_state(), 0
    for count in dispatches:
        state, _ = train_step_of(CONFIG)(state, BATCHES[done : done + count])
        done += count
    return state


def test_a_step_compiles_once() -> None:
    train_step = make_train_step(CONFIG, make_optimizer(CONFIG.optim, 20))
    state = new_state()
    for _ in range(4):
        state, _ = train_step(state, BATCHES)
    assert train_step._cache_size() == 1
    assert int(state.step) == 24


def test_steps_do_not_depend_on_how_they_are_dispatched() -> None:
    jax.tree.map(np.testing.assert_array_equal, taken([6]), taken([6]))
    # Another dispatch length is another compiled program, so equal to rounding only.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), taken([6]), taken([2, 2, 2])
    )


def test_dropout_follows_seed_and_step() -> None:
    other = replace(CONFIG, train=replace(CONFIG.train, seed=1))
    losses = []
    for config in (CONFIG, other):
        for at in (0, 7):
            state = new_state()._replace(
                step=jnp.asarray(at, jnp.int32)
            )  # the same weights every time
            losses.append(float(train_step_of(config)(state, BATCHES)[1].loss[0]))
    assert len(set(losses)) == 4


def test_the_old_state_is_donated() -> None:
    old = new_state()
    train_step_of(CONFIG)(old, BATCHES)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old.params))


def test_a_step_that_is_not_finite_changes_nothing_but_the_count() -> None:
    state, before = new_state(), new_state()
    for each in (state, before):
        wte = each.params["transformer"]["wte"]
        wte["weight"] = (
            wte["weight"].at[299].set(3e38)
        )  # whoever reads this token has no finite loss
    batches = jnp.where(BATCHES == 299, 0, BATCHES).at[:, 0, 0].set(299)
    state, metrics = train_step_of(CONFIG)(state, batches)
    assert not metrics.taken.any()
    assert int(state.step) == 6
    jax.tree.map(np.testing.assert_array_equal, state[1:], before[1:])
    _, metrics = train_step_of(CONFIG)(new_state(), batches)
    assert metrics.taken.all()


def test_evaluation_sums_the_counted_tokens_without_dropout() -> None:
    params = init_params(MODEL, jax.random.key(0))
    counted = np.random.default_rng(1).random((6, 4, 8)) < 0.7
    sums = make_eval_step(MODEL)(params, BATCHES, jnp.asarray(counted))
    nats_of = jax.jit(
        lambda batch: token_cross_entropy(forward(params, batch[:, :-1], MODEL), batch[:, 1:])
    )
    for i in range(6):
        nats = nats_of(BATCHES[i])
        np.testing.assert_allclose(sums[i], np.asarray(nats)[counted[i]].sum(), rtol=1e-5)


BIG = Config(
    model=ModelConfig(vocab_size=300, n_positions=32, n_embd=32, n_layer=4, n_head=2),
    train=TrainConfig(batch_size=16, steps=20),
)
WINDOWS = jnp.asarray(np.random.default_rng(1).integers(0, 300, (16, 33)), jnp.int32)


def compiled(**changes: Any) -> Any:
    """Loss and gradients of a batch, compiled, with other training settings."""
    config = replace(BIG, train=replace(BIG.train, **changes))
    params = jax.eval_shape(lambda: init_params(BIG.model, jax.random.key(0)))
    found = functools.partial(value_and_gradients, config)
    return jax.jit(found).lower(params, WINDOWS, jax.random.key(1)).compile()


def found(program: Any) -> tuple[float, np.ndarray]:
    """The loss, and all gradients as one vector, which must be float32."""
    value, gradients = program(
        init_params(BIG.model, jax.random.key(0)), WINDOWS, jax.random.key(1)
    )
    arrays = jax.tree.leaves(gradients)
    assert {array.dtype.name for array in [value, *arrays]} == {"float32"}
    return float(value), np.concatenate([array.ravel() for array in arrays])


@functools.cache
def whole() -> tuple[Any, tuple[float, np.ndarray]]:
    program = compiled()
    return program, found(program)


def temporary(program: Any) -> int:
    return int(program.memory_analysis().temp_size_in_bytes)


def test_a_batch_in_parts_has_the_gradient_of_the_whole_and_takes_less_memory() -> None:
    program, (value, gradient) = whole()
    parts = compiled(accumulate=4)
    value_of_parts, gradient_of_parts = found(parts)
    assert value_of_parts == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(gradient_of_parts, gradient, atol=1e-7)
    assert temporary(parts) < 0.5 * temporary(program)


def test_the_parts_of_a_batch_drop_otherwise() -> None:
    twice = jnp.tile(BATCHES[0], (2, 1))
    dropping = replace(CONFIG, train=replace(CONFIG.train, batch_size=8, accumulate=2))
    params, key = new_state().params, jax.random.key(0)
    of = jax.jit(value_and_gradients, static_argnums=0)
    first = of(CONFIG, params, BATCHES[0], jax.random.fold_in(key, 0))[0]
    both = of(dropping, params, twice, key)[0]
    assert abs(first - both) > 1e-4


def test_bfloat16_computes_about_the_same_and_keeps_the_state_in_float32() -> None:
    _, (value, gradient) = whole()
    narrow = compiled(dtype="bfloat16")
    assert "bf16" in narrow.as_text()
    narrow_value, narrow_gradient = found(narrow)
    assert narrow_value == pytest.approx(value, rel=2e-3)
    cosine = gradient @ narrow_gradient / np.linalg.norm(gradient) / np.linalg.norm(narrow_gradient)
    assert 0.999 < cosine < 1
    assert "bf16" not in whole()[0].as_text()
