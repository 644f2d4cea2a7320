"""Diagnosis by repair: the smallest change that makes a sentence right is the explanation.

A mistake must be provable: the same words in the same order must be right with one or two other
forms, and a rule of the grammar must demand these forms. Otherwise, the sentence is beyond the
grammar, and the diagnosis says how far the grammar could follow.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, combinations
from typing import NamedTuple

from valyrian_jax.language.checker.case_rules import DEMANDED_CASES
from valyrian_jax.language.checker.clause_rules import find_violation
from valyrian_jax.language.checker.explanation import (
    explain_order,
    explain_repairs,
    explain_tense,
    quote,
)
from valyrian_jax.language.checker.parse_tree import Leaf, Parse, Sentence
from valyrian_jax.language.checker.parser import SENTENCES, list_templates, match_template, parse
from valyrian_jax.language.checker.repair import MAX_COST, Repair, make_repair, measure_change
from valyrian_jax.language.words.analysis import Reading, inflect
from valyrian_jax.language.words.vowels import lengthen_last_vowel

_MAX_TOKENS = 25  # No corpus sentence is longer, and the work grows faster than the square.
_MAX_PAIR_TOKENS = 9  # of a sentence in which two words are changed at once
_MARGIN = 0.9  # between the costs of repairs that are about equally likely
_MAX_REPAIRS = 3

_FormsByIndex = Mapping[int, Sequence[Sequence[Reading]]]  # groups of other forms of some words


class Diagnosis(NamedTuple):
    """What is wrong with a sentence, or where the grammar ends.

    Attributes:
        is_mistake: Whether a wrong form is proven.
        reason: The explanation.
        leaves: The words of the repaired sentence.
    """

    is_mistake: bool
    reason: str
    leaves: tuple[Leaf, ...] = ()


def diagnose(sentence: Sentence) -> Diagnosis:
    """Diagnose a sentence of known words that has no parse."""
    if len(sentence.words) > _MAX_TOKENS:
        return Diagnosis(
            False,
            "its words are known, but the grammar does not cover this sentence; "
            "divide it into shorter ones to learn more",
        )
    if tree := parse(replace(sentence, check_tense=False, phrases={})):
        return Diagnosis(True, explain_tense(tree), tree.leaves)
    if tree := parse(replace(sentence, check_clauses=False, phrases={})):
        return Diagnosis(True, find_violation(tree), tree.leaves)
    forms = {
        i: _list_other_forms(readings) for i, readings in enumerate(sentence.readings) if readings
    }
    if repairs := _choose(_repair_all(sentence, [{index: forms[index]} for index in forms])):
        return Diagnosis(True, explain_repairs(repairs), repairs[0].leaves)
    if order := next(
        (o for o in _list_other_orders(sentence) if parse(_reorder(sentence, o))), None
    ):
        return Diagnosis(False, explain_order(sentence, order))
    pairs = combinations(forms, 2) if len(sentence.words) <= _MAX_PAIR_TOKENS else ()
    if repairs := _choose(_repair_all(sentence, ({i: forms[i], j: forms[j]} for i, j in pairs))):
        return Diagnosis(True, explain_repairs(repairs), repairs[0].leaves)
    return Diagnosis(False, _explain_end(sentence))


def _repair_all(sentence: Sentence, choices: Iterable[_FormsByIndex]) -> Iterator[Repair]:
    """Yield every repair that changes exactly the words of one of the choices."""
    for forms in choices:
        for changed in _find_parsed(sentence, forms):
            for tree in _parse_all(changed):
                if repair := make_repair(sentence, tree, [*forms]):
                    yield repair


def _choose(repairs: Iterable[Repair]) -> list[Repair]:
    """Return the smallest repairs, the most likely first."""
    best: dict[tuple[tuple[int, str], ...], Repair] = {}
    for repair in sorted(repairs, key=lambda repair: repair.cost):
        best.setdefault(repair.forms, repair)
    smallest = min((repair.cost for repair in best.values()), default=0)
    return [r for r in best.values() if r.cost <= smallest + _MARGIN][:_MAX_REPAIRS]


def _find_parsed(sentence: Sentence, forms: _FormsByIndex) -> Iterator[Sentence]:
    """Yield every sentence that has a parse and one group of other forms for each word of `forms`.

    If any of them has a parse, so has the sentence in which each word has all its other forms at
    once. So a single parse rules out most of them.
    """
    changed = _replace_readings(sentence, {i: [*chain(*groups)] for i, groups in forms.items()})
    if not parse(changed):
        return
    undecided = next((index for index, groups in forms.items() if len(groups) > 1), None)
    if undecided is None:
        yield changed
        return
    for group in forms[undecided]:
        yield from _find_parsed(sentence, {**forms, undecided: [group]})


def _replace_readings(sentence: Sentence, readings: Mapping[int, Sequence[Reading]]) -> Sentence:
    # Phrases that end before the first word do not change.
    phrases = {end: found for end, found in sentence.phrases.items() if end <= min(readings)}
    replaced = [readings.get(i, old) for i, old in enumerate(sentence.readings)]
    return replace(sentence, readings=replaced, phrases=phrases)


def _parse_all(sentence: Sentence) -> Iterator[Parse]:
    end = Parse(len(sentence.words), {}, ())
    for template in list_templates(sentence, SENTENCES, end.start):
        for tree in match_template(sentence, template, end):
            if tree.start == 0:
                yield tree


def _list_other_forms(readings: Sequence[Reading]) -> list[list[Reading]]:
    """Return the other forms of the words of some readings, the most similar first.

    They are grouped by case and mood: of parses that differ only in their words, the parser yields
    one, and that one may have a form that no rule demands.
    """
    texts = {reading.text for reading in readings}
    lexemes = dict.fromkeys(r.lexeme for r in readings if r.word_class != "word")
    forms = [form for lexeme in lexemes for form in inflect(lexeme)]
    forms += [
        replace(form, text=text, coordinated=True)
        for form in forms
        if form.word_class == "noun" and (text := lengthen_last_vowel(form.text))
    ]
    costs = {form: measure_change(form, readings)[0] for form in forms if form.text not in texts}
    groups: dict[tuple[str, str, str], list[Reading]] = {}
    for form in sorted(costs, key=lambda form: costs[form]):
        if costs[form] <= MAX_COST and (form.word_class != "noun" or form.case in DEMANDED_CASES):
            case = form.case if form.word_class == "noun" else ""
            groups.setdefault((form.word_class, case, form.mood), []).append(form)
    return list(groups.values())


def _explain_end(sentence: Sentence) -> str:
    """Explain how far the grammar could follow, and without which word it accepts the sentence."""
    words, last = sentence.words, len(sentence.words) - 1
    parts = []
    for end in range(last - 1, 0, -1):
        if parse(_reorder(sentence, [*range(end), last])):
            beginning = " ".join(words[:end]).replace(" ,", ",")
            parts.append(f"the grammar follows it only as far as {quote([beginning])}")
            break
    for index, word in enumerate(words[:last]):
        others = [i for i in range(len(words)) if i != index]
        if sentence.readings[index] and parse(_reorder(sentence, others)):
            parts.append(f"the grammar accepts it without `{word}`")
            break
    return "; ".join(parts) or "its words are known, but the grammar does not cover this sentence"


def _list_other_orders(sentence: Sentence) -> Iterator[list[int]]:
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
