"""One training step and one evaluation, as pure jitted functions.

N batches of B windows; a window is W = T + 1 tokens, so that each of its T inputs has a target.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from valyrian_jax.config import Config
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import DEFAULT_OPTIONS, ComputeOptions, compiler_options
from valyrian_jax.model.gpt import forward
from valyrian_jax.model.loss import cross_entropy
from valyrian_jax.model.parameters import Params
from valyrian_jax.training.state import TrainState, abstract_state


class StepMetrics(NamedTuple):
    """What each of N steps reports."""

    loss: Float[Array, "N"]
    grad_norm: Float[Array, "N"]
    taken: Bool[Array, "N"]


TrainStep = Callable[[TrainState, Int[Array, "N B W"]], tuple[TrainState, StepMetrics]]


def make_train_step(
    config: Config, optimizer: optax.GradientTransformation, how: ComputeOptions = DEFAULT_OPTIONS
) -> TrainStep:
    """A function that takes N steps in one dispatch, one for each of N batches, on a mesh or the first device.

    A step whose loss, gradient or update is not finite is not taken: parameters and optimizer state, with its own
    count of steps, stay as they were, and only the batch is used up. So parameters are always finite.

    The state is donated: its memory is reused, so the old state must not be read afterwards.
    """
    dropout_key = jax.random.fold_in(jax.random.key(config.train.seed), 1)

    def one_step(state: TrainState, batch: Int[Array, "B W"]) -> tuple[TrainState, StepMetrics]:
        key = jax.random.fold_in(dropout_key, state.step)
        value, gradients = value_and_gradients(config, state.params, batch, key, how)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        norm = optax.tree.norm(gradients)
        taken = jnp.isfinite(value + norm + optax.tree.norm(updates))
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(taken, new, old), (params, opt_state), (state.params, state.opt_state)
        )
        return TrainState(state.step + 1, params, opt_state), StepMetrics(value, norm, taken)

    def train_step(state: TrainState, batches: Int[Array, "N B W"]) -> tuple[TrainState, StepMetrics]:
        return jax.lax.scan(one_step, state, batches)

    mesh = how.mesh or sharding.single_device_mesh()
    places = jax.tree.map(lambda array: array.sharding, abstract_state(config, optimizer, mesh))
    return jax.jit(
        train_step,
        donate_argnums=0,
        in_shardings=(places, sharding.batch_sharding(mesh)),
        out_shardings=(places, sharding.named_sharding(mesh)),
        compiler_options=compiler_options(mesh),
    )


def value_and_gradients(
    config: Config, params: Params, batch: Int[Array, "B W"], key: PRNGKeyArray, how: ComputeOptions = DEFAULT_OPTIONS
) -> tuple[Float[Array, ""], Params]:
    """The training loss of a batch and its gradient, float32, computed in `train.accumulate` parts of equal size."""
    settings = config.train
    narrow = jax.tree.map(lambda array: array.astype(settings.dtype), params)

    @jax.value_and_grad
    def objective(narrow: Params, part: Int[Array, "P W"], key: PRNGKeyArray) -> Float[Array, ""]:
        return cross_entropy(forward(narrow, part[:, :-1], config.model, key, how), part[:, 1:])

    def compute_part(part: Int[Array, "P W"], key: PRNGKeyArray) -> tuple[Float[Array, ""], Params]:
        value, gradients = objective(narrow, part, key)
        return value, jax.tree.map(lambda array: array.astype(jnp.float32), gradients)

    if settings.accumulate == 1:
        return compute_part(batch, key)

    def add(total: tuple[Array, Params], part: tuple[Array, Array]) -> tuple[tuple[Array, Params], None]:
        windows, index = part
        return jax.tree.map(jnp.add, total, compute_part(windows, jax.random.fold_in(key, index))), None

    parts = batch.reshape(settings.accumulate, -1, batch.shape[1])
    nothing = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
    total, _ = jax.lax.scan(add, nothing, (parts, jnp.arange(settings.accumulate)))
    mean: tuple[Array, Params] = jax.tree.map(lambda array: array / settings.accumulate, total)
    return mean
