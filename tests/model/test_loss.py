"""The loss equals PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from valyrian_jax.model.loss import cross_entropy, summed_cross_entropy, token_cross_entropy


def test_cross_entropy_equals_the_one_of_torch() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 5, 11)).astype(np.float32) * 30
    targets = rng.integers(0, 11, (3, 5))
    theirs = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits).flatten(0, 1),
        torch.from_numpy(targets).flatten(),
        reduction="none",
    ).reshape(3, 5)
    args = jnp.asarray(logits), jnp.asarray(targets, jnp.int32)
    np.testing.assert_allclose(token_cross_entropy(*args), theirs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(cross_entropy(*args), theirs.mean(), rtol=1e-5)
    counted = rng.random((3, 5)) < 0.5
    np.testing.assert_allclose(
        summed_cross_entropy(*args, jnp.asarray(counted)), theirs.numpy()[counted].sum(), rtol=1e-5
    )


def test_the_gradient_contains_no_scatter() -> None:
    """For a scatter, XLA on a GPU keeps all logits in float32: three times the products' memory."""
    logits, targets = jnp.zeros((3, 5, 11), jnp.bfloat16), jnp.zeros((3, 5), jnp.int32)
    assert "scatter" not in str(jax.make_jaxpr(jax.grad(cross_entropy))(logits, targets))
