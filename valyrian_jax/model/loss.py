"""How wrong the model is: the mean surprise at the next token."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def token_cross_entropy(
    logits: Float[Array, "B T V"], targets: Int[Array, "B T"]
) -> Float[Array, "B T"]:
    """Cross-entropy of every target token, in nats: logsumexp(logits) - logits[target]."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    # A sum over one element, not a gather: the gradient of a gather is a scatter, for which XLA keeps all in float32.
    is_target = jnp.arange(logits.shape[-1]) == targets[..., None]  # (B, T, V)
    return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(logits, axis=-1, where=is_target)


def cross_entropy(logits: Float[Array, "B T V"], targets: Int[Array, "B T"]) -> Float[Array, ""]:
    """The training loss: cross-entropy per token, in nats."""
    return jnp.mean(token_cross_entropy(logits, targets))


def summed_cross_entropy(
    logits: Float[Array, "B T V"], targets: Int[Array, "B T"], counted: Bool[Array, "B T"]
) -> Float[Array, ""]:
    """Cross-entropy summed over the tokens that count, in nats."""
    return jnp.sum(token_cross_entropy(logits, targets), where=counted)
