"""The quality of texts: shares of grammatical sentences, known words and new sentences."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from valyrian_jax.language.checker.text import split_sentences
from valyrian_jax.language.checker.verdict import check_sentence


class TextMetrics(NamedTuple):
    """Measures of the finished sentences of some texts.

    Attributes:
        sentences: Number of sentences.
        grammatical: Share of grammatical sentences.
        known_words: Share of words that the language has.
        new: Share of sentences that are not in the training text.
        distinct: Number of different sentences over the number of sentences.
    """

    sentences: int
    grammatical: float
    known_words: float
    new: float
    distinct: float


def measure_texts(texts: Iterable[str], training: Collection[str]) -> TextMetrics:
    """Measure the finished sentences of texts.

    Args:
        texts: Texts of a model or a person; an unfinished sentence at the end does not count.
        training: Sentences of the training text.
    """
    sentences = [s for text in texts for s in split_sentences(text) if s[-1] in ".!?"]
    verdicts = {s: check_without_diagnosis(s) for s in set(sentences)}
    words = sum(verdicts[s].words for s in sentences)
    count = max(len(sentences), 1)
    return TextMetrics(
        len(sentences),
        sum(verdicts[s].grammatical for s in sentences) / count,
        sum(verdicts[s].known_words for s in sentences) / max(words, 1),
        sum(s not in training for s in sentences) / count,
        len(verdicts) / count,
    )
