"""What the GPT is made of: products, embeddings, norms and dropout, each with GPT-2's names and layout.

Sizes are those of `valyrian_jax.model.gpt`: N is rows times tokens; I and O are inputs and outputs of a product. Only these
two files import Flax.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class Linear(nn.Module):
    """x @ weight + bias, weight [in, out] as in GPT-2."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "N I"]) -> Float[Array, "N O"]:
        weight = self.param("weight", nn.initializers.zeros, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return x @ weight + bias


class Embedding(nn.Module):
    """A bare weight: an embedding table or the head."""

    rows: int
    columns: int

    @nn.compact
    def __call__(self) -> Float[Array, "R C"]:
        return self.param("weight", nn.initializers.zeros, (self.rows, self.columns))


class LayerNorm(nn.Module):
    """Normalise over the width, then scale and shift (Ba et al. 2016)."""

    epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "N D"]) -> Float[Array, "N D"]:
        weight = self.param("weight", nn.initializers.zeros, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        wide = at_least_float32(x)
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        return (centred * jax.lax.rsqrt(variance + self.epsilon)).astype(x.dtype) * weight + bias


def at_least_float32(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The same in float32, or wider if it is: for sums and exponentials, which bfloat16's 8 bits are too few for."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def dropout(
    x: Float[Array, "*shape"], rate: float, key: PRNGKeyArray | None
) -> Float[Array, "*shape"]:
    """Zero each element with probability `rate` and scale the rest, or do nothing without a key.

    Random bits are the dearest part on a CPU, so each element gets one byte, not a word: the rate is rounded to the
    nearest 1/256, and the scale is that of the rounded rate, so the expectation is exact.
    """
    drop = round(rate * 256)
    if key is None or drop == 0:
        return x
    words = jax.random.bits(key, (-(-x.size // 4),), jnp.uint32)
    byte = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[: x.size].reshape(x.shape)
    return jnp.where(byte >= drop, x * (256 / (256 - drop)), 0.0)
