"""Inflection: forms attested in the sources, and complete ending tables."""

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from valyrian_jax.errors import UserError
from valyrian_jax.language.words.categories import (
    CASES,
    GENDERS,
    MOODS,
    NO_PERSON,
    NUMBERS,
    PERSONS,
    POSITIONS,
    TENSES,
)
from valyrian_jax.language.words.ending_tables import (
    ADJECTIVE_TABLES,
    NOMINAL_TABLES,
    VERB_TABLES,
    Form,
)
from valyrian_jax.language.words.lexicon import Lexeme, load_lexicon, read_table
from valyrian_jax.language.words.morphology import (
    InflectedForm,
    concord_case,
    conjugate,
    decline,
    inflect_adjective,
    list_forms,
    list_paradigms,
)
from valyrian_jax.language.words.vowels import lengthen_last_vowel, shorten_last_vowel

with (Path(__file__).parent / "attested.csv").open(encoding="utf-8") as file:
    ATTESTED = list(csv.DictReader(file))
LEXICON = {(word.lemma, word.pos): word for word in load_lexicon()}


def inflect_cell(row: Mapping[str, str]) -> list[InflectedForm]:
    lexeme = Lexeme("?", row["kind"], row["class"], row["stem"], row["perfect_stem"])
    return [form for form in list_forms(lexeme) if form.features == (*row["cell"].split("/"),)]


def form_text(form: Form | None) -> str:
    return form.text if form else "—"


@pytest.mark.parametrize("row", ATTESTED, ids=lambda row: row["form"])
def test_an_attested_form_is_in_the_tables(row: dict[str, str]) -> None:
    forms = {form.text: form.attested for form in inflect_cell(row)}
    expected = row["tables_give"] or row["form"]
    assert expected in forms
    assert forms[expected] or row["reason"]


def test_forms_that_differ_from_the_tables_have_a_reason() -> None:
    differing = [row for row in ATTESTED if row["tables_give"]]
    assert len(differing) == 11
    readme = (Path(__file__).parents[2] / "data" / "README.md").read_text(encoding="utf-8")
    agreeing = len(ATTESTED) - len(differing)
    assert f"{len(ATTESTED)} forms attested in the sources: {agreeing} agree, eleven do" in readme
    assert all(row["reason"] and row["tables_give"] != row["form"] for row in differing)
    assert not any(row["reason"] for row in ATTESTED if not row["tables_give"])


def test_every_word_with_a_class_generates_its_lemma() -> None:
    wrong = []
    for word in load_lexicon():
        if word.paradigm in ("", "indecl") or word.paradigm[0] == "=":
            continue
        if word.pos in ("noun", "name", "pron"):
            forms = decline(word)
            lemma = forms.get(("nom", "sg")) or forms.get(("nom", "pl"))
        elif word.pos == "verb":
            lemma = conjugate(word).get(("present", "infinitive", NO_PERSON))
        else:
            lemma = inflect_adjective(word, "full").get(("lunar", "sg", "nom"))
        if lemma != Form(word.lemma, not word.is_inferred):
            wrong.append((word.lemma, form_text(lemma)))
    assert not wrong


def test_the_gender_of_a_noun_is_that_of_its_class() -> None:
    genders = {
        row["class"]: row["gender"] for row in read_table("nouns.csv", NOMINAL_TABLES["nouns.csv"])
    }
    assert [
        w.lemma for w in load_lexicon() if w.paradigm in genders and w.gender != genders[w.paradigm]
    ] == []


def test_noun_tables_are_complete() -> None:
    rows = read_table("nouns.csv", NOMINAL_TABLES["nouns.csv"])
    blocks = {(row["class"], row["after"]) for row in rows}
    assert sorted((r["class"], r["after"], r["number"]) for r in rows) == sorted(
        (*b, n) for b in blocks for n in NUMBERS
    )
    assert all(row[case] for row in rows for case in CASES)
    assert len({cls for cls, _ in blocks}) == 23


def test_adjective_tables_are_complete() -> None:
    rows = read_table("adjectives.csv", ADJECTIVE_TABLES["adjectives.csv"])
    cells = [
        (row["class"], position, gender, row["number"])
        for row in rows
        if not row["after"]
        for position in row["position"].split()
        for gender in row["gender"].split()
    ]
    expected = [
        (c, p, g, n)
        for c in ("I", "II", "IIr", "III")
        for p in POSITIONS
        for g in GENDERS
        for n in ("sg", "pl")
    ]
    assert sorted(cells) == sorted(expected)
    assert all(row[case] for row in rows for case in CASES)


