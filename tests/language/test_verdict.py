"""The judge: what it accepts, what it rejects and why, and what no input may do to it."""

import csv
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.commands import call
from valyrian_jax import __main__ as main
from valyrian_jax.language import check, generate_paragraphs, load_grammar
from valyrian_jax.language.checker.parser import Parse, Sentence, parse
from valyrian_jax.language.checker.verdict import glance, judge
from valyrian_jax.language.words.analysis import Reading, forms, readings

with (Path(__file__).parent / "sentences.csv").open(encoding="utf-8") as file:
    SENTENCES = list(csv.DictReader(file))
GRAMMAR = load_grammar()


@pytest.mark.parametrize("row", SENTENCES, ids=lambda row: row["sentence"])
def test_sentences_of_the_sources(row: dict[str, str]) -> None:
    verdict = judge(row["sentence"])
    assert verdict.grammatical == (not row["outside"]), verdict


def test_examples_of_the_grammar_file() -> None:
    verdicts = [verdict for pattern in GRAMMAR.sentences for verdict in check(pattern.example)]
    assert [verdict for verdict in verdicts if not verdict.grammatical] == []
    assert all(pattern.example for pattern in GRAMMAR.sentences)


def test_everything_the_generator_says_is_accepted() -> None:
    text = "\n".join(paragraph.text for paragraph in generate_paragraphs(1500, seed=11))
    assert [verdict for verdict in check(text) if not verdict.grammatical] == []


WRONG = [  # kind, sentence, what the reason must say
    (
        "case",
        "Vale ēdrus.",
        "`vale` is accusative; the subject of `ēdrus` must be nominative: `vala`",
    ),
    (
        "case",
        "Vala riña urnes.",
        "`riña` is nominative; the object of `urnes` must be accusative: `riñe`",
    ),
    (
        "case",
        "Dārys guēsī bē vestras.",
        "`guēsī` is accusative; the word before `bē` must be genitive: `guēso`",
    ),
    (
        "case",
        "Mentys hen oktion māzis.",
        "`oktion` is nominative; after `hen` the noun must be locative: `oktiot`",
    ),
    (
        "number",
        "Vali riñe urnes.",
        "`urnes` is singular; to agree with its subject `vali` it must be plural: `urnesi`",
    ),
    (
        "number",
        "Valar dohaerisi.",
        "to agree with its subject `valar` it must be singular: `dohaeris`",
    ),
    ("number", "Muña taobā ēdrus.", "`ēdrus` is singular; to agree with its subject"),
    (
        "number",
        "Ābra kirini issa.",
        "`kirini` is plural; to agree with its subject `ābra` it must be singular: `kirine`",
    ),
    ("number", "Taobi azantys kessi.", "must be plural: `azantyssy`"),
    (
        "gender",
        "Zaldrīzes kara issa.",
        "`kara` is lunar; to agree with its subject `zaldrīzes` it must be solar: `karys`",
    ),
    ("gender", "Ñuha zaldrīzes ēdrus.", "to agree with `zaldrīzes` it must be solar: `ñuhys`"),
    (
        "person",
        "Nyke riñe urnes.",
        "`urnes` is third person; to agree with its subject `nyke` it must be first person: `urnen`",
    ),
    ("person", "Vala riñe urnen.", "it must be third person: `urnes`"),
    (
        "mood",
        "Vala riñe urnes daor.",
        "`urnes` is indicative; before `daor` the verb must be subjunctive: `urnios`",
    ),
    (
        "mood",
        "Vala riñe urnios.",
        "`urnios` is subjunctive; the verb here must be indicative: `urnes`",
    ),
    (
        "tense",
        "Zān vala ēdrus.",
        "`ēdrus` is present; with `zān` the verb must be perfect or imperfect",
    ),
    (
        "tense",
        "Lo ābra kara issa, drūr vala māzis.",
        "`māzis` is present; with `drūr` the verb must be future",
    ),
    ("order", "Vala urnes riñe.", "`urnes` and `riñe` stand in the wrong order: `riñe urnes`"),
    ("order", "Urnes vala riñe.", "`urnes` stands in the wrong place: the verb belongs at the end"),
    (
        "order",
        "Vala oktiot hen māzis.",
        "`oktiot` and `hen` stand in the wrong order: `hen oktiot`",
    ),
    ("order", "Vala bē guēso ēdrus.", "`bē` and `guēso` stand in the wrong order: `guēso bē`"),
    (
        "relative",
        "Qilōni pilos lua vale urnen.",
        "`lua` is nominative; to agree with `vale` it must be accusative: `lue`",
    ),
    ("numeral", "Hāre vali ēdrusi.", "to agree with `vali` it must be plural: `hāri`"),
    ("too much", "Vala ēdrus ēdrus.", "`ēdrus` has no place in this sentence"),
    (
        "macron",
        "Valar morghulis.",
        "`morghulis` has its macrons wrong or missing; it is spelt `morghūlis`",
    ),
    ("macron", "Vala rine urnes.", "`rine` is not a known word; the nearest are"),
    (
        "unknown",
        "Vala zaldrizer urnes.",
        "`zaldrizer` has its macrons wrong or missing; it is spelt `zaldrīzer`",
    ),
    ("script", "Привет.", "`Привет` cannot be High Valyrian: it has no letter or mark `п`"),
    ("script", "Vala 7 riñī urnes.", "`7` cannot be High Valyrian"),
    ("empty", "...", "there are no words in it"),
    (
        "long",
        "Vala " + "riñe " * 100 + "urnes.",
        "it has 102 words; the grammar knows sentences of up to 40",
    ),
]


