"""Spelling: the words that a text means, however it writes vowels, accents and capitals."""

from difflib import get_close_matches
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valyrian_jax.language.words.analysis import MAX_WORD, analyze, inflect
from valyrian_jax.language.words.lexicon import load_lexicon
from valyrian_jax.language.words.spelling import (
    correct_macrons,
    find_similar_lemmas,
    fold,
    readings_as_meant,
    suggest,
)
from valyrian_jax.language.words.vowels import SHORT_VOWELS, lengthen_last_vowel

FORMS = sorted({reading.text for lexeme in load_lexicon() for reading in inflect(lexeme)})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("zaldrizes", "zaldrīzes"),
        ("Zaldrizes", "Zaldrīzes"),
        ("vaalar", "valar"),
        ("zaldriizes", "zaldrīzes"),
        ("zaldrîzes", "zaldrīzes"),
        (normalize("NFD", "zaldrîzes"), "zaldrīzes"),
        ("iprādis", "ipradis"),
        ("Dracarys", "Drakarys"),
        ("muna", "muña"),
        ("daenerys", "Daenerys"),
        ("māzilā", "māzīlā"),
        ("zaldrizē", "zaldrīzē"),
        ("hontessē", "hontessē"),  # "and birds" is known as it is
        ("dovaogedyr", "dovaogēdyr"),
    ],
)
def test_a_word_is_recognised_as_meant(written: str, meant: str) -> None:
    spellings = readings_as_meant(written)
    if written == meant:
        assert spellings == ()
    else:
        assert spellings[0][0] == meant
    assert all(readings == analyze(spelling) for spelling, readings in spellings)


def test_what_differs_in_more_is_not_recognised() -> None:
    assert readings_as_meant("zaldrizzes") == ()
    assert readings_as_meant("xyzzy") == ()
    assert readings_as_meant("") == ()
    assert readings_as_meant("a" * 100_000) == ()


@pytest.mark.parametrize("change", ["no macrons", "doubled", "NFD", "upper"])
def test_every_form_is_found_again(change: str) -> None:
    doubled = {ord(long): short * 2 for long, short in SHORT_VOWELS.items()}
    for form in FORMS[::29]:
        written = {
            "no macrons": form.translate(
                {ord(long): short for long, short in SHORT_VOWELS.items()}
            ),
            "doubled": form.translate(doubled),
            "NFD": normalize("NFD", form),
            "upper": form.upper(),
        }[change]
        spellings = [spelling.lower() for spelling, _ in readings_as_meant(written)]
        assert analyze(written) or form.lower() in spellings, (form, written)


def test_a_coordinated_form_keeps_its_long_vowel() -> None:
    assert lengthen_last_vowel("zaldrīzesse") == "zaldrīzessē"
    (spelling, readings), *_ = readings_as_meant("zaldrizessē")
    assert spelling == "zaldrīzessē"
    assert readings[0].coordinated


@given(st.text(max_size=2 * MAX_WORD))
def test_any_text_is_folded_and_looked_up(word: str) -> None:
    assert fold(fold(word)) == fold(word)
    for spelling, readings in readings_as_meant(word):
        assert readings
        assert fold(spelling) == fold(word)


@given(st.text(st.sampled_from("aeglnorsz īñqA"), max_size=30))
def test_the_letters_of_a_word_rule_out_no_close_match(word: str) -> None:
    lemmas = [lexeme.lemma for lexeme in load_lexicon()]
    expected = get_close_matches(word, lemmas, 3)
    assert get_close_matches(word, find_similar_lemmas(word), 3) == expected


def test_suggestions_put_spellings_first() -> None:
    assert suggest("urnet") == ("urnēt",)
    assert "zaldrīzes" in suggest("zaldrizs")
    assert correct_macrons("urnet") == ("urnēt",)
    assert correct_macrons("muna") == ()
