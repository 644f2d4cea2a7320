"""Probabilities: of a derivation, of a text as the sum over its derivations, and of all texts."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from math import inf, log2

import pytest

from valyrian_jax.language import generate_paragraphs, load_grammar, text_bits
from valyrian_jax.language.generator.entropy import DerivationSum, sum_paths
from valyrian_jax.language.generator.evidence import find_evidence
from valyrian_jax.language.generator.paragraphs import (
    generate_sentence,
    join_words,
    split_words,
)
from valyrian_jax.language.generator.realize import realize
from valyrian_jax.language.generator.sentence_state import Discourse, SentenceState
from valyrian_jax.language.generator.weighted_choice import (
    DeadEndError,
    WeightedChoice,
    seeded_choice,
    zipf_weights,
)
from valyrian_jax.language.grammar import Grammar
from valyrian_jax.language.template import Template

GRAMMAR = load_grammar()


def select_templates(*names: str) -> Grammar:
    return replace(GRAMMAR, sentences=tuple(t for t in GRAMMAR.sentences if t.name in names))


def test_bits_are_those_of_the_choices() -> None:
    choice = WeightedChoice(lambda items, weights: 1)
    assert choice.pick("abc", [1, 1, 2]) == "b"
    assert choice.happens(0.25) is False
    assert choice.bits == pytest.approx(2 - log2(0.75))
    with pytest.raises(DeadEndError):
        choice.pick([], [])


def test_choices_follow_their_weights() -> None:
    choice = seeded_choice(3)
    counts = Counter(choice.pick("ab", [1, 3]) for _ in range(20_000))
    assert counts["b"] / 20_000 == pytest.approx(0.75, abs=0.01)
    weights = zipf_weights(3, 1, 2)
    assert sum(weights) == pytest.approx(1)
    assert weights[0] / weights[1] == pytest.approx((3 / 2) ** 2)


@pytest.mark.parametrize("name", ["5, realm", "6, ships", "16, and"])
def test_the_probability_of_a_sentence_is_its_frequency(name: str) -> None:
    grammar = select_templates(name, "2, no one") if name == "16, and" else select_templates(name)
    choice, counts, dead_ends = seeded_choice(1), Counter[str](), 0
    for _ in range(4000):
        try:
            counts[generate_sentence(choice, grammar, Discourse())[0]] += 1
        except DeadEndError:
            dead_ends += 1
    assert dead_ends < 80
    for sentence, count in counts.most_common(3):
        exact = sum(DerivationSum(sentence, grammar).after(Discourse()).values())
        deviation = (exact * (1 - exact) / 4000) ** 0.5
        assert abs(count / 4000 - exact) < 4 * deviation, (sentence, count / 4000, exact)


def test_probabilities_sum_to_one() -> None:
    """Compare the total of the sentences drawn with the Good-Turing estimate of the rest."""
    grammar = select_templates("5, realm")
    choice = seeded_choice(2)
    counts = Counter(generate_sentence(choice, grammar, Discourse())[0] for _ in range(3000))
    unseen = sum(count == 1 for count in counts.values()) / 3000
    total = sum(sum(DerivationSum(text, grammar).after(Discourse()).values()) for text in counts)
    assert total == pytest.approx(1 - unseen, abs=0.02)
    assert 0.8 < total < 1


def test_a_text_is_at_least_as_probable_as_its_derivation() -> None:
    texts = [p for p in generate_paragraphs(60, seed=9) if len(p.text) < 110][:5]
    for paragraph in texts:
        bits = text_bits(paragraph.sentences, GRAMMAR)
        assert bits <= paragraph.bits + 1e-9
        assert bits > paragraph.bits - 8
    assert text_bits(["Riñe urnes vala.", "Taoba ēdrus."], GRAMMAR) == inf


@pytest.mark.parametrize(
    "template",
    [
        t
        for t in GRAMMAR.sentences_by_kind["tell"]
        if "part" in {r.category for r in t.roles.values()}
    ],
)
def test_a_sentence_with_a_clause_has_derivations(template: Template) -> None:
    """A clause has no final mark: a statement in `lo ..., ...!` has no full stop."""
    choice, text = seeded_choice(4), "." * 99
    while len(text) > 50:
        choice.bits = 0.0
        with suppress(DeadEndError):
            text = join_words(realize(SentenceState(GRAMMAR, template, choice), Discourse())[0])
    probability = sum(DerivationSum(text, GRAMMAR).after(Discourse()).values())
    weight = template.weight / sum(t.weight for t in GRAMMAR.sentences_by_kind["tell"])
    assert probability >= weight * 2**-choice.bits * (1 - 1e-9)


@pytest.mark.slow
def test_sentences_of_parts_in_any_order_have_derivations() -> None:
    sentences = [replace(t, weight=float(t.name == "fragment")) for t in GRAMMAR.sentences]
    grammar, choice = replace(GRAMMAR, sentences=tuple(sentences)), seeded_choice(3)
    texts: dict[str, float] = {}
    while not texts:
        choice.bits = 0.0
        with suppress(DeadEndError):
            text, _ = generate_sentence(choice, grammar, Discourse())
            texts[text] = 2**-choice.bits
    for text, probability in texts.items():
        derivations = DerivationSum(text, grammar).after(Discourse())
        assert sum(derivations.values()) >= probability * (1 - 1e-9)


def list_derivations(
    sentence: str, discourse: Discourse, grammar: Grammar
) -> dict[Discourse, float]:
    """Sum over derivations one by one, without dynamic programming."""
    evidence = find_evidence(split_words(sentence), grammar)
    outcomes = sum_paths(
        lambda choose: WeightedChoice(choose, evidence.contains_any),
        lambda choice: generate_sentence(choice, grammar, discourse),
        evidence.allows,
    )
    return {after: p for (text, after), p in outcomes.items() if text == sentence}


def test_dynamic_programming_finds_every_derivation() -> None:
    sentences = [s for p in generate_paragraphs(75, seed=5) for s in p.sentences if len(s) < 40]
    assert len(sentences) > 25
    for sentence in sentences:
        expected = list_derivations(sentence, Discourse(), GRAMMAR)
        result = DerivationSum(sentence, GRAMMAR).after(Discourse())
        assert result.keys() == expected.keys()
        assert all(result[d] == pytest.approx(expected[d], rel=1e-9) for d in expected), sentence


def test_a_form_with_two_numbers_has_two_derivations() -> None:
    """`zaldrīzī` is accusative singular and plural."""
    results = DerivationSum("Vala zaldrīzī urnes.", select_templates("2")).after(Discourse())
    assert len(results) == 2
    assert {d.mention.number for d in results if d.mention} == {"sg", "pl"}
