"""How good texts are, counted: grammatical sentences, known words, and how much is new."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from valyrian_jax.language.checker.verdict import glance, split_sentences


class TextMetrics(NamedTuple):
    """Counts over the finished sentences of some texts, as shares of 1."""

    sentences: int
    grammatical: float
    known_words: float
    new: float  # sentences that do not stand in the training text
    distinct: float


def measure_texts(texts: Iterable[str], training: Collection[str]) -> TextMetrics:
    """Judge texts.

    Args:
        texts: what a model wrote, or a person; an unfinished sentence at the end of a text is left out.
        training: the sentences that were there to be copied.
    """
    sentences = [s for text in texts for s in split_sentences(text) if s[-1] in ".!?"]
    verdicts = {s: glance(s) for s in set(sentences)}
    words = sum(verdicts[s].words for s in sentences)
    count = max(len(sentences), 1)
    return TextMetrics(
        len(sentences),
        sum(verdicts[s].grammatical for s in sentences) / count,
        sum(verdicts[s].known for s in sentences) / max(words, 1),
        sum(s not in training for s in sentences) / count,
        len(verdicts) / count,
    )
