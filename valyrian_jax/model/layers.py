"""The layers of the GPT: products, embeddings, norms and dropout, with GPT-2's names and layout.

The layers read their parameters and never initialise them; only
`valyrian_jax.model.parameters.init_params` does, for the whole model at once.

Sizes are those of `valyrian_jax.model.gpt`: N is rows times tokens; I and O are the inputs and
outputs of a product. Only these two modules use Flax layers.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class Linear(nn.Module):
    """The product x @ weight + bias; weight is [in, out], as in GPT-2."""

    def __call__(self, x: Float[Array, "N I"]) -> Float[Array, "N O"]:
        """Return the product."""
        weight = self.get_variable("params", "weight")
        bias = self.get_variable("params", "bias")
        return x @ weight + bias


class Embedding(nn.Module):
    """A bare weight: an embedding table or the output matrix."""

    def __call__(self) -> Float[Array, "R C"]:
        """Return the weight."""
        return self.get_variable("params", "weight")


class LayerNorm(nn.Module):
    """Normalisation over the width, then a scale and a shift (Ba et al. 2016)."""

    epsilon: float

    def __call__(self, x: Float[Array, "N D"]) -> Float[Array, "N D"]:
        """Return the normalised states in the type of x."""
        weight = self.get_variable("params", "weight")
        bias = self.get_variable("params", "bias")
        wide = at_least_float32(x)
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        return (centred * jax.lax.rsqrt(variance + self.epsilon)).astype(x.dtype) * weight + bias


def at_least_float32(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return x in float32 or its own wider type; bfloat16's 8 bits are too few for sums and exp."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def dropout(
    x: Float[Array, "*shape"], rate: float, key: PRNGKeyArray | None
) -> Float[Array, "*shape"]:
    """Zero each element with probability `rate` and scale the others; without a key, return x.

    Random bits are the most expensive part on a CPU, so each element uses one byte instead of a
    word. The rate is rounded to the nearest 1/256. The scale is that of the rounded rate, so the
    expectation is exact.
    """
    threshold = round(rate * 256)
    if key is None or threshold == 0:
        return x
    words = jax.random.bits(key, (-(-x.size // 4),), jnp.uint32)
    byte = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[: x.size].reshape(x.shape)
    return jnp.where(byte >= threshold, x * (256 / (256 - threshold)), 0.0)
