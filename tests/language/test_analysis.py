"""Analysis: every form of the tables is found again; capitals, phrases and derived words."""

import pytest

from valyrian_jax.language.dictionary import describe_lexeme, look_up
from valyrian_jax.language.words.analysis import Reading, analyze, inflect
from valyrian_jax.language.words.lexicon import load_lexicon
from valyrian_jax.language.words.paradigm import format_paradigm, paradigm_record


def find_features(word: str, lemma: str) -> set[tuple[str, str]]:
    readings = (reading for reading in analyze(word) if reading.lexeme.lemma == lemma)
    return {(r.case or r.tense, r.number) for r in readings}


@pytest.mark.parametrize(
    ("word", "lemma"),
    [
        ("Jelmāzmo", "jelmāzma"),
        ("Uēpo", "uēpa"),
        ("Lentrot", "lentor"),
        ("Dovaogēdyro", "dovaogēdy"),
        ("Āeksio", "āeksio"),
        ("Ōño", "ōños"),
        ("VALAR", "vala"),
        ("Valar", "vala"),
    ],
)
def test_a_capital_does_not_make_a_known_word_unknown(word: str, lemma: str) -> None:
    assert lemma in {reading.lexeme.lemma for reading in analyze(word)}


@pytest.mark.parametrize(
    ("word", "lemma", "attested"),
    [
        ("rytsas", "rytsas", True),
        ("geros", "geros ilas", True),
        ("syt", "skoro syt", True),
        ("langār", "langār", True),
        ("kūrie", "kūrie", True),
        ("gōvilēza", "gōvilemagon", True),
        ("qubirī", "qubirī", True),
        ("karirī", "karirī", False),
        ("rōvirī", "rōvirī", False),
        ("sȳrkta", "sȳrkta", False),
        ("aderpa", "aderpa", True),
        ("remȳti", "remȳti", True),
        ("Vhagar", "Vhagar", True),
        ("Daenerys", "Daenerys", True),
        ("Yunkai", "Yunkai", True),
        ("Mīrīn", "Mīrīn", True),
        ("glaestas", "glaesagon", False),
    ],
)
def test_words_are_known(word: str, lemma: str, attested: bool) -> None:
    readings = [reading for reading in analyze(word) if reading.lexeme.lemma == lemma]
    assert readings
    assert any(reading.attested for reading in readings) == attested


def test_a_word_without_a_dictionary_form_has_only_its_own() -> None:
    assert find_features("remȳti", "remȳti") == {("loc", "pl")}
    assert find_features("ezīmptos", "ezīmptos") == {("ins", "pl")}


def test_a_name_of_unknown_class_is_a_vocative_too() -> None:
    assert find_features("Vhagar", "Vhagar") == {("nom", "sg"), ("voc", "sg")}


def test_emphatic_pronouns_have_the_person_of_their_pronouns() -> None:
    persons = {w: analyze(w)[0].person + analyze(w)[0].number for w in ("nykēla", "jemēle", "jāla")}
    assert persons == {"nykēla": "1sg", "jemēle": "2pl", "jāla": "3sg"}


def test_every_form_is_analysed_as_its_word() -> None:
    for lexeme in load_lexicon()[::17]:
        for reading in inflect(lexeme):
            assert reading in analyze(reading.text)


def test_a_form_has_all_its_readings_in_the_order_of_the_lexicon() -> None:
    """Looking up the words by the beginning of a form loses none that inflecting all finds."""
    readings: dict[str, list[Reading]] = {}
    for lexeme in load_lexicon():
        for reading in inflect(lexeme):
            readings.setdefault(reading.text, []).append(reading)
    for text, expected in readings.items():
        found = [reading for reading in analyze(text) if not reading.coordinated]
        assert [reading for reading in found if reading.text == text] == expected


def test_no_word_is_unknown_because_of_its_length_only() -> None:
    assert max(len(reading.text) for w in load_lexicon() for reading in inflect(w)) < 30
    assert analyze("valar" * 20_000) == ()


def test_a_paradigm_shows_what_the_sources_give() -> None:
    def table(lemma: str) -> str:
        return "\n".join(format_paradigm(entry.lexeme) for entry in look_up(lemma).entries)

    assert "ēdvos" in table("ēdrugon")
    assert "ēdrvos" not in table("ēdrugon")
    assert describe_lexeme(look_up("dāeremagon").entries[0].lexeme) == "verb, inflects like emagon"
    assert "dāerēza" in table("dāeremagon")
    assert "dāeremas" not in table("dāeremagon")
    assert "dēmos°/dēmaos" in table("dēmagon")
    record = paradigm_record(look_up("emagon").entries[0].lexeme)
    forms = {form["text"]: form["sure"] for form in record["forms"]}
    assert forms["emā"]
    assert not forms["emāt"]


def test_no_name_has_the_form_of_a_small_word() -> None:
    """A capital at the beginning of a sentence does not make a small word a name."""
    pos = ("adp", "conj", "interj", "adv", "pron")
    small = {w.lemma for w in load_lexicon() if w.pos in pos and not w.is_inferred}
    forms = {reading.text for w in load_lexicon() if w.pos == "name" for reading in inflect(w)}
    assert {form for form in forms if form.lower() in small} == set()


def test_a_word_that_agrees_with_everything_has_few_readings() -> None:
    readings = analyze("ampa")
    assert {(r.position, r.case, r.gender, r.number) for r in readings} == {
        ("full", "nom", "", ""),
        *((position, "", "", "") for position in ("full", "prepositive", "prevocalic")),
    }
