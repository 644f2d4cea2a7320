"""The loss of a model on any text."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import NOT_FINITE
from valyrian_jax.data.text import count_bytes, encode_documents
from valyrian_jax.data.windows import iterate_eval_windows
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.evaluate import make_eval_step
from valyrian_jax.model.jax_settings import pin_jax_settings
from valyrian_jax.model.parameters import from_tensors

# Tokens whose logits are in memory at a time, and batches of them in each call.
_BATCH_TOKENS, _BATCHES = 1 << 11, 64


class TextLoss(NamedTuple):
    """The cross-entropy of a text.

    Attributes:
        tokens: Number of predicted tokens, with the <|endoftext|> after each document.
        bytes: Size of the text, with a blank line after each document.
    """

    nats_per_token: float
    bits_per_byte: float
    tokens: int
    bytes: int


@pin_jax_settings()
def evaluate_text(bundle: Bundle, documents: Sequence[str]) -> TextLoss:
    """Return the loss over every token of some documents, as over a held-out part.

    Raises:
        UserError: The loss is not finite.
    """
    length = bundle.model.n_positions
    tokens = encode_documents(documents, bundle.tokenizer, Path(tempfile.gettempdir()))
    eval_step, params = make_eval_step(bundle.model), from_tensors(bundle.tensors)
    nats = 0.0
    for windows in iterate_eval_windows(tokens, max(_BATCH_TOKENS // length, 1), length, _BATCHES):
        losses = eval_step(params, *map(jnp.asarray, windows))
        nats += float(np.sum(np.asarray(losses), dtype=np.float64))
    if not math.isfinite(nats):
        raise UserError(NOT_FINITE)
    size, predicted = count_bytes(documents), len(tokens) - 1
    return TextLoss(nats / predicted, nats / math.log(2) / size, predicted, size)
