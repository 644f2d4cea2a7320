"""The quality of texts: shares of right sentences, known words and new sentences."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from valyrian_jax.language.checker.text import split_sentences
from valyrian_jax.language.checker.verdict import (
    Verdict,
    check_sentence,
    check_without_diagnosis,
)

_MAX_DIAGNOSED = 100  # sentences; a diagnosis takes up to a hundred times as long as a check


class TextMetrics(NamedTuple):
    """Measures of the finished sentences of some texts.

    Attributes:
        sentences: Number of sentences.
        grammatical: Share of sentences that are right and spelt right.
        known_words: Share of words that are in the language.
        new: Share of sentences that are not in the training text.
        distinct: Number of different sentences over the number of sentences.
        mistakes: Share of sentences with a mistake; None if nothing was diagnosed.
        beyond: Share of sentences beyond the grammar; None if nothing was diagnosed.
    """

    sentences: int
    grammatical: float
    known_words: float
    new: float
    distinct: float
    mistakes: float | None = None
    beyond: float | None = None


def measure_texts(texts: Iterable[str], training: Collection[str]) -> TextMetrics:
    """Measure the finished sentences of texts, without a diagnosis.

    Args:
        texts: Texts of a model or a person; an unfinished sentence at the end does not count.
        training: Sentences of the training text.
    """
    sentences = _finished_sentences(texts)
    return _measure_sentences(sentences, _check_sentences(sentences), training)


def measure_and_diagnose_texts(texts: Iterable[str], training: Collection[str]) -> TextMetrics:
    """Measure texts, and distinguish mistakes from sentences beyond the grammar.

    The shares of these two are estimated from the first 100 sentences that are not right.
    """
    sentences = _finished_sentences(texts)
    verdicts = _check_sentences(sentences)
    metrics = _measure_sentences(sentences, verdicts, training)
    others = [sentence for sentence in sentences if not _is_right(verdicts[sentence])]
    diagnosed = [check_sentence(sentence).verdict for sentence in others[:_MAX_DIAGNOSED]]
    # A sentence that is right but misspelt counts as a mistake here.
    mistakes = len(diagnosed) - diagnosed.count("beyond")
    wrong = 1 - metrics.grammatical if diagnosed else 0.0
    share = mistakes / max(len(diagnosed), 1)
    return metrics._replace(mistakes=wrong * share, beyond=wrong * (1 - share))


def _check_sentences(sentences: Iterable[str]) -> dict[str, Verdict]:
    return {sentence: check_without_diagnosis(sentence) for sentence in set(sentences)}


def _measure_sentences(
    sentences: Sequence[str], verdicts: Mapping[str, Verdict], training: Collection[str]
) -> TextMetrics:
    words = sum(verdicts[s].words for s in sentences)
    count = max(len(sentences), 1)
    return TextMetrics(
        len(sentences),
        sum(_is_right(verdicts[s]) for s in sentences) / count,
        sum(verdicts[s].known_words for s in sentences) / max(words, 1),
        sum(s not in training for s in sentences) / count,
        len(verdicts) / count,
    )


def _finished_sentences(texts: Iterable[str]) -> list[str]:
    return [s for text in texts for s in split_sentences(text) if s[-1] in ".!?"]


def _is_right(verdict: Verdict) -> bool:
    return verdict.grammatical and not verdict.notes