def test_verb_tables_are_complete() -> None:
    rows = read_table("verbs.csv", VERB_TABLES["verbs.csv"])
    persons = {"imperative": ["2s", "2p"], "infinitive": [NO_PERSON], "participle": [NO_PERSON]}
    for row in rows:
        filled = [column for column in (*PERSONS, NO_PERSON) if row[column]]
        assert filled == persons.get(row["mood"], list(PERSONS)), row
        assert row["tense"] in TENSES, row
        assert row["mood"] in MOODS, row
    for cls in ("c-fin", *(f"v-fin-{vowel}" for vowel in "aeiou")):
        cells = {
            (r["tense"], r["mood"]) for r in rows if cls in r["class"].split() and not r["after"]
        }
        expected = {(t, m) for t in TENSES[:-1] for m in ("indicative", "subjunctive")}
        assert expected | {("past habitual", "indicative")} <= cells, cls


def test_pronoun_table_is_complete() -> None:
    rows = read_table("pronouns.csv", NOMINAL_TABLES["pronouns.csv"])
    personal, others = rows[:7], rows[7:]
    assert [row["person"] for row in personal] == ["1s", "2s", "3s", "3s", "1p", "2p", "3p"]
    assert all(row[case] and row[case][0] != "-" for row in personal for case in CASES)
    assert all(row[case] for row in others for case in CASES)


def test_pronouns_are_declined() -> None:
    def form(lemma: str, case: str, number: str) -> str:
        return decline(LEXICON[lemma, "pron"])[case, number].text

    assert (
        " ".join(form("nyke", case, "sg") for case in CASES)
        == "nyke yne yno ynot nykē ynoma ynoma nykys"
    )
    assert [form("ūja", case, "sg") for case in ("acc", "gen", "ins", "com")] == [
        "ūī",
        "ūō",
        "josa",
        "joma",
    ]
    assert [form("ziry", case, "sg") for case in ("acc", "dat", "ins", "com")] == [
        "ziry",
        "zijot",
        "zijosy",
        "zijomy",
    ]
    assert [form("jeme", case, "pl") for case in ("acc", "gen", "dat")] == ["jemī", "jemo", "jemot"]
    assert ("nom", "sg") not in decline(LEXICON["pōnta", "pron"])


@pytest.mark.parametrize(
    ("lemma", "cell", "expected"),
    [
        ("bianor", ("acc", "sg"), Form("bianor", True)),
        ("bianor", ("nom", "pl"), None),  # the cluster nr is not attested
        ("nāvar", ("acc", "sg"), None),
        ("sȳndror", ("ins", "sg"), Form("sȳndroso", True)),  # r is not doubled
        ("lōgor", ("nom", "paucal"), Form("lōgrun", False)),
        ("dāria", ("nom", "collective"), Form("dāriar", False)),
        ("rūs", ("gen", "sg"), Form("rūho", True)),
        ("trēsy", ("voc", "pl"), Form("trēsis", False)),
        ("tubis", ("ins", "sg"), None),
        ("lenton", ("dat", "collective"), None),
        ("averilla", ("nom", "sg"), Form("averilla", True)),
        ("averilla", ("acc", "sg"), Form("averille", True)),
        ("ānogār", ("ins", "sg"), Form("ānogrosa", True)),
        ("ondos", ("com", "paucal"), Form("ondummo", True)),
    ],
)
def test_unusual_nouns_are_declined(
    lemma: str, cell: tuple[str, str], expected: Form | None
) -> None:
    assert decline(LEXICON[lemma, "noun"]).get(cell) == expected


@pytest.mark.parametrize(
    ("lemma", "cell", "expected"),
    [
        ("jaelagon", ("present", "indicative", "3s"), Form("jaelza", True)),
        (
            "vestragon",
            ("present", "indicative", "3s"),
            Form("vestras", True),
        ),  # r after a consonant
        ("majaqagon", ("present", "indicative", "3s"), Form("majaqsa", True)),
        ("belmuragon", ("present", "indicative", "3p"), Form("belmurzi", True)),
        ("merbugon", ("present", "indicative", "2s"), Form("merbū", False)),
        ("urnegon", ("present", "indicative", "2s"), Form("urnē", True)),
        ("urnegon", ("aorist", "indicative", "1s"), Form("urnessin", False)),
        ("urnegon", ("imperfect", "subjunctive", "3s"), Form("urnīlos", False)),
        (
            "glaesagon",
            ("perfect", "indicative", "3s"),
            Form("glaestas", False),
        ),  # by rule
        ("sagon", ("imperfect", "indicative", "3s"), None),
        ("emagon", ("present", "indicative", "2s"), Form("emā", True)),
        ("emagon", ("imperfect", "passive", "3s"), None),
        ("ēdrugon", ("present", "subjunctive", "3s"), Form("ēdvos", True)),
        ("dēmagon", ("present", "subjunctive", "3s"), Form("dēmaos", True)),
        ("emagon", ("present", "indicative", "3s"), Form("ēza", True)),
        ("morghūljagon", ("aorist", "indicative", "3s"), Form("morghūlis", True)),
        ("jikagon", ("present", "indicative", "3s"), Form("jiksa", False)),  # class undecided
        ("ipradagon", ("present", "passive", "3s"), Form("ipradaks", True)),
        ("ipradagon", ("present", "passive", "3p"), Form("ipradaksi", False)),
    ],
)
def test_unusual_verbs_are_conjugated(
    lemma: str, cell: tuple[str, str, str], expected: Form | None
) -> None:
    assert conjugate(LEXICON[lemma, "verb"]).get(cell) == expected


