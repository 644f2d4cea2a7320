"""How well a model predicts a text: the log-probability of every token, each predicted once."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.bundle.text_generation import NOT_FINITE
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tokenizer.display import token_label

Float64 = npt.NDArray[np.float64]
Logits = Callable[[Sequence[int]], npt.NDArray[np.float32]]
"""A function of T token ids, at most a context. It returns the logits [T, V] after each."""

_LARGEST_EXPONENT = 700.0  # of a float


class Score(NamedTuple):
    """How well a model predicts a text.

    Attributes:
        tokens: Labels of the tokens of the text: ␣ is a space, an escape a part of a character.
        log_probabilities: Natural logarithm of the probability of each token, float32 [tokens].
        nats_per_token: Mean of their negatives.
        bits_per_byte: Negative sum of base-2 logarithms over the bytes of the text in UTF-8. It
            compares models with different tokenizers.
        perplexity: Exponential of `nats_per_token`.
    """

    tokens: list[str]
    log_probabilities: npt.NDArray[np.float32]
    nats_per_token: float
    bits_per_byte: float
    perplexity: float


def score_text(logits: Logits, tokenizer: Tokenizer, n_positions: int, text: str) -> Score:
    """Score a text as one document that follows <|endoftext|>."""
    ids = tokenizer.encode(text)
    if not ids:
        raise UserError("cannot score an empty text: expected at least one character; pass one")
    log_probabilities = predict_tokens(logits, [tokenizer.end_of_text, *ids], n_positions)
    nats = -float(log_probabilities.sum())
    return Score(
        tokens=[token_label(tokenizer, token) for token in ids],
        log_probabilities=log_probabilities.astype(np.float32),
        nats_per_token=nats / len(ids),
        bits_per_byte=nats / math.log(2) / len(tokenizer.decode_bytes(ids)),
        perplexity=math.exp(min(nats / len(ids), _LARGEST_EXPONENT)),
    )


def predict_tokens(logits: Logits, ids: Sequence[int], n_positions: int) -> Float64:
    """Return the log-probability of every token but the first, float64 [tokens - 1].

    The windows are those of `valyrian_jax.data.windows.make_eval_windows`: they overlap by half, so
    every token after the first window has at least half a context before it.
    """
    stride = max(n_positions // 2, 1)
    parts = []
    for start in range(0, max(len(ids) - 1 - n_positions, 0) + stride, stride):
        window = ids[start : start + n_positions + 1]
        first = n_positions - stride if start else 0  # The window before has predicted the rest.
        scores = logits(window[:-1])[first:].astype(np.float64)
        if not np.isfinite(scores).all():
            raise UserError(NOT_FINITE)
        parts.append(_log_softmax_at(scores, window[first + 1 :]))
    return np.concatenate(parts)


def _log_softmax_at(scores: Float64, targets: Sequence[int]) -> Float64:
    """Return the log-softmax of scores [T, V] at a target of each row, [T]."""
    shifted = scores - scores.max(-1, keepdims=True)
    return shifted[np.arange(len(targets)), list(targets)] - np.log(np.exp(shifted).sum(-1))
