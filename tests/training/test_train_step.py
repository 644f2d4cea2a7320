"""One step compiles once, does not depend on the dispatch, and computes its loss correctly."""

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


def make_step(config: Config) -> TrainStep:
    return make_train_step(config, make_optimizer(config.optim, 20))


def train_in_dispatches(counts: list[int]) -> TrainState:
    state, step = new_state(), 0
    for count in counts:
        state, _ = make_step(CONFIG)(state, BATCHES[step : step + count])
        step += count
    return state


def test_equal_steps_compile_once() -> None:
    config = replace(CONFIG, data=replace(CONFIG.data, path="another text"))
    train_step, state = make_step(CONFIG), new_state()
    state, _ = train_step(state, BATCHES)
    compiled = train_step._cache_size()
    for _ in range(3):
        state, _ = make_step(config)(state, BATCHES)
    assert train_step._cache_size() == compiled
    assert make_step(config) is train_step
    assert make_step(replace(CONFIG, train=replace(CONFIG.train, seed=1))) is not train_step
    assert int(state.step) == 24


def test_steps_do_not_depend_on_their_dispatches() -> None:
    expected = train_in_dispatches([6])
    jax.tree.map(np.testing.assert_array_equal, train_in_dispatches([6]), expected)
    # Another dispatch length is another compiled program, so it is equal up to rounding only.
    assert_close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    jax.tree.map(assert_close, expected, train_in_dispatches([2, 2, 2]))


def test_dropout_depends_on_seed_and_step() -> None:
    losses = set()
    for seed in (0, 1):
        config = replace(CONFIG, train=replace(CONFIG.train, seed=seed))
        for step in (0, 7):
            state = new_state()._replace(step=jnp.asarray(step, jnp.int32))
            losses.add(float(make_step(config)(state, BATCHES)[1].loss[0]))
    assert len(losses) == 4


def test_the_old_state_is_donated() -> None:
    old = new_state()
    make_step(CONFIG)(old, BATCHES)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old.params))


def test_a_step_that_is_not_finite_changes_only_the_count() -> None:
    state, before = new_state(), new_state()
    for each in (state, before):
        wte = each.params["transformer"]["wte"]
        wte["weight"] = wte["weight"].at[299].set(3e38)  # Token 299 makes the loss infinite.
    batches = jnp.where(BATCHES == 299, 0, BATCHES).at[:, 0, 0].set(299)
    state, metrics = make_step(CONFIG)(state, batches)
    assert not metrics.taken.any()
    assert int(state.step) == 6
    jax.tree.map(np.testing.assert_array_equal, state[1:], before[1:])
    _, metrics = make_step(CONFIG)(new_state(), batches)
    assert metrics.taken.all()


def test_evaluation_sums_the_counted_tokens_without_dropout() -> None:
    params = init_params(MODEL, jax.random.key(0))
    counted = np.random.default_rng(1).random((6, 4, 8)) < 0.7
    sums = make_eval_step(MODEL)(params, BATCHES, jnp.asarray(counted))
    compute_nats = jax.jit(
        lambda batch: token_cross_entropy(forward(params, batch[:, :-1], MODEL), batch[:, 1:])
    )
    for i in range(6):
        nats = np.asarray(compute_nats(BATCHES[i]))
        np.testing.assert_allclose(sums[i], nats[counted[i]].sum(), rtol=1e-5)


LARGER = Config(
    model=ModelConfig(vocab_size=300, n_positions=32, n_embd=32, n_layer=4, n_head=2),
    train=TrainConfig(batch_size=16, steps=20),
)
WINDOWS = jnp.asarray(np.random.default_rng(1).integers(0, 300, (16, 33)), jnp.int32)


def compile_gradients(**changes: Any) -> Any:
    """Compile loss and gradients of a batch, with other training settings."""
    config = replace(LARGER, train=replace(LARGER.train, **changes))
    params = jax.eval_shape(lambda: init_params(LARGER.model, jax.random.key(0)))
    compute = jax.jit(functools.partial(value_and_gradients, config))
    return compute.lower(params, WINDOWS, jax.random.key(1)).compile()


def run_gradients(program: Any) -> tuple[float, np.ndarray]:
    """Return the loss, and all gradients as one vector; both must be float32."""
    params = init_params(LARGER.model, jax.random.key(0))
    loss, gradients = program(params, WINDOWS, jax.random.key(1))
    arrays = jax.tree.leaves(gradients)
    assert {array.dtype.name for array in [loss, *arrays]} == {"float32"}
    return float(loss), np.concatenate([array.ravel() for array in arrays])


def temporary_bytes(program: Any) -> int:
    return int(program.memory_analysis().temp_size_in_bytes)


@pytest.fixture(scope="module")
def program() -> Any:
    """Loss and gradients of a whole batch in float32, compiled."""
    return compile_gradients()


def test_microbatches_give_the_gradient_of_the_batch_in_less_memory(program: Any) -> None:
    accumulating = compile_gradients(accumulate=4)
    (expected_loss, expected), (loss, gradient) = map(run_gradients, (program, accumulating))
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    np.testing.assert_allclose(gradient, expected, atol=1e-7)
    assert temporary_bytes(accumulating) < 0.5 * temporary_bytes(program)


def test_microbatches_have_different_dropout() -> None:
    windows = jnp.tile(BATCHES[0], (2, 1))
    config = replace(CONFIG, train=replace(CONFIG.train, batch_size=8, accumulate=2))
    params, key = new_state().params, jax.random.key(0)
    compute = jax.jit(value_and_gradients, static_argnums=0)
    first = compute(CONFIG, params, BATCHES[0], jax.random.fold_in(key, 0))[0]
    mean = compute(config, params, windows, key)[0]
    assert abs(first - mean) > 1e-4


def test_bfloat16_computes_about_the_same_and_keeps_the_gradients_in_float32(program: Any) -> None:
    narrow = compile_gradients(dtype="bfloat16")
    assert "bf16" in narrow.as_text()
    assert "bf16" not in program.as_text()
    (expected_loss, expected), (loss, gradient) = map(run_gradients, (program, narrow))
    assert loss == pytest.approx(expected_loss, rel=2e-3)
    cosine = expected @ gradient / np.linalg.norm(expected) / np.linalg.norm(gradient)
    assert 0.999 < cosine < 1
