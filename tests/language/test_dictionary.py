"""The dictionary finds words in any form and from English, and says what they are."""

import unicodedata

import pytest

from valyrian_jax.language import load_lexicon, look_up
from valyrian_jax.language.checker.reading import read_words
from valyrian_jax.language.dictionary import describe_entry, describe_lexeme, entry_record
from valyrian_jax.language.examples import find_example, load_examples, name_sources
from valyrian_jax.language.meanings import find_by_sense, list_senses
from valyrian_jax.language.words.analysis import inflect
from valyrian_jax.language.words.paradigm import format_paradigm, paradigm_record
from valyrian_jax.language.words.vowels import SHORT_VOWELS

UNMARKED = str.maketrans(SHORT_VOWELS | {"ñ": "n"})


def find_lemmas(query: str) -> list[str]:
    return [entry.lexeme.lemma for entry in look_up(query).entries]


@pytest.mark.parametrize(
    ("query", "lemma", "description"),
    [
        ("zaldrīzoti", "zaldrīzes", "zaldrīzoti: genitive, dative or locative plural"),
        ("ZALDRIZOTI", "zaldrīzes", "zaldrīzoti: genitive, dative or locative plural"),
        ("ūndas", "urnegon", "ūndas: third person singular perfect indicative"),
        ("undas", "urnegon", "ūndas: third person singular perfect indicative"),
        (" «Urnēt!» ", "urnegon", "urnēt: second person plural present indicative"),
        ("kirini", "kirine", "kirini: nominative plural lunar or solar"),
        ("ēdruks", "ēdrugon", "ēdruks: first or third person singular present passive (inferred)"),
        ("jikās", "jikagon", "jikās: second person singular present imperative"),
        ("urnegon", "urnegon", "urnegon: present infinitive"),
        ("taobā", "taoba", 'taobā: nominative singular ("and taoba")'),
    ],
)
def test_a_form_is_found_and_described(query: str, lemma: str, description: str) -> None:
    entry = look_up(query).entries[0]
    assert entry.lexeme.lemma == lemma
    assert description in describe_entry(entry)


def test_every_form_finds_its_word_in_any_spelling() -> None:
    for lexeme in load_lexicon()[::59]:
        for reading in inflect(lexeme)[::7]:
            text = reading.text
            for query in (text, text.upper(), unicodedata.normalize("NFD", text)):
                assert lexeme.lemma in find_lemmas(query), query
            spelt = look_up(text.translate(UNMARKED)).entries
            assert any(entry.match in ("form", "spelling") for entry in spelt), text


@pytest.mark.parametrize(
    ("english", "lemma"),
    [
        ("dragon", "zaldrīzes"),
        (" “Dragons”? ", "zaldrīzes"),
        ("to eat", "ipradagon"),
        ("sees", "urnegon"),
        ("is", "sagon"),
        ("men", "vala"),
        ("given", "tepagon"),
        ("them", "pōnta"),
        ("younger sister", "hāedar"),
        ("a king", "dārys"),
        ("hello", "rytsas"),
        ("fire and blood", "perzys ānogār"),
        ("Stormborn", "Jelmāzmo"),
        ("grandm", ""),
    ],
)
def test_english_finds_words_by_their_meaning(english: str, lemma: str) -> None:
    assert [*find_lemmas(english), ""][0] == lemma


def test_whole_meanings_come_before_words_and_words_before_parts() -> None:
    entries = look_up("fire").entries
    assert [entry.match for entry in entries] == ["sense"] + ["words"] * (len(entries) - 1)
    assert len(entries) > 1
    assert find_lemmas("dragon") == ["zaldrīzes"]  # not "to eat (said to a dragon)"
    assert "kisagon" in find_lemmas("said to a dragon")
    assert find_lemmas("dragonfi") == ["drakarys"]
    assert find_lemmas("dr") == []


def test_every_sense_of_the_lexicon_finds_its_word() -> None:
    for lexeme in load_lexicon():
        for sense in () if lexeme.is_inferred else list_senses(lexeme.gloss):
            assert lexeme in find_by_sense(sense), sense


