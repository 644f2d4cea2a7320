"""Rows that make the token tables a round size, and that nobody sees: zero, never looked up, never scored.

Products of odd sizes are slow on GPUs, and a table can only be cut evenly over devices that divide its rows. The rows
exist while a model is trained (`model.vocab_multiple`); a bundle never has them.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from valyrian_jax.bundle.names import Tensors, axis_sizes, parameter_axes
from valyrian_jax.config import ModelConfig


def pad(tensors: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
    """Arrays of NumPy or JAX under the model's flat names, the token tables with rows of zeros up to the multiple."""
    extra = axis_sizes(config)["vocab"] - config.vocab_size
    tables = _tables(config) if extra else ()

    def longer(array: Any) -> Any:
        library = np if isinstance(array, np.ndarray) else jnp
        return library.pad(array, ((0, extra), (0, 0)))

    return {name: longer(array) if name in tables else array for name, array in tensors.items()}


def cut(tensors: Tensors, config: ModelConfig) -> Tensors:
    """The inverse of `pad`: what a bundle holds."""
    tables = _tables(config)
    return {name: array[: config.vocab_size] if name in tables else array for name, array in tensors.items()}


def masked(logits: Float[Array, "B T V"], config: ModelConfig) -> Float[Array, "B T V"]:
    """Logits of which those of the padding are minus infinity: of probability 0, and without a gradient."""
    if logits.shape[-1] == config.vocab_size:
        return logits
    return jnp.where(jnp.arange(logits.shape[-1]) < config.vocab_size, logits, -jnp.inf)


def _tables(config: ModelConfig) -> set[str]:
    """The parameters that have a row for every token."""
    return {name for name, axes in parameter_axes(config).items() if axes[0] == "vocab"}