@pytest.mark.parametrize(
    ("kind", "sentence", "reason"), WRONG, ids=[f"{kind}: {s[:40]}" for kind, s, _ in WRONG]
)
def test_reasons(kind: str, sentence: str, reason: str) -> None:
    verdict = judge(sentence)
    assert not verdict.grammatical
    assert reason in verdict.reason
    assert not glance(sentence).grammatical


def parsed(sentence: str) -> tuple[Sentence, Parse]:
    words = [*sentence[:-1].replace(",", " ,").split(), sentence[-1]]
    lower = words[0][:1].lower() + words[0][1:]
    words[0] = lower if readings(lower) else words[0]
    found = Sentence(GRAMMAR, words, [readings(word) for word in words])
    result = parse(found)
    assert result
    return found, result


def broken(sentence: Sentence, result: Parse) -> Iterator[tuple[str, list[str]]]:
    """(kind, words) with one agreement broken, wherever the words leave no other reading open."""
    clear = [leaf for leaf in result.leaves if len(sentence.readings[leaf.place]) == 1]
    subjects = [
        leaf
        for leaf in clear
        if leaf.reading and leaf.reading.kind == "noun" and leaf.reading.case == "nom"
    ]
    verbs = [leaf for leaf in result.leaves if leaf.reading and leaf.reading.kind == "verb"]
    for leaf in result.leaves:
        right = leaf.reading
        if right is None:
            continue

        def put(form: Reading, place: int = leaf.place) -> list[str]:
            return [*sentence.words[:place], form.text, *sentence.words[place + 1 :]]

        others = [
            form for form in forms(right.lexeme) if form.text not in {r.text for r in same(right)}
        ]
        if (
            right.kind == "verb"
            and len(verbs) == len(subjects) == 1
            and leaf.pattern.name in ("1", "2")
        ):
            for form in others:
                also = {(r.mood, r.person, r.number) for r in readings(form.text)}
                if form.tense != right.tense or (right.mood, right.person, right.number) in also:
                    continue
                if form.mood == right.mood:
                    yield ("person" if form.person != right.person else "number"), put(form)
                elif {form.mood, right.mood} == {"indicative", "subjunctive"}:
                    yield "mood", put(form)
        if right.kind == "adjective" and leaf.token.features[:1] == ("N",):
            heads = [o for o in result.leaves if o.token.name == "N" and o.pattern is leaf.pattern]
            if len(heads) > 1 or heads[0] not in clear:
                continue  # the noun can be something else too, with which another form would agree
            for form in others:
                kinds = [
                    k for k in ("case", "number", "gender") if getattr(form, k) != getattr(right, k)
                ]
                if any(reading.kind != "adjective" for reading in readings(form.text)):
                    continue  # "of mine" is a noun too
                if len(kinds) == 1 and form.position == right.position:
                    yield kinds[0], put(form)


def same(right: Reading) -> Iterator[Reading]:
    """The forms that say the same, free variants included."""
    features = replace(right, text="", sure=True)
    yield from (
        form for form in forms(right.lexeme) if replace(form, text="", sure=True) == features
    )


