"""The lexicon file: well formed, and written in the notation that its README explains."""

import pytest

from valyrian_jax.errors import UserError
from valyrian_jax.language.grammar import load_grammar
from valyrian_jax.language.words.lexicon import COLUMNS, load_lexicon, read_table
from valyrian_jax.language.words.morphology import NUMBERS, TENSES

SOURCES = {"W", "NJ", "AE", "DU", "DJ", "TV", "ZN", "LN", "ending", "rule-t", "sixth", "undecided"}
POS = {"noun", "name", "adj", "det", "num", "verb", "pron", "adp", "conj", "adv", "interj"}
KINDS = {
    "intransitive",
    "motion",
    "speak",
    "rest",
    "transitive",
    "have",
    "likes",
    "give",
    "benefit",
    "tool",
    "with",
    "wish",
    "saying",
    "copula",
    "located",
}


def test_rows_are_well_formed() -> None:
    lexicon = load_lexicon()
    assert len(lexicon) == 731
    for word in lexicon:
        assert all((word.lemma, word.gloss, word.source)), word
        assert word.pos in POS, word
        assert set(word.source.split()) <= SOURCES, word


def test_frames_use_the_known_kinds_and_senses() -> None:
    senses = {
        s for word in load_lexicon() if word.pos in ("noun", "name", "pron") for s in word.senses
    } | {"any"}
    for word in load_lexicon():
        if word.pos == "verb":
            for frame in filter(None, word.frame.split(";")):
                kind, *places = frame.replace(">", "").split()
                assert kind in KINDS, word
                assert set(places) <= senses, word
        elif word.pos in ("det", "num"):
            assert set(word.frame.split()) <= set(NUMBERS), word
        elif word.pos == "adv":
            assert set(word.frame.split()) <= {*KINDS, *TENSES}, word
        if word.pos in ("adj", "det", "num"):
            assert set(word.senses) <= senses, word


def test_templates_ask_for_senses_that_exist() -> None:
    senses = {s for word in load_lexicon() for s in word.senses}
    extra = {"noun", "name", "pron", "pronoun", "you", *NUMBERS}
    for pattern in (*load_grammar().sentences, *load_grammar().phrases):
        for letter, role in pattern.roles.items():
            if role.category == "participant":
                wanted = {a for a in role.arguments if not a.startswith("=")}
                assert wanted <= senses | extra, (pattern.name, letter)


def test_damaged_tables_are_the_users_error() -> None:
    with pytest.raises(UserError, match=r"lexicon.csv: the header must be lemma,pos"):
        read_table("lexicon.csv", COLUMNS[:2])
