"""What happens inside a model, from the numbers of any runtime: attention and the logit lens."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.bundle.text_generation import NOT_FINITE
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tokenizer.display import token_label


class Attention(NamedTuple):
    """Where a model attends in a text.

    Attributes:
        tokens: Labels of the T tokens of the text.
        weights: Weight that each query gives to each key, float32 [layer, head, query, key]. The
            weights of a query sum to 1; those of later keys are 0.
    """

    tokens: list[str]
    weights: npt.NDArray[np.float32]


class Lens(NamedTuple):
    """What a model would predict after every layer, for every token of a text.

    Layer 0 is the embedding and layer i the i-th block, so the last are the model's predictions.

    Attributes:
        tokens: Labels of the T tokens of the text.
        predictions: Labels of the most probable next tokens, [layer][token].
        ids: The `top` most probable next tokens, int64 [layer, token, top], the best first.
        probabilities: Their probabilities, float32 [layer, token, top].
    """

    tokens: list[str]
    predictions: list[list[str]]
    ids: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]


def make_attention(
    tokenizer: Tokenizer, tokens: Sequence[int], weights: npt.NDArray[np.float32]
) -> Attention:
    """Return the weights [layer, head, T, T] with the labels of the T tokens of a text."""
    if not np.isfinite(weights).all():
        raise UserError(NOT_FINITE)
    return Attention([token_label(tokenizer, token) for token in tokens], weights)


def make_lens(
    tokenizer: Tokenizer,
    tokens: Sequence[int],
    layers: Iterable[npt.NDArray[np.float32]],
    top: int,
) -> Lens:
    """Return the `top` best predictions of every layer for the T tokens of a text.

    `layers` are the logits [T, V] after the embedding and after each block.
    """
    ranked = [_rank(logits, top) for logits in layers]
    ids, probabilities = (np.stack(arrays) for arrays in zip(*ranked, strict=True))
    labels = [token_label(tokenizer, token) for token in tokens]
    predictions = [[token_label(tokenizer, token) for token in row] for row in ids[..., 0].tolist()]
    return Lens(labels, predictions, ids, probabilities)


def _rank(
    logits: npt.NDArray[np.float32], top: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return the ids and probabilities [T, top] of the largest logits, ties by lower id."""
    largest = logits.max(-1, keepdims=True)
    if not np.isfinite(largest).all():
        raise UserError(NOT_FINITE)
    scores = np.exp(logits - largest)
    total, ids = scores.sum(-1, keepdims=True), []
    remaining = logits.copy()
    for _ in range(min(top, logits.shape[-1])):
        ids.append(remaining.argmax(-1))
        np.put_along_axis(remaining, ids[-1][:, None], -np.inf, axis=-1)
    best = np.stack(ids, axis=-1)
    return best, np.take_along_axis(scores, best, axis=-1) / total
