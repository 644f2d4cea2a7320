"""What a model has left to learn: its nats above the source's, sentence by sentence.

The grammar generates texts of known probability. The nats of a model on a sentence less those of
the source are its excess; the mean over texts of the source is the Kullback-Leibler divergence from
the source, which is 0 for the source alone (Cover and Thomas 2006, section 2.3). The source's nats
are those of the derivation. A text with several derivations has a little less information than any
of them, so its excess is a little larger.
"""

import functools
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float, Int

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import NOT_FINITE
from valyrian_jax.config import ModelConfig
from valyrian_jax.data.text import Tokens, encode_documents
from valyrian_jax.data.windows import iterate_eval_windows
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.token_classes import classify_tokens, sum_by_class
from valyrian_jax.language.generator.derivations import SentenceDerivation, TextDerivation
from valyrian_jax.model.gpt import forward
from valyrian_jax.model.jax_settings import pin_jax_settings
from valyrian_jax.model.loss import token_cross_entropy
from valyrian_jax.model.parameters import Params, from_tensors
from valyrian_jax.tokenizer import Tokenizer

_BATCH_TOKENS = 1 << 11  # whose logits are in memory at a time

Float64 = npt.NDArray[np.float64]


class Part(NamedTuple):
    """A sentence, or the end of a text, with the nats of the model and of the source.

    Attributes:
        derivation: The sentence; None for the end of a text.
        model: Nats of its tokens.
        source: Nats of its derivation.
    """

    derivation: SentenceDerivation | None
    model: float
    source: float

    @property
    def excess(self) -> float:
        """Nats of the model above those of the source."""
        return self.model - self.source


class Excess(NamedTuple):
    """The nats of a model above the source's on texts of the source.

    Attributes:
        bytes: Size of the texts, with a blank line after each.
        model: Nats of all tokens.
        source: Nats of all derivations.
        parts: The sentences, and for each text its end; their nats sum to the two above.
        token_classes: Number of tokens of each class, and the nats of the model on them.
    """

    bytes: int
    model: float
    source: float
    parts: list[Part]
    token_classes: dict[str, tuple[int, float]]


def measure_excess(bundle: Bundle, texts: Sequence[TextDerivation]) -> Excess:
    """Measure a model on texts of the source.

    Raises:
        UserError: A loss is not finite.
    """
    documents = [text.text for text in texts]
    tokens = encode_documents(documents, bundle.tokenizer, Path(tempfile.gettempdir()))
    nats = measure_token_nats(bundle, tokens)
    owners = find_owners(tokens[1:].tolist(), texts, bundle.tokenizer)
    source = [part for text in texts for part in _list_source_bits(text)]
    sums = np.bincount(owners, nats, len(source))
    classes = classify_tokens(tokens[1:].tolist(), bundle.tokenizer)
    return Excess(
        bytes=sum(len(document.encode()) + 2 for document in documents),
        model=float(nats.sum()),
        source=math.log(2) * sum(text.bits for text in texts),
        parts=[
            Part(derivation, float(total), bits * math.log(2))
            for total, (derivation, bits) in zip(sums, source, strict=True)
        ],
        token_classes=sum_by_class(classes, nats.tolist()),
    )


def _list_source_bits(text: TextDerivation) -> list[tuple[SentenceDerivation | None, float]]:
    return [*((sentence, sentence.bits) for sentence in text.sentences), (None, text.end_bits)]


@pin_jax_settings()
def measure_token_nats(bundle: Bundle, tokens: Tokens) -> Float64:
    """Return the nats of every token but the first, in windows that overlap by half.

    Raises:
        UserError: They are not finite.
    """
    length, params = bundle.model.n_positions, from_tensors(bundle.tensors)
    rows = max(_BATCH_TOKENS // length, 1)
    nats = []
    for windows in iterate_eval_windows(tokens, rows, length, batches=1):
        losses = _measure_batch(params, jnp.asarray(windows.tokens[0]), bundle.model)
        nats.append(np.asarray(losses, np.float64)[windows.counted[0]])
    if not np.isfinite(all_nats := np.concatenate(nats)).all():
        raise UserError(NOT_FINITE)
    return all_nats


@functools.partial(jax.jit, static_argnames="config")
def _measure_batch(
    params: Params, tokens: Int[Array, "B W"], config: ModelConfig
) -> Float[Array, "B T"]:
    return token_cross_entropy(forward(params, tokens[:, :-1], config), tokens[:, 1:])


def find_owners(
    tokens: Sequence[int], texts: Sequence[TextDerivation], tokenizer: Tokenizer
) -> npt.NDArray[np.intp]:
    """Return the index of the part that each token belongs to, int[tokens].

    The parts are the sentences and the end of each text. A token belongs to the sentence of its
    first byte, and the space before a sentence belongs to that sentence.
    """
    ends: list[int] = []  # the position after each part; an end of text takes one, a byte too
    for text in texts:
        for index, sentence in enumerate(text.sentences):
            size = len(sentence.text.encode()) + (index > 0)
            ends.append((ends[-1] if ends else 0) + size)
        ends.append(ends[-1] + 1)
    sizes = [1 if i == tokenizer.end_of_text else len(tokenizer.tokens[i]) for i in tokens]
    starts = np.cumsum([0, *sizes[:-1]])
    return np.searchsorted(ends, starts, side="right")