def test_a_phrase_is_found_whole_and_by_its_words() -> None:
    assert find_lemmas("Geros ilas!") == find_lemmas("ilas") == ["geros ilas"]
    assert find_lemmas("skorio syt") == ["skorio syt"]


def test_what_is_not_found_gets_the_nearest_words_of_both_languages() -> None:
    result = look_up("zaldrīzxr")
    assert not result.entries
    assert "zaldrīzes" in result.nearest
    assert "bone" in look_up("bonne").nearest
    for hostile in ("", "?!", "vali kari issi", "x" * 100_000, "\x1b[31m", "7"):
        assert not look_up(hostile).entries


def test_words_are_described_in_plain_words() -> None:
    descriptions = {
        "zaldrīzes": "noun, solar, fourth declension",
        "kirine": "adjective, second class",
        "urnegon": "verb, stem in a vowel",
        "ipradagon": "verb, stem in a consonant",
        "sagon": "verb, irregular",
        "hen": "preposition, with the locative or dative",
        "syt": "postposition, with the genitive",
        "se": "conjunction",
        "ampa": "numeral, does not change",
        "nyke": "pronoun",
    }
    for lemma, description in descriptions.items():
        assert describe_lexeme(look_up(lemma).entries[0].lexeme) == description
    assert all(describe_lexeme(lexeme) for lexeme in load_lexicon())


def test_every_paradigm_fits_and_shows_every_form_and_no_empty_row() -> None:
    for lexeme in load_lexicon()[::5]:
        text = format_paradigm(lexeme)
        lines = text.splitlines()
        assert max(map(len, lines), default=0) <= 80, lexeme.lemma
        assert not any({*line.split("  ")[1:]} - {""} == {"—"} for line in lines), lexeme.lemma
        for sign, meaning in (("°", "inferred by analogy"), ("—", "not established")):
            assert (sign in text) == (f"{sign} {meaning}" in text)
        forms = {form["text"] for form in paradigm_record(lexeme)["forms"]}
        words = {*text.replace("°", "").replace("/", " ").split()}
        assert forms <= words if text else len(forms) == 1, lexeme.lemma


def test_equal_rows_of_a_paradigm_are_one() -> None:
    paradigm = format_paradigm(look_up("urnegon").entries[0].lexeme)
    assert "\nperfect, pluperfect singular  ūndon " in paradigm
    assert "lunar, solar" in format_paradigm(look_up("kirine").entries[0].lexeme)


def test_examples_are_attested_sentences_with_the_word() -> None:
    lexeme = look_up("zaldrīzes").entries[0].lexeme
    example, other = find_example(lexeme, "zaldrīzesse"), find_example(lexeme)
    assert example
    assert other
    assert (example.text, example.source) == ("Skoriot ñuhyz zaldrīzesse ilzi?", "TV")
    assert other.english == "A dragon is not a slave."
    verb = find_example(look_up("sōvēs").entries[0].lexeme, "sōvēs")
    assert verb
    assert verb.text == "Sōvēs!"
    assert find_example(look_up("ñāmar").entries[0].lexeme) is None


def test_examples_and_words_have_known_sources() -> None:
    sources = {row.source for row in load_examples()} | {row.source for row in load_lexicon()}
    assert all(map(name_sources, sources))
    assert len({example.text for example in load_examples()}) == len(load_examples())
    unknown = {
        word.text
        for example in load_examples()
        for word in read_words(example.text)
        if not (word.is_mark or word.is_known)
    }
    assert unknown <= {"Gadbag", "gūrotriri", "Mirinot", "saelot"}  # no source explains them


def test_a_record_has_the_forms_the_source_and_an_example() -> None:
    record = entry_record(look_up("zaldrizoti").entries[0])
    assert record["lemma"] == "zaldrīzes"
    assert record["match"] == "spelling"
    assert record["found"] == ["zaldrīzoti: genitive, dative or locative plural"]
    assert {"case": "gen", "number": "pl", "text": "zaldrīzoti", "sure": True} in record["forms"]
    assert record["example"]["source"] == "TV"
