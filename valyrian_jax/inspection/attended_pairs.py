"""Where a head looks from the last token before the right and the wrong text of a pair differ."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.inspection.ablation import Component
from valyrian_jax.language.pairs.alteration import Pair
from valyrian_jax.model.activations import attention_weights
from valyrian_jax.model.jax_settings import pin_jax_settings
from valyrian_jax.model.parameters import Params
from valyrian_jax.tokenizer.display import token_label

_LEAST_TOKENS = 4  # With fewer, a head has little to choose from.


class AttendedPair(NamedTuple):
    """A minimal pair, and where a head looks before it is decided.

    Attributes:
        pair: The pair.
        labels: The T tokens that both texts begin with, <|endoftext|> first.
        next_labels: The next token of the right and of the wrong text.
        weights: Attention weights of the last of the T tokens, [T].
    """

    pair: Pair
    labels: list[str]
    next_labels: tuple[str, str]
    weights: npt.NDArray[np.float32]


@pin_jax_settings()
def attend_to_pairs(
    bundle: Bundle, params: Params, pairs: Iterable[Pair], head: Component
) -> Iterator[AttendedPair]:
    """Yield the pairs whose texts begin with several equal tokens, with the weights of a head.

    Args:
        bundle: The model.
        params: Its parameters.
        pairs: Minimal pairs that fit its context.
        head: The head.
    """
    tokenizer, shape = bundle.tokenizer, bundle.model
    for pair in pairs:
        right, wrong = ([tokenizer.end_of_text, *tokenizer.encode(text)] for text in pair.texts)
        differences = (i for i, (a, b) in enumerate(zip(right, wrong, strict=False)) if a != b)
        count = next(differences, 0)
        if count < _LEAST_TOKENS:
            continue
        tokens = np.zeros((1, shape.n_positions), np.int32)  # one shape, so one program
        tokens[0, :count] = right[:count]
        weights = attention_weights(params, jnp.asarray(tokens), shape)
        yield AttendedPair(
            pair,
            [token_label(tokenizer, token) for token in right[:count]],
            (token_label(tokenizer, right[count]), token_label(tokenizer, wrong[count])),
            np.asarray(weights[head.layer, 0, head.head, count - 1, :count]),
        )
