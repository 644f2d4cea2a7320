"""Probabilities: of a derivation, that of its choices; of a text, the sum over its derivations; of all texts, one."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from math import inf, log2

import pytest

from valyrian_jax.language import generate_paragraphs, load_grammar, text_bits
from valyrian_jax.language.generator.entropy import derivations
from valyrian_jax.language.generator.paragraphs import draw, to_text
from valyrian_jax.language.generator.realize import realize
from valyrian_jax.language.generator.sentence_state import Scene, SentenceState
from valyrian_jax.language.generator.weighted_choice import (
    DeadEndError,
    WeightedChoice,
    seeded_choice,
    zipf_weights,
)
from valyrian_jax.language.grammar import Grammar, Pattern

GRAMMAR = load_grammar()


def only(*names: str) -> Grammar:
    return replace(GRAMMAR, sentences=tuple(p for p in GRAMMAR.sentences if p.name in names))


def test_bits_are_those_of_the_choices() -> None:
    chance = WeightedChoice(lambda items, weights: 1)
    assert chance.pick("abc", [1, 1, 2]) == "b"
    assert chance.happens(0.25) is False
    assert chance.bits == pytest.approx(2 - log2(0.75))
    with pytest.raises(DeadEndError):
        chance.pick([], [])


def test_choices_follow_their_weights() -> None:
    chance = seeded_choice(3)
    counts = Counter(chance.pick("ab", [1, 3]) for _ in range(20_000))
    assert counts["b"] / 20_000 == pytest.approx(0.75, abs=0.01)
    weights = zipf_weights(3, 1, 2)
    assert sum(weights) == pytest.approx(1)
    assert weights[0] / weights[1] == pytest.approx((3 / 2) ** 2)


@pytest.mark.parametrize("name", ["5, realm", "6, ships", "16, and"])
def test_probabilities_are_frequencies(name: str) -> None:
    """Of all that a small grammar can say: the exact probability of a sentence is how often it is drawn."""
    grammar = only(name) if name != "16, and" else only("16, and", "2, no one")
    chance, counts, dead = seeded_choice(1), Counter[str](), 0
    for _ in range(4000):
        try:
            counts[draw(grammar, chance, Scene())[0]] += 1
        except DeadEndError:
            dead += 1
    assert dead < 80
    for sentence, count in counts.most_common(3):
        exact = sum(probability for _, probability in derivations(sentence, Scene(), grammar))
        spread = (exact * (1 - exact) / 4000) ** 0.5
        assert abs(count / 4000 - exact) < 4 * spread, (sentence, count / 4000, exact)


def test_probabilities_sum_to_one() -> None:
    """What was drawn has the probability that is left when as much is unseen as was seen once (Good and Turing)."""
    grammar = only("5, realm")
    chance = seeded_choice(2)
    counts = Counter(draw(grammar, chance, Scene())[0] for _ in range(3000))
    unseen = sum(count == 1 for count in counts.values()) / 3000
    total = sum(p for sentence in counts for _, p in derivations(sentence, Scene(), grammar))
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
    "pattern", [p for p in GRAMMAR.sentences if "clause" in {r.category for r in p.roles.values()}]
)
def test_sentences_of_clauses_are_derived(pattern: Pattern) -> None:
    """A clause inside another sentence loses its mark: a statement in `lo ..., ...!` has no full stop."""
    chance, text = seeded_choice(4), "." * 99
    while len(text) > 50:
        chance.bits = 0.0
        with suppress(DeadEndError):
            text = to_text(realize(SentenceState(GRAMMAR, pattern, chance, set()), Scene())[0])
    alone = sum(p for _, p in derivations(text, Scene(), GRAMMAR))
    weight = pattern.weight / sum(p.weight for p in GRAMMAR.sentences)
    assert alone >= weight * 2**-chance.bits * (1 - 1e-9)


def test_a_form_with_two_numbers_has_two_derivations() -> None:
    """`zaldrīzī` is accusative singular and plural."""
    found = derivations("Vala zaldrīzī urnes.", Scene(), only("2"))
    assert len(found) == 2
    assert {scene.other.number for scene, _ in found if scene.other} == {"sg", "pl"}
