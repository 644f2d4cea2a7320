"""All that changes while a model is trained."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from valyrian_jax import model
from valyrian_jax.config import Config
from valyrian_jax.model import Params


class TrainState(NamedTuple):
    """Random keys are not part of it: they are functions of the seed and the step."""

    step: Int[Array, ""]
    params: Params
    opt_state: optax.OptState


def init_state(config: Config, optimizer: optax.GradientTransformation, params: Params | None = None) -> TrainState:
    """The state before the first step, from given parameters or from new ones drawn with the run's seed."""
    if params is None:
        params = model.init_params(config.model, jax.random.key(config.train.seed))
    return TrainState(jnp.zeros((), jnp.int32), params, jax.jit(optimizer.init)(params))
