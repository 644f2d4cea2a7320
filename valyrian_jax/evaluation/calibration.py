"""Calibration: do tokens follow as often as the model says?

All predictions of a group of tokens are sorted by their probability into ten bins of equal width.
The expected calibration error is the distance between the mean probability and the observed
frequency in a bin, weighted by its predictions (Guo et al. 2017, "On Calibration of Modern Neural
Networks", section 2; here a group against all other tokens).
"""

import functools
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float, Int

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.config import ModelConfig
from valyrian_jax.data.text import encode_documents
from valyrian_jax.data.windows import iterate_eval_windows
from valyrian_jax.evaluation.token_classes import classify_tokens, follows_as
from valyrian_jax.model.gpt import forward
from valyrian_jax.model.jax_settings import pin_jax_settings
from valyrian_jax.model.parameters import Params, from_tensors
from valyrian_jax.tokenizer import Tokenizer

BINS, ENDINGS = 10, 10
_BATCH_TOKENS = 1 << 11  # whose logits are in memory at a time

Groups = Mapping[str, Sequence[int]]  # token ids by the name of the group


class Calibration(NamedTuple):
    """How probable a group of tokens was, and how often one of them occurred.

    Attributes:
        name: Name of the group.
        predicted: Mean probability that the model gave to the group.
        observed: Share of all tokens that are in the group.
        error: Expected calibration error.
    """

    name: str
    predicted: float
    observed: float
    error: float


def measure_calibration(bundle: Bundle, documents: Sequence[str]) -> list[Calibration]:
    """Return the calibration for what follows, and for the most frequent endings of words."""
    tokens = encode_documents(documents, bundle.tokenizer, Path(tempfile.gettempdir()))
    ids = tokens[1:].tolist()
    groups = _list_groups(ids, bundle.tokenizer)
    members = np.zeros((bundle.model.vocab_size, len(groups)), bool)
    for column, group in enumerate(groups.values()):
        members[[*group], column] = True
    predicted, observed = _predict_groups(bundle, tokens, members), members[ids]
    return [
        Calibration(
            name,
            float(predicted[:, i].mean()),
            float(observed[:, i].mean()),
            measure_error(predicted[:, i], observed[:, i]),
        )
        for i, name in enumerate(groups)
    ]


def measure_error(predicted: npt.NDArray[np.floating], occurred: npt.NDArray[np.bool_]) -> float:
    """Return the expected calibration error of N predictions.

    >>> measure_error(np.array([0.9, 0.9]), np.array([True, False]))
    0.4

    Args:
        predicted: Probabilities [N].
        occurred: Whether what was predicted occurred [N].
    """
    bins = np.minimum((predicted * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bins, predicted - occurred)).sum() / len(predicted))


def _list_groups(ids: Sequence[int], tokenizer: Tokenizer) -> dict[str, list[int]]:
    """Return all tokens grouped by `follows_as`, and each of the most frequent word endings."""
    groups: dict[str, list[int]] = {}
    for token in range(tokenizer.vocab_size):
        groups.setdefault(follows_as(token, tokenizer), []).append(token)
    classes = zip(ids, classify_tokens(ids, tokenizer), strict=True)
    endings = Counter(token for token, name in classes if name == "ending")
    for token, _ in endings.most_common(ENDINGS):
        text = tokenizer.tokens[token].decode(errors="backslashreplace")
        groups[f"-{text}"] = [token]
    return groups


@pin_jax_settings()
def _predict_groups(
    bundle: Bundle, tokens: npt.NDArray[np.unsignedinteger], members: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return the probability of each of G groups at every token but the first, [N, G]."""
    length, params = bundle.model.n_positions, from_tensors(bundle.tensors)
    rows, columns = max(_BATCH_TOKENS // length, 1), jnp.asarray(members)
    predicted = []
    for windows in iterate_eval_windows(tokens, rows, length, batches=1):
        batch = _predict_batch(params, jnp.asarray(windows.tokens[0]), columns, bundle.model)
        predicted.append(np.asarray(batch, np.float64)[windows.counted[0]])
    return np.concatenate(predicted)


@functools.partial(jax.jit, static_argnames="config")
def _predict_batch(
    params: Params, tokens: Int[Array, "B W"], members: Bool[Array, "V G"], config: ModelConfig
) -> Float[Array, "B T G"]:
    logits = forward(params, tokens[:, :-1], config).astype(jnp.float32)
    return jax.nn.softmax(logits, axis=-1) @ members.astype(jnp.float32)
