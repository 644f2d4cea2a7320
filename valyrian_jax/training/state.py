"""All that changes while a model is trained."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int, UInt32

from valyrian_jax.config import Config
from valyrian_jax.model import sharding
from valyrian_jax.model.parameters import Params, init_params


class TrainState(NamedTuple):
    """Random keys are not part of it: they are functions of the seed and the step."""

    step: Int[Array, ""]
    params: Params
    opt_state: optax.OptState


def abstract_state(config: Config, optimizer: optax.GradientTransformation, mesh: Mesh) -> Any:
    """A TrainState of the type, shape and place of every array; nothing is allocated."""
    params = jax.eval_shape(functools.partial(_draw, config), np.uint32(0))
    step: Any = jax.ShapeDtypeStruct((), jnp.int32)
    state = TrainState(step, params, jax.eval_shape(optimizer.init, params))
    places = sharding.state_shardings(state, config, mesh)
    return jax.tree.map(
        lambda array, place: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=place), state, places
    )


def init_state(
    config: Config, optimizer: optax.GradientTransformation, params: Params | None = None, mesh: Mesh | None = None
) -> TrainState:
    """The state before the first step, from given parameters or from new ones drawn with the run's seed.

    Args:
        config: of the run.
        optimizer: of the run.
        params: to start from; None: new ones. They do not depend on the mesh.
        mesh: where to put it; None: on the first device.
    """
    mesh = mesh or sharding.single_device_mesh()
    places = jax.tree.map(lambda array: array.sharding, abstract_state(config, optimizer, mesh))
    if params is None:
        params = jax.jit(functools.partial(_draw, config), out_shardings=places.params)(np.uint32(config.train.seed))
    else:
        params = sharding.shard(params, places.params)
    step = sharding.shard(np.zeros((), np.int32), places.step)
    return TrainState(step, params, jax.jit(optimizer.init, out_shardings=places.opt_state)(params))


def _draw(config: Config, seed: UInt32[Array, ""]) -> Params:
    return init_params(config.model, jax.random.key(seed))
