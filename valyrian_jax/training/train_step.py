"""The state of training, and one training step as a pure jitted function.

N batches of B windows; a window is W = T + 1 tokens, so that each of its T inputs has a target.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from valyrian_jax.config import Config, ModelConfig, TrainConfig
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import (
    DEFAULT_OPTIONS,
    MAX_PROGRAMS,
    ComputeOptions,
    compiler_options,
)
from valyrian_jax.model.gpt import forward
from valyrian_jax.model.jax_settings import make_key
from valyrian_jax.model.loss import cross_entropy
from valyrian_jax.model.parameters import Params, init_params


class TrainState(NamedTuple):
    """Everything that changes on the devices; random keys follow from the seed and the step.

    `Progress` holds what changes on the host.
    """

    step: Int[Array, ""]
    params: Params
    opt_state: optax.OptState


class StepMetrics(NamedTuple):
    """Measurements of N steps."""

    loss: Float[Array, " N"]
    grad_norm: Float[Array, " N"]
    taken: Bool[Array, " N"]  # False for a skipped step


TrainStep = Callable[[TrainState, Int[Array, "N B W"]], tuple[TrainState, StepMetrics]]


def abstract_state(config: Config, optimizer: optax.GradientTransformation, mesh: Mesh) -> Any:
    """Return a TrainState of dtypes, shapes and shardings, without allocating arrays."""
    params = jax.eval_shape(functools.partial(_init_params, config.model), np.uint32(0))
    step: Any = jax.ShapeDtypeStruct((), jnp.int32)
    state = TrainState(step, params, jax.eval_shape(optimizer.init, params))
    shardings = sharding.state_shardings(state, config, mesh)
    return jax.tree.map(
        lambda array, target: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=target),
        state,
        shardings,
    )


def init_state(
    config: Config,
    optimizer: optax.GradientTransformation,
    params: Params | None = None,
    mesh: Mesh | None = None,
) -> TrainState:
    """Return the state before the first step, on the first device unless there is a mesh.

    Without parameters, they are random, and depend on the seed of the run but not on the mesh.
    """
    mesh = mesh or sharding.single_device_mesh()
    shardings = jax.tree.map(lambda array: array.sharding, abstract_state(config, optimizer, mesh))
    if params is None:
        init = jax.jit(_init_params, static_argnums=0, out_shardings=shardings.params)
        params = init(config.model, np.uint32(config.train.seed))
    else:
        params = sharding.shard(params, shardings.params)
    step = sharding.shard(np.zeros((), np.int32), shardings.step)
    return TrainState(
        step, params, jax.jit(optimizer.init, out_shardings=shardings.opt_state)(params)
    )


def _init_params(config: ModelConfig, seed: UInt32[Array, ""]) -> Params:
    return init_params(config, make_key(seed))


def make_train_step(
    config: Config,
    optimizer: optax.GradientTransformation,
    options: ComputeOptions = DEFAULT_OPTIONS,
) -> TrainStep:
    """Return a function that takes N steps in one dispatch, one for each of N batches.

    A step whose loss, gradient or update is not finite is skipped: the parameters and the optimizer
    state, including its count of steps, stay as they were. So parameters are always finite.

    The state is donated: its memory is reused, so the old state must not be read afterwards.
    """
    settings = config.train
    train = TrainConfig(
        batch_size=settings.batch_size,
        seed=settings.seed,
        dtype=settings.dtype,
        accumulate=settings.accumulate,
    )
    # Leave out settings that no step depends on, such as the path of the text, so that equal steps
    # compile only once.
    return _make_train_step(Config(model=config.model, train=train), optimizer, options)


@functools.lru_cache(MAX_PROGRAMS)
def _make_train_step(
    config: Config, optimizer: optax.GradientTransformation, options: ComputeOptions
) -> TrainStep:
    def one_step(
        dropout_key: PRNGKeyArray, state: TrainState, batch: Int[Array, "B W"]
    ) -> tuple[TrainState, StepMetrics]:
        key = jax.random.fold_in(dropout_key, state.step)
        loss, gradients = value_and_gradients(config, state.params, batch, key, options)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        norm = optax.tree.norm(gradients)
        taken = jnp.isfinite(loss + norm + optax.tree.norm(updates))
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(taken, new, old),
            (params, opt_state),
            (state.params, state.opt_state),
        )
        return TrainState(state.step + 1, params, opt_state), StepMetrics(loss, norm, taken)

    def train_step(
        state: TrainState, batches: Int[Array, "N B W"]
    ) -> tuple[TrainState, StepMetrics]:
        # 1 separates dropout from the initial weights, which use the key itself.
        dropout_key = jax.random.fold_in(make_key(config.train.seed), 1)
        return jax.lax.scan(functools.partial(one_step, dropout_key), state, batches)

    mesh = options.mesh or sharding.single_device_mesh()
    shardings = jax.tree.map(lambda array: array.sharding, abstract_state(config, optimizer, mesh))
    return jax.jit(
        train_step,
        donate_argnums=0,
        in_shardings=(shardings, sharding.batch_sharding(mesh)),
        out_shardings=(shardings, sharding.named_sharding(mesh)),
        compiler_options=compiler_options(mesh),
    )


def value_and_gradients(
    config: Config,
    params: Params,
    batch: Int[Array, "B W"],
    key: PRNGKeyArray,
    options: ComputeOptions = DEFAULT_OPTIONS,
) -> tuple[Float[Array, ""], Params]:
    """Return the training loss of a batch and its gradients, float32.

    The batch is split into `train.accumulate` microbatches of equal size, one after another.
    """
    settings = config.train
    narrow = jax.tree.map(lambda array: array.astype(settings.dtype), params)

    @jax.value_and_grad
    def compute_loss(
        narrow: Params, windows: Int[Array, "M W"], key: PRNGKeyArray
    ) -> Float[Array, ""]:
        logits = forward(narrow, windows[:, :-1], config.model, key, options)
        return cross_entropy(logits, windows[:, 1:])

    def compute_microbatch(
        windows: Int[Array, "M W"], key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Params]:
        loss, gradients = compute_loss(narrow, windows, key)
        return loss, jax.tree.map(lambda array: array.astype(jnp.float32), gradients)

    if settings.accumulate == 1:
        return compute_microbatch(batch, key)

    def add_microbatch(
        total: tuple[Array, Params], microbatch: tuple[Array, Array]
    ) -> tuple[tuple[Array, Params], None]:
        windows, index = microbatch
        result = compute_microbatch(windows, jax.random.fold_in(key, index))
        return jax.tree.map(jnp.add, total, result), None

    microbatches = batch.reshape(settings.accumulate, -1, batch.shape[1])
    zero = jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params)
    indices = jnp.arange(settings.accumulate)
    total, _ = jax.lax.scan(add_microbatch, zero, (microbatches, indices))
    mean: tuple[Array, Params] = jax.tree.map(lambda array: array / settings.accumulate, total)
    return mean
