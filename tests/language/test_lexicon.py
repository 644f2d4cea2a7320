"""The lexicon file is well formed and uses the notation that the README explains."""

import runpy
from pathlib import Path

import pytest

from valyrian_jax.errors import UserError
from valyrian_jax.language.generator.sentence_state import NOT_SENSES
from valyrian_jax.language.grammar import load_grammar
from valyrian_jax.language.words.categories import NUMBERS, TENSES
from valyrian_jax.language.words.lexicon import (
    ADJECTIVAL_POS,
    COLUMNS,
    NOMINAL_POS,
    load_lexicon,
    read_table,
)

SOURCES = {
    *("W", "NJ", "AE", "DU", "DJ", "TV", "HD", "SO", "PH", "GU", "BL", "MO", "ZN", "LN"),
    *("ending", "rule", "rule-t", "sixth", "undecided", "memory"),
}
POS = {*NOMINAL_POS, *ADJECTIVAL_POS, "verb", "adp", "conj", "adv", "interj"}
FRAME_KINDS = (
    "intransitive motion speak rest transitive have likes give benefit tool with wish saying "
    "copula located"
)


def test_rows_are_well_formed() -> None:
    assert len(read_table("lexicon.csv", COLUMNS)) == 953
    for word in load_lexicon():
        assert all((word.lemma, word.gloss, word.source)), word
        assert word.pos in POS, word
        assert set(word.source.split()) <= SOURCES, word


def test_frames_use_the_known_kinds_and_senses() -> None:
    kinds = set(FRAME_KINDS.split())
    nouns = [word for word in load_lexicon() if word.pos in NOMINAL_POS]
    senses = {sense for word in nouns for sense in word.senses} | {"any"}
    for word in load_lexicon():
        if word.pos == "verb":
            for frame in filter(None, word.frame.split(";")):
                kind, *arguments = frame.replace(">", "").removesuffix("°").split()
                assert kind in kinds, word
                assert set(arguments) <= senses, word
        elif word.pos in ("det", "num"):
            assert set(word.frame.split()) <= set(NUMBERS), word
        elif word.lemma == "skorverdon":
            assert word.frame == "before gen"
        elif word.pos == "adv":
            assert set(word.frame.replace("°", "").split()) <= {*kinds, *TENSES}, word
        if word.pos in ADJECTIVAL_POS:
            assert set(word.senses) <= senses, word


def test_templates_use_the_senses_of_the_lexicon() -> None:
    senses = {sense for word in load_lexicon() for sense in word.senses}
    senses |= NOT_SENSES
    lemmas = {word.lemma for word in load_lexicon()} | {"līr", "jēda"}  # N may be a single word.
    for template in load_grammar().templates:
        for letter, role in template.roles.items():
            if role.category == "participant":
                arguments = {a for a in role.arguments if a[0] not in "=~-"}
                allowed = senses | lemmas if letter == "N" else senses
                assert arguments <= allowed, (template.name, letter)


def test_the_readme_counts_words_and_forms() -> None:
    root = Path(__file__).parents[2]
    coverage = runpy.run_path(str(root / "tests" / "bench" / "language_coverage.py"))
    readme = (root / "data" / "README.md").read_text(encoding="utf-8")
    for row in coverage["list_words"]():
        assert f"| {' | '.join(row)} |" in readme


def test_a_damaged_table_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"lexicon.csv: the header must be lemma,pos"):
        read_table("lexicon.csv", COLUMNS[:2])


def test_derived_words_are_inferred_and_not_for_the_generator() -> None:
    rows = {row["lemma"] for row in read_table("lexicon.csv", COLUMNS)}
    derived = [word for word in load_lexicon() if word.lemma not in rows]
    assert {("lykirī", "adv"), ("gevī", "adv"), ("dohaeriros", "noun")}.isdisjoint(
        (word.lemma, word.pos) for word in derived
    )
    lemmas = {word.lemma for word in derived}
    assert {"sȳrkta", "kirinpa", "rōvirī", "joriliros"} <= lemmas
    assert "kostōbkta" not in lemmas
    assert len(lemmas) == len(derived)
    assert all(word.is_inferred and not word.senses and not word.frame for word in derived)