def test_adjectives_have_forms_for_each_position() -> None:
    my, good = LEXICON["ñuha", "det"], LEXICON["sȳz", "adj"]
    assert inflect_adjective(my, "prepositive")["solar", "pl", "nom"] == Form("ñuhyz", True)
    assert inflect_adjective(my, "full")["solar", "pl", "nom"] == Form("ñuhyssy", False)
    assert inflect_adjective(my, "prepositive")["terrestrial", "sg", "dat"] == Form("ñuho", True)
    assert inflect_adjective(my, "prevocalic")["terrestrial", "sg", "dat"] == Form("ñuhot", False)
    assert inflect_adjective(good, "full")["lunar", "sg", "acc"] == Form("sȳz", True)
    assert ("aquatic", "sg", "gen") not in inflect_adjective(good, "full")
    assert inflect_adjective(my, "prepositive")["solar", "pl", "acc"] == Form("ñuhī", False)


def test_words_of_several_classes_have_their_lemma_in_each() -> None:
    words = [word for word in load_lexicon() if " " in word.paradigm]
    assert len(words) > 10
    for word in words:
        for paradigm in list_paradigms(word):
            if word.pos == "verb":
                alone = replace(word, paradigm=paradigm.name)
                assert word.lemma in {form.text for form in list_forms(alone)}, (word, paradigm)


@pytest.mark.parametrize(
    ("lemma", "features", "expected"),
    [
        ("ēdrugon", ("present", "subjunctive", "3s"), {"ēdvos": True}),
        ("dēmagon", ("present", "subjunctive", "3s"), {"dēmos": False, "dēmaos": True}),
        ("dēmagon", ("present", "subjunctive", "1s"), {"dēmon": False, "dēmaon": False}),
        ("dāeremagon", ("present", "indicative", "3s"), {"dāerēza": True}),
        ("jikagon", ("present", "indicative", "3p"), {"jikis": False, "jikasi": False}),
        ("jikagon", ("present", "imperative", "2s"), {"jikās": True}),
        ("pikībagon", ("perfect", "indicative", "3s"), {"pikīptas": True}),
        ("glaesagon", ("perfect", "indicative", "3s"), {"glaestas": False}),  # by the usual pattern
        ("maghagon", ("perfect", "indicative", "3s"), {"mādas": True}),
        ("qrīdrughagon", ("perfect", "indicative", "3s"), {}),  # no pattern for gh
    ],
)
def test_inferred_and_disputed_forms_are_not_attested(
    lemma: str, features: tuple[str, ...], expected: dict[str, bool]
) -> None:
    forms = list_forms(LEXICON[lemma, "verb"])
    assert {form.text: form.attested for form in forms if form.features == features} == expected


def test_nouns_that_merge_cases_have_one_concord_case() -> None:
    assert concord_case(LEXICON["loktys", "noun"], "ins") == "com"
    assert concord_case(LEXICON["issaros", "noun"], "com") == "ins"
    assert concord_case(LEXICON["vala", "noun"], "com") == "com"


def test_only_a_short_last_vowel_is_lengthened() -> None:
    long = {"taoba": "taobā", "ossēnis": "ossēnīs", "kostōba": "kostōbā"}
    assert {word: lengthen_last_vowel(word) for word in long} == long
    assert {word: shorten_last_vowel(long[word]) for word in long} == {word: word for word in long}
    assert {lengthen_last_vowel(word) for word in ("zoklā", "ēn", "")} == {None}
    assert {shorten_last_vowel(word) for word in ("taoba", "")} == {None}


def test_an_unknown_class_is_a_user_error() -> None:
    with pytest.raises(
        UserError, match=r"'x' has the class '9lun', which is not in nouns.csv or pronouns.csv"
    ):
        decline(Lexeme("x", "noun", "9lun", "x"))
    with pytest.raises(ValueError, match="position must be one of"):
        inflect_adjective(LEXICON["kara", "adj"], "before")
