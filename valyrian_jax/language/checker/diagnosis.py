"""Diagnosis by repair: the smallest change that makes a sentence grammatical is the explanation.

The sentence is parsed again with one word in another of its forms, then with words in another
order, then without one word.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from valyrian_jax.language.checker.explanation import explain_form, explain_order, explain_tense
from valyrian_jax.language.checker.parse_tree import Leaf, Sentence
from valyrian_jax.language.checker.parser import parse
from valyrian_jax.language.words.analysis import FEATURES, Reading, inflect
from valyrian_jax.language.words.morphology import CASES, lengthen_last_vowel

_MAX_TOKENS = 25  # No corpus sentence is longer, and the work grows faster than the square.
_WORD_CLASSES = ("verb", "adjective", "noun", "word")  # A mistake is sought in this order.


def diagnose(sentence: Sentence) -> str:
    """Return what is wrong with a sentence that has no parse."""
    if len(sentence.words) > _MAX_TOKENS:
        return (
            "its words are known, but they do not fit together; "
            "divide it into shorter sentences to learn more"
        )
    if tree := parse(replace(sentence, check_tense=False, phrases={})):
        return explain_tense(tree)
    if repairs := list(_repair_forms(sentence)):
        _, leaf, leaves = min(repairs, key=lambda repair: repair[0])
        return explain_form(sentence, leaf, leaves)
    for order in _other_orders(sentence):
        if parse(_reorder(sentence, order)):
            return explain_order(sentence, order)
    for index, word in enumerate(sentence.words):
        others = [i for i in range(len(sentence.words)) if i != index]
        if sentence.readings[index] and parse(_reorder(sentence, others)):
            return f"`{word}` has no place in this sentence; without it the rest is right"
    return "its words are known, but they do not fit together in any sentence that the grammar has"


def _repair_forms(sentence: Sentence) -> Iterator[tuple[tuple[int, ...], Leaf, tuple[Leaf, ...]]]:
    """Yield (cost, leaf, all leaves) for every word with a form that makes the sentence right."""
    for index, readings in enumerate(sentence.readings):
        candidates = [(_distance(form, readings), form) for form in _other_forms(readings)]
        # Phrases that end before the word do not change.
        phrases = {end: sentence.phrases[end] for end in sentence.phrases if end <= index}
        for max_distance in (1, len(FEATURES)):
            forms = [form for distance, form in candidates if distance <= max_distance]
            changed = [*sentence.readings[:index], forms, *sentence.readings[index + 1 :]]
            repaired = replace(sentence, readings=changed, phrases=dict(phrases))
            if forms and (tree := parse(repaired)):
                leaf = next(leaf for leaf in tree.leaves if leaf.word_index == index)
                form = leaf.reading
                assert form is not None
                cost = (
                    _distance(form, readings),
                    _WORD_CLASSES.index(form.word_class),
                    CASES.index(form.case) if form.case else 0,  # subjects and objects first
                    sentence.grammar.sentences.index(tree.leaves[-1].template),
                    index,
                )
                yield cost, leaf, tree.leaves
                break


def _other_forms(readings: Sequence[Reading]) -> list[Reading]:
    """Return every form of the words read here, also coordinated if a reading is."""
    lexemes = dict.fromkeys(reading.lexeme for reading in readings)
    forms = [form for lexeme in lexemes for form in inflect(lexeme)]
    if not any(reading.coordinated for reading in readings):
        return forms
    coordinated = [
        replace(form, text=text, coordinated=True)
        for form in forms
        if (text := lengthen_last_vowel(form.text))
    ]
    return coordinated + forms


def _distance(form: Reading, readings: Sequence[Reading]) -> int:
    """Return the number of features that differ from the closest reading of the same word."""
    return min(
        len(form.differing_features(reading))
        for reading in readings
        if reading.lexeme == form.lexeme
    )


def _other_orders(sentence: Sentence) -> Iterator[list[int]]:
    """Yield the orders that learners confuse: a verb that is not last, and swapped neighbours."""
    indices = list(range(len(sentence.words)))
    for i in indices[:-2]:
        if any(reading.word_class == "verb" for reading in sentence.readings[i]):
            yield [*indices[:i], *indices[i + 1 : -1], i, indices[-1]]
    for i in indices[:-2]:
        yield [*indices[:i], i + 1, i, *indices[i + 2 :]]


def _reorder(sentence: Sentence, order: Sequence[int]) -> Sentence:
    words = [sentence.words[i] for i in order]
    readings = [sentence.readings[i] for i in order]
    return replace(sentence, words=words, readings=readings, phrases={})