def test_mutations_are_rejected() -> None:
    """One form of a generated sentence is replaced by another of the same word: nearly always that must be wrong.

    Nearly: a changed verb can agree with a subject that is left out, while the noun becomes something else. Such
    sentences are right, and rare.
    """
    counts: dict[str, list[int]] = {}
    accepted = []
    for paragraph in generate_paragraphs(120, seed=4):
        for text in paragraph.sentences:
            sentence, result = parsed(text)
            for kind, words in broken(sentence, result):
                verdict = glance(" ".join(words))
                counts.setdefault(kind, []).append(not verdict.grammatical)
                if verdict.grammatical:
                    accepted.append((kind, text, verdict.text))
    assert {"person", "number", "gender", "case", "mood"} <= set(counts)
    assert all(len(found) >= 8 for found in counts.values()), {
        kind: len(found) for kind, found in counts.items()
    }
    for kind, found in counts.items():
        assert sum(found) / len(found) > 0.97, (kind, sum(found), len(found), accepted)


def test_decomposed_spelling_is_read() -> None:
    decomposed = unicodedata.normalize("NFD", "Valar morghūlis. Azantī rijan.")
    assert [verdict.grammatical for verdict in check(decomposed)] == [True, True]


@pytest.mark.parametrize("kind", ["zi", "za"])
def test_free_variants_are_read(kind: str) -> None:
    word = {"zi": "iderēbzi", "za": "iderēbza"}[kind]
    assert [r.lexeme.lemma for r in readings(word)] == ["iderēbagon"]


WORDS = (
    "vala",
    "vale",
    "riñe",
    "urnes",
    "hen",
    "oktiot",
    "ñuhys",
    "zaldrīzes",
    "daor",
    "lo",
    "se",
    ",",
    "bē",
    "lua",
    "taobā",
)


@given(st.text(max_size=60))
def test_any_text_gets_a_verdict(text: str) -> None:
    for verdict in check(text):
        assert verdict.grammatical == (not verdict.reason)
        assert 0 <= verdict.known <= verdict.words


@given(
    st.lists(
        st.sampled_from(WORDS),
        max_size=14,
    )
)
def test_any_order_of_known_words_gets_a_verdict(words: list[str]) -> None:
    for verdict in check(" ".join(words) + "."):
        assert verdict.grammatical == (not verdict.reason)


# --------------------------------------------------------------------------------------------- command line


def test_check_prints_verdicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Valar morghūlis. Vale ēdrus.\n", encoding="utf-8")
    status, out, _ = call(main.main, capsys, monkeypatch, "check", text)
    assert status == 0
    assert "right  Valar morghūlis." in out
    assert "1 of 2 sentences are grammatical" in out
    status, out, _ = call(main.main, capsys, monkeypatch, "check", text, "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert [set(record) for record in records] == [{"text", "grammatical", "reason"}] * 2
    assert [record["grammatical"] for record in records] == [True, False]
    text.write_text(unicodedata.normalize("NFD", "Valar morghūlis."), encoding="utf-8")
    assert "not NFC" in call(main.main, capsys, monkeypatch, "check", text)[1]


def test_check_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, _ = call(
        main.main, capsys, monkeypatch, "check", "--word", "zaldrīzoti", "xyz", "--json"
    )
    records = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [record["word"] for record in records] == ["zaldrīzoti", "xyz"]
    assert {(r["lemma"], r["case"], r["number"]) for r in records[0]["readings"]} == {
        ("zaldrīzes", case, "pl") for case in ("gen", "dat", "loc")
    }
    assert records[1]["readings"] == []
    assert call(main.main, capsys, monkeypatch, "check", "--word", "xyz")[0] == 2


def test_tables_mark_what_is_unsure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, _ = call(main.main, capsys, monkeypatch, "language", "--table", "lōgor")
    assert status == 0
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[2:]}
    assert rows["nom"] == ["lōgor", "lōgra", "lōgrun°", "lōgror°"]
    assert "—" in call(main.main, capsys, monkeypatch, "language", "--table", "trēsy")[1]
    for word in ("urnegon", "kirine", "daor", "nyke"):
        assert call(main.main, capsys, monkeypatch, "language", "--table", word)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "none.txt"], "none.txt"),
        (["check", "latin.txt"], "the text is not UTF-8: byte 0xf1 at offset 1"),
        (["check", "blank.txt"], "no sentence to check"),
        (["check", "a", "b"], "expected one file, found 2"),
        (["check", "--word"], "no word is given"),
        (["language", "--table", "zaldrizes"], "words like it: zaldrīzes"),
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin.txt").write_bytes(b"a\xf1")
    Path("blank.txt").write_bytes(b" \n")
    status, _, err = call(main.main, capsys, monkeypatch, *arguments)
    assert status == 2
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
