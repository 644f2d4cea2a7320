"""Verdicts: whether a sentence is right, a mistake, or beyond the grammar, and why."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from valyrian_jax.language.checker.diagnosis import diagnose
from valyrian_jax.language.checker.explanation import describe_words, explain_unknown_words
from valyrian_jax.language.checker.parse_tree import Leaf, Parse
from valyrian_jax.language.checker.parser import parse
from valyrian_jax.language.checker.place import is_noun
from valyrian_jax.language.checker.reading import (
    Word,
    make_sentence,
    read_words,
    respell_words,
)
from valyrian_jax.language.checker.text import split_sentences
from valyrian_jax.language.words.spelling import nfc

Kind = Literal["right", "mistake", "beyond"]
KINDS: tuple[Kind, ...] = ("right", "mistake", "beyond")
NOT_IN_GRAMMAR = "the grammar does not cover this sentence"  # the reason without a diagnosis
MAX_TOKENS = 40  # words and marks; the sentences of the generator are shorter


class Verdict(NamedTuple):
    """The result of checking a sentence.

    Attributes:
        text: The sentence as it was written.
        verdict: "right": the grammar accepts it. "mistake": one or two words have a wrong form, and
            with other forms of them the sentence is right. "beyond": a word or the construction is
            not known.
        reason: Why it is not right, or "".
        known_words: Number of its words that are known.
        words: Number of its words.
        notes: Remarks on its spelling, which change no verdict, and what the words of a sentence
            beyond the grammar are.
    """

    text: str
    verdict: Kind
    reason: str
    known_words: int
    words: int
    notes: tuple[str, ...] = ()

    @property
    def grammatical(self) -> bool:
        """Whether it is right."""
        return self.verdict == "right"


def check(text: str) -> list[Verdict]:
    """Check every sentence of a text, which may be in any Unicode normal form."""
    return [check_sentence(sentence) for sentence in split_sentences(text)]


def check_sentence(text: str) -> Verdict:
    """Check one sentence."""
    verdict, words = _check_words(text)
    if verdict.grammatical or not words:
        return verdict
    respelt = respell_words(words)
    diagnosed = respelt if any(word.is_misspelt for word in words) else words
    diagnosis = diagnose(make_sentence(diagnosed))
    notes = (*_spelling_notes(text, words, diagnosis.leaves),)
    if diagnosis.is_mistake:
        return verdict._replace(verdict="mistake", reason=diagnosis.reason, notes=notes)
    if tree := parse(make_sentence(respelt)):
        notes = (*_spelling_notes(text, respelt, tree.leaves),)
        return verdict._replace(verdict="right", reason="", notes=notes)
    return verdict._replace(reason=diagnosis.reason, notes=(*notes, *describe_words(words)))


def check_without_diagnosis(text: str) -> Verdict:
    """Check one sentence without looking for a mistake, which is many times faster.

    Every sentence that is not right then gets the verdict "beyond".
    """
    return _check_words(text)[0]


def _check_words(text: str) -> tuple[Verdict, Sequence[Word]]:
    """Return a verdict without a diagnosis, and the words if a diagnosis is possible."""
    words = read_words(text)
    count = sum(not word.is_mark for word in words)
    known_words = sum(word.is_known for word in words[:MAX_TOKENS])
    verdict = Verdict(text, "beyond", "", known_words, count)
    if reason := _reject(words):
        notes = describe_words(words[:MAX_TOKENS])
        return verdict._replace(reason=reason, notes=notes), ()
    if parsed := find_parse(words):
        attempt, tree = parsed
        notes = (*_spelling_notes(text, attempt, tree.leaves),)
        return verdict._replace(verdict="right", notes=notes), words
    return verdict._replace(reason=NOT_IN_GRAMMAR), words


def _reject(words: Sequence[Word]) -> str:
    """Return why a sentence cannot be parsed, or ""."""
    if not words:
        return "there are no words in it; write a sentence"
    if len(words) > MAX_TOKENS:
        return (
            f"it has {len(words)} words and marks; the checker takes sentences of up to "
            f"{MAX_TOKENS}: divide it"
        )
    unknown = [word.text for word in words if not (word.is_mark or word.is_known)]
    return explain_unknown_words(unknown) if unknown else ""


def find_parse(words: Sequence[Word]) -> tuple[Sequence[Word], Parse] | None:
    """Return the words that have a parse, the sentence's or those without commas, and the parse."""
    if not 0 < len(words) <= MAX_TOKENS:
        return None
    for attempt in _vary(words):
        tree = parse(make_sentence(attempt))
        if tree and not (len(attempt) < len(words) and _cuts_phrase(words, tree)):
            return attempt, tree
    return None


def _cuts_phrase(words: Sequence[Word], tree: Parse) -> bool:
    """Return whether a comma that the parse lacks separates a genitive from its noun."""
    commas, before = set(), 0
    for word in words:
        if word.text == ",":
            commas.add(before)
        else:
            before += 1
    return any(
        second.word_index in commas and is_noun(first, "gen") and is_noun(second)
        for first, second in pairwise(tree.leaves)
    )


def _vary(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """Yield a sentence, the same with all macrons free and, if it has commas, without them."""
    yield words
    if any(word.is_misspelt for word in words):
        yield respell_words(words)
    without_commas = [word for word in words if word.text != ","]
    if len(without_commas) < len(words):
        yield without_commas


def _spelling_notes(text: str, words: Sequence[Word], leaves: Iterable[Leaf]) -> Iterator[str]:
    """Yield a note on every word whose spelling differs from that in the parse."""
    if text != nfc(text):
        yield "it is not NFC (its accents are separate characters); checked as NFC"
    read = {leaf.word_index: leaf.reading.text for leaf in leaves if leaf.reading}
    for index, word in enumerate(words):
        texts = {reading.text for reading in word.readings} or {word.literal}
        spelling = read.get(index)
        if spelling not in texts:  # It has another form in the parse.
            spelling = min(texts)
        if spelling.lower() != word.text.lower():
            yield f"`{word.text}` is written `{_capitalize_as(spelling, word.text)}`"
        elif spelling[:1] != word.text[:1] and word.text.islower():
            yield f"`{word.text}` is a name: `{spelling}`"


def _capitalize_as(spelling: str, written: str) -> str:
    if len(written) > 1 and written.isupper():
        return spelling.upper()
    return spelling[:1].upper() + spelling[1:] if written[:1].isupper() else spelling
