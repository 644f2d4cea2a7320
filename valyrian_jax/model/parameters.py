"""Parameters: initialisation, conversion to and from flat names, and padding.

The token tables can have more rows than tokens (`model.vocab_multiple`): products of odd sizes are
slow on GPUs, and a table can only be sharded evenly over devices that divide its rows. The extra
rows are zero, never looked up and never scored; a bundle does not contain them.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, PRNGKeyArray

from valyrian_jax.bundle.names import (
    Tensors,
    axis_sizes,
    parameter_axes,
    parameter_shapes,
    unpad_config,
)
from valyrian_jax.config import ModelConfig
from valyrian_jax.model.jax_settings import pin_trace_settings

Params = dict[str, Any]  # a nested dict of float32 arrays


@pin_trace_settings()
@functools.partial(jax.jit, static_argnames="config")
def init_params(config: ModelConfig, key: PRNGKeyArray) -> Params:
    """Initialise weights with normal(0, `init_std`), biases with 0 and norms with 1."""
    shapes = dict(sorted(parameter_shapes(unpad_config(config)).items()))
    # One draw for all: XLA compiles one generator faster than one for every weight.
    sizes = [math.prod(shape) for shape in shapes.values()]
    normals = jnp.split(jax.random.normal(key, (sum(sizes),), jnp.float32), np.cumsum(sizes[:-1]))
    params = {}
    for (name, shape), numbers in zip(shapes.items(), normals, strict=True):
        if name.endswith(".bias"):
            params[name] = jnp.zeros(shape, jnp.float32)
        elif ".ln_" in name:
            params[name] = jnp.ones(shape, jnp.float32)
        else:
            params[name] = numbers.reshape(shape) * init_std(name, config)
    return nest(pad_tensors(params, config))


def init_std(name: str, config: ModelConfig) -> float:
    """Return the standard deviation of a weight's initial values.

    It is `init_std`, divided by sqrt(2 L) for residual projections as in GPT-2, and four times as
    large for a token embedding that is not also the output matrix (see configs/README.md).
    """
    if name.endswith("c_proj.weight"):
        return config.init_std / math.sqrt(2 * config.n_layer)
    if name == "transformer.wte.weight" and not config.tie_word_embeddings:
        return 4 * config.init_std
    return config.init_std


def to_tensors(params: Params) -> Tensors:
    """Convert parameters to NumPy arrays by flat name."""
    return {name: np.asarray(array) for name, array in flatten_dict(params, sep=".").items()}


def nest(tensors: Mapping[str, Any]) -> Params:
    """Convert flat names to the nested dict that parameters are."""
    return unflatten_dict(dict(tensors), sep=".")


@pin_trace_settings()
def from_tensors(tensors: Mapping[str, Float[Array | np.ndarray, "..."]]) -> Params:
    """Convert arrays by flat name to parameters; their floating-point type stays."""
    return nest({name: jnp.asarray(array) for name, array in tensors.items()})


def pad_tensors(tensors: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
    """Append rows of zeros to the token tables; `tensors` are NumPy or JAX arrays by flat name."""
    extra = axis_sizes(config)["vocab"] - config.vocab_size
    tables = _token_tables(config) if extra else ()

    def pad(array: Any) -> Any:
        library = np if isinstance(array, np.ndarray) else jnp
        return library.pad(array, ((0, extra), (0, 0)))

    return {name: pad(array) if name in tables else array for name, array in tensors.items()}


def unpad_tensors(tensors: Tensors, config: ModelConfig) -> Tensors:
    """Remove the rows that `pad_tensors` appends."""
    tables = _token_tables(config)
    return {
        name: array[: config.vocab_size] if name in tables else array
        for name, array in tensors.items()
    }


def mask_padding(logits: Float[Array, "B T V"], config: ModelConfig) -> Float[Array, "B T V"]:
    """Set the logits of padding rows to minus infinity: probability 0 and no gradient."""
    if logits.shape[-1] == config.vocab_size:
        return logits
    return jnp.where(jnp.arange(logits.shape[-1]) < config.vocab_size, logits, -jnp.inf)


def _token_tables(config: ModelConfig) -> set[str]:
    """Return the names of the parameters with a row for every token."""
    return {name for name, axes in parameter_axes(config).items() if axes[0] == "vocab"}
