"""Muon: updates by momentum, with all singular values of every matrix in the blocks near 1.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from valyrian_jax.model.parameters import Params

_BETA = 0.95
_STEPS = 3
# The polynomial a x + b x^3 + c x^5 of the paper: repeated, it moves every x in (0, 1] towards 1.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_RMS = 0.2  # as of Adam's updates, so that one learning rate fits both (Liu et al. 2025)


def scale_by_muon(nesterov: bool) -> optax.GradientTransformation:
    """Return the rule that turns the gradients of block matrices into updates."""
    return optax.chain(
        optax.trace(_BETA, nesterov),
        optax.stateless(lambda momentum, _: jax.tree.map(_orthogonalize_and_scale, momentum)),
    )


def label_parameters(params: Params) -> PyTree[str]:
    """Return "muon" for every matrix in the blocks, and "adam" for every other parameter."""

    def label(path: tuple[jax.tree_util.DictKey, ...], array: Array) -> str:
        return "muon" if array.ndim == 2 and any(entry.key == "h" for entry in path) else "adam"

    return jax.tree_util.tree_map_with_path(label, params)


def _orthogonalize_and_scale(matrix: Float[Array, "I O"]) -> Float[Array, "I O"]:
    is_tall = matrix.shape[0] > matrix.shape[1]
    result = orthogonalize(matrix.T if is_tall else matrix)
    return _RMS * max(matrix.shape) ** 0.5 * (result.T if is_tall else result)


def orthogonalize(matrix: Float[Array, "C _"]) -> Float[Array, "C _"]:
    """Return U V^T, nearly, for a matrix U S V^T that is at least as wide as it is tall.

    An iteration of the polynomial, X <- (a + b X X^T + c (X X^T)^2) X, needs X X^T only. So the
    Gram matrix [C, C] is iterated, which for [C, 4C] takes a third of the operations.
    """

    def evaluate_factor(gram: Float[Array, "C C"]) -> Float[Array, "C C"]:
        return _A * jnp.eye(len(gram)) + _B * gram + _C * gram @ gram

    with jax.default_matmul_precision("highest"):
        gram = matrix @ matrix.T
        norm = jnp.sqrt(jnp.trace(gram)) + 1e-8
        gram /= norm**2
        factor = product = evaluate_factor(gram)
        for _ in range(_STEPS - 1):
            gram = factor @ gram @ factor
            factor = evaluate_factor(gram)
            product = factor @ product
        return product / norm @ matrix
