"""Verdicts: whether a sentence is grammatical, and if not, the first reason."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from valyrian_jax.language.checker.diagnosis import diagnose
from valyrian_jax.language.checker.explanation import explain_unknown_word
from valyrian_jax.language.checker.parse_tree import Sentence
from valyrian_jax.language.checker.parser import parse
from valyrian_jax.language.grammar import PUNCTUATION, load_grammar
from valyrian_jax.language.set_phrases import set_phrase_words
from valyrian_jax.language.words.analysis import Reading, analyze
from valyrian_jax.language.words.spelling import nfc

MAX_TOKENS = 40  # words and marks; the sentences of the generator are shorter
MAX_SENTENCE = 1 << 20  # characters; a longer one is cut
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_TOKEN = re.compile(r"[^\W\d_]+|\d+|\S")


class Verdict(NamedTuple):
    """The result of checking a sentence.

    Attributes:
        text: The sentence as it was written.
        grammatical: Whether the grammar accepts it.
        reason: Why the grammar rejects it, or "".
        known_words: Number of its words that are known.
        words: Number of its words.
    """

    text: str
    grammatical: bool
    reason: str
    known_words: int
    words: int


def check(text: str) -> list[Verdict]:
    """Check every sentence of a text, which may be in any Unicode normal form."""
    return [check_sentence(sentence) for sentence in split_sentences(text)]


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences, each of which ends with . ! ? or its line."""
    return [part.strip() for part in _SENTENCE.findall(text) if part.strip()]


def stream_sentences(blocks: Iterable[str]) -> Iterator[str]:
    """Yield the sentences of a text of any size, which comes in blocks, as `split_sentences`."""
    rest = ""
    for block in blocks:
        rest += block
        parts = [*_SENTENCE.finditer(rest)]
        for part in parts[:-1]:
            yield from split_sentences(part[0])
        # The last one may go on in the next block.
        rest = rest[parts[-1].start() :] if parts else ""
        while len(rest) > MAX_SENTENCE:
            yield from split_sentences(rest[:MAX_SENTENCE])
            rest = rest[MAX_SENTENCE:]
    yield from split_sentences(rest)


def check_sentence(text: str) -> Verdict:
    """Check one sentence and diagnose the first mistake in it."""
    verdict, sentence = _parse_text(text)
    if verdict.grammatical or sentence is None:
        return verdict
    return verdict._replace(reason=diagnose(sentence))


def check_without_diagnosis(text: str) -> Verdict:
    """Check one sentence with a general reason only, which is many times faster if it is wrong."""
    verdict, _ = _parse_text(text)
    return verdict


def _parse_text(text: str) -> tuple[Verdict, Sentence | None]:
    """Return a verdict without a diagnosis, and the sentence if all its words are known."""
    tokens = _TOKEN.findall(nfc(text))
    if tokens and tokens[0].lower() in set_phrase_words():
        tokens[0] = tokens[0].lower()
    word_indices = [i for i, token in enumerate(tokens) if token not in PUNCTUATION]
    readings = [
        _analyze_token(token) if token not in PUNCTUATION else () for token in tokens[:MAX_TOKENS]
    ]
    verdict = Verdict(text, False, "", sum(map(bool, readings)), len(word_indices))
    if reason := _reject(tokens, word_indices, readings):
        return verdict._replace(reason=reason), None
    if tokens[-1] not in PUNCTUATION:
        tokens, readings = [*tokens, "."], [*readings, ()]
    first = readings[0][0].text if readings[0] else tokens[0]  # no capital, unless it is a name
    sentence = Sentence(load_grammar(), [first, *tokens[1:]], readings)
    if parse(sentence):
        return verdict._replace(grammatical=True), sentence
    return verdict._replace(reason="its words do not fit together"), sentence


def _analyze_token(token: str) -> tuple[Reading, ...]:
    uncapitalized = token[:1].lower() + token[1:]
    if uncapitalized != token:
        return analyze(token) + analyze(uncapitalized)
    return analyze(token)


def _reject(
    tokens: Sequence[str], word_indices: Sequence[int], readings: Sequence[Sequence[Reading]]
) -> str:
    """Return why a sentence cannot be parsed, or ""."""
    if not word_indices:
        return "there are no words in it; write a sentence"
    if len(tokens) > MAX_TOKENS:
        return (
            f"it has {len(word_indices)} words; "
            f"the grammar knows sentences of up to {MAX_TOKENS}: divide it"
        )
    fixed = set_phrase_words()
    unknown = next(
        (tokens[i] for i in word_indices if not readings[i] and tokens[i] not in fixed), None
    )
    return explain_unknown_word(unknown) if unknown is not None else ""
