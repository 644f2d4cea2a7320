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
        optax.stateless(lambda momentum, _: _orthogonalize_and_scale(momentum)),
    )


def label_parameters(params: Params) -> PyTree[str]:
    """Return "muon" for every matrix in the blocks, and "adam" for every other parameter."""

    def label(path: tuple[jax.tree_util.DictKey, ...], array: Array) -> str:
        return "muon" if array.ndim == 2 and any(entry.key == "h" for entry in path) else "adam"

    return jax.tree_util.tree_map_with_path(label, params)


def _orthogonalize_and_scale(momentum: PyTree[Array]) -> PyTree[Array]:
    matrices, structure = jax.tree.flatten(momentum)
    wide = orthogonalize([matrix.T if _is_tall(matrix) else matrix for matrix in matrices])
    updates = [
        _RMS * max(matrix.shape) ** 0.5 * (result.T if _is_tall(matrix) else result)
        for matrix, result in zip(matrices, wide, strict=True)
    ]
    return jax.tree.unflatten(structure, updates)


def orthogonalize(matrices: list[Float[Array, "C _"]]) -> list[Float[Array, "C _"]]:
    """Return U V^T, nearly, for every matrix U S V^T.

    An iteration of the polynomial, X <- (a + b X X^T + c (X X^T)^2) X, needs X X^T only. So the
    Gram matrices [C, C] of all blocks are iterated together, which costs a third of iterating on
    every matrix of up to [C, 4C].
    """

    def multiply_polynomial(gram: Float[Array, "M C C"]) -> Float[Array, "M C C"]:
        return _A * jnp.eye(gram.shape[-1]) + _B * gram + _C * gram @ gram

    with jax.default_matmul_precision("highest"):
        grams = jnp.stack([matrix @ matrix.T for matrix in matrices])
        norms = jnp.sqrt(jnp.trace(grams, axis1=1, axis2=2))[:, None, None] + 1e-8
        gram = grams / norms**2
        factor = product = multiply_polynomial(gram)
        for _ in range(_STEPS - 1):
            gram = factor @ gram @ factor
            factor = multiply_polynomial(gram)
            product = factor @ product
        return [left @ right for left, right in zip(product / norms, matrices, strict=True)]


def _is_tall(matrix: Array) -> bool:
    return matrix.shape[0] > matrix.shape[1]
