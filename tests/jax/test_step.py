"""One step: compiled once, the same however steps are dispatched, and true to its loss."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from valyrian_jax import loss, model, optim, step
from valyrian_jax.config import Config, ModelConfig, TrainConfig
from valyrian_jax.state import TrainState, init_state

MODEL = ModelConfig(vocab_size=300, n_positions=8, n_embd=16, n_layer=2, n_head=2, dropout=0.2)
CONFIG = Config(model=MODEL, train=TrainConfig(steps=20))
BATCHES = jnp.asarray(np.random.default_rng(0).integers(0, 300, (6, 4, 9)), jnp.int32)


def taken(dispatches: list[int], config: Config = CONFIG) -> TrainState:
    optimizer = optim.make_optimizer(config.optim, config.train.steps)
    train_step, state = step.make_train_step(config, optimizer), init_state(config, optimizer)
    done = 0
    for count in dispatches:
        state, _ = train_step(state, BATCHES[done : done + count])
        done += count
    return state


def test_a_step_compiles_once() -> None:
    optimizer = optim.make_optimizer(CONFIG.optim, 20)
    train_step, state = step.make_train_step(CONFIG, optimizer), init_state(CONFIG, optimizer)
    for _ in range(4):
        state, _ = train_step(state, BATCHES)
    assert train_step._cache_size() == 1
    assert int(state.step) == 24


def test_steps_do_not_depend_on_how_they_are_dispatched() -> None:
    jax.tree.map(np.testing.assert_array_equal, taken([6]), taken([6]))
    # Another dispatch length is another compiled program, so equal to rounding only.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), taken([6]), taken([2, 2, 2]))


def test_dropout_follows_seed_and_step() -> None:
    other = replace(CONFIG, train=replace(CONFIG.train, seed=1))
    start = init_state(CONFIG, optim.make_optimizer(CONFIG.optim, 20))
    losses = []
    for config in (CONFIG, other):
        train_step = step.make_train_step(config, optim.make_optimizer(config.optim, 20))
        for at in (0, 7):
            state = jax.tree.map(jnp.copy, start)._replace(step=jnp.asarray(at, jnp.int32))
            losses.append(float(train_step(state, BATCHES[:1])[1].loss[0]))
    assert len(set(losses)) == 4


def test_the_old_state_is_donated() -> None:
    optimizer = optim.make_optimizer(CONFIG.optim, 20)
    old = init_state(CONFIG, optimizer)
    step.make_train_step(CONFIG, optimizer)(old, BATCHES)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old.params))


def test_evaluation_sums_the_counted_tokens_without_dropout() -> None:
    params = model.init_params(MODEL, jax.random.key(0))
    counted = np.random.default_rng(1).random((6, 4, 8)) < 0.7
    sums = step.make_eval_step(MODEL)(params, BATCHES, jnp.asarray(counted))
    for i in range(6):
        nats = loss.token_nats(model.forward(params, BATCHES[i, :, :-1], MODEL), BATCHES[i, :, 1:])
        np.testing.assert_allclose(sums[i], np.asarray(nats)[counted[i]].sum(), rtol=1e-5)
