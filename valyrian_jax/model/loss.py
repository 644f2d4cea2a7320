"""The loss: cross-entropy of the next token.

`optax.softmax_cross_entropy_with_integer_labels` gathers the logit of the target. The gradient of a
gather is a scatter, for which XLA on a GPU keeps the logits of the whole batch in float32. This
module sums over a mask instead, which needs a third of that memory.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def token_cross_entropy(
    logits: Float[Array, "B T V"], targets: Int[Array, "B T"]
) -> Float[Array, "B T"]:
    """Return the cross-entropy of every target, logsumexp(logits) - logits[target], in nats."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    is_target = jnp.arange(logits.shape[-1]) == targets[..., None]  # (B, T, V)
    return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(logits, axis=-1, where=is_target)


def cross_entropy(logits: Float[Array, "B T V"], targets: Int[Array, "B T"]) -> Float[Array, ""]:
    """Return the training loss: mean cross-entropy in nats per token."""
    return jnp.mean(token_cross_entropy(logits, targets))


def summed_cross_entropy(
    logits: Float[Array, "B T V"], targets: Int[Array, "B T"], counted: Bool[Array, "B T"]
) -> Float[Array, ""]:
    """Return the sum of the cross-entropy of the counted tokens, in nats."""
    return jnp.sum(token_cross_entropy(logits, targets), where=counted)
