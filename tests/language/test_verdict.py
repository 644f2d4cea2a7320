"""The checker: what it accepts, what it rejects and why, and that no text stops it."""

import csv
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valyrian_jax.language import check, generate_paragraphs, load_grammar
from valyrian_jax.language.checker import reading as reading_module
from valyrian_jax.language.checker.parse_tree import Leaf, Parse, Sentence
from valyrian_jax.language.checker.parser import parse
from valyrian_jax.language.checker.verdict import check_sentence, check_without_diagnosis
from valyrian_jax.language.words.analysis import Reading, analyze, inflect

GRAMMAR = load_grammar()


def read_rows(name: str) -> list[dict[str, str]]:
    with (Path(__file__).parent / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("row", read_rows("sentences.csv"), ids=lambda row: row["sentence"])
def test_sentences_of_the_sources_are_accepted_unless_outside_the_grammar(
    row: dict[str, str],
) -> None:
    verdict = check_sentence(row["sentence"])
    assert verdict.grammatical == (not row["outside"]), verdict


def test_examples_of_the_grammar_file_are_accepted() -> None:
    verdicts = [verdict for template in GRAMMAR.sentences for verdict in check(template.example)]
    assert [verdict for verdict in verdicts if not verdict.grammatical] == []
    assert all(template.example for template in GRAMMAR.sentences)


def test_generated_sentences_are_accepted() -> None:
    text = "\n".join(paragraph.text for paragraph in generate_paragraphs(1500, seed=11))
    assert [verdict for verdict in check(text) if not verdict.grammatical] == []


@pytest.mark.parametrize("row", read_rows("mistakes.csv"), ids=lambda row: row["sentence"])
def test_a_verdict_has_its_reason(row: dict[str, str]) -> None:
    verdict = check_sentence(row["sentence"])
    assert verdict.verdict == row["verdict"]
    assert any(row["reason"] in text for text in (verdict.reason, *verdict.notes)), verdict
    assert check_without_diagnosis(row["sentence"]).grammatical == verdict.grammatical


def test_a_long_sentence_is_rejected() -> None:
    sentence = "Vala " + "riñe " * 100 + "urnes."
    expected = "it has 103 words and marks; the checker takes sentences of up to 40"
    assert expected in check_sentence(sentence).reason
    assert not check_without_diagnosis(sentence).grammatical


def parse_text(text: str) -> tuple[Sentence, Parse]:
    words = [*text[:-1].replace(",", " ,").split(), text[-1]]
    uncapitalized = words[0][:1].lower() + words[0][1:]
    words[0] = uncapitalized if analyze(uncapitalized) else words[0]
    sentence = Sentence(GRAMMAR, words, [analyze(word) for word in words])
    tree = parse(sentence)
    assert tree
    return sentence, tree


def break_agreement(sentence: Sentence, tree: Parse) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) with one agreement broken that no other reading of the words repairs."""
    unambiguous = [leaf for leaf in tree.leaves if len(sentence.readings[leaf.word_index]) == 1]
    read = [(leaf, leaf.reading) for leaf in tree.leaves if leaf.reading]
    verbs = [leaf for leaf, reading in read if reading.word_class == "verb"]
    subjects = [
        leaf
        for leaf, reading in read
        if leaf in unambiguous and (reading.word_class, reading.case) == ("noun", "nom")
    ]
    for leaf, reading in read:
        changes: Iterator[tuple[str, Reading]] = iter(())
        if reading.word_class == "verb" and len(verbs) == len(subjects) == 1:
            changes = break_verb(leaf, reading)
        elif reading.word_class == "adjective" and leaf.token.features[:1] == ("N",):
            heads = [o for o in tree.leaves if o.token.name == "N" and o.template is leaf.template]
            if heads[0] in unambiguous and len(heads) == 1:
                changes = break_adjective(reading)
        for kind, form in changes:
            words = [*sentence.words]
            words[leaf.word_index] = form.text
            yield kind, " ".join(words)


def break_verb(leaf: Leaf, reading: Reading) -> Iterator[tuple[str, Reading]]:
    if leaf.template.name not in ("1", "2"):
        return
    for form in find_different_forms(reading):
        others = {(r.mood, r.person, r.number) for r in analyze(form.text)}
        agrees = (reading.mood, reading.person, reading.number) in others
        if form.tense != reading.tense or agrees:
            continue
        if form.mood == reading.mood:
            yield ("person" if form.person != reading.person else "number"), form
        elif {form.mood, reading.mood} == {"indicative", "subjunctive"}:
            yield "mood", form


def break_adjective(reading: Reading) -> Iterator[tuple[str, Reading]]:
    for form in find_different_forms(reading):
        features = form.differing_features(reading)
        is_ambiguous = any(r.word_class != "adjective" for r in analyze(form.text))
        if not is_ambiguous and features in (["case"], ["number"], ["gender"]):
            yield features[0], form


def find_different_forms(reading: Reading) -> list[Reading]:
    """Return the forms of a word that are not spelt like a free variant of this one."""
    features = replace(reading, text="", attested=True)
    forms = inflect(reading.lexeme)
    variants = {f.text for f in forms if replace(f, text="", attested=True) == features}
    return [form for form in forms if form.text not in variants]


@pytest.mark.slow
def test_a_changed_form_is_nearly_always_rejected() -> None:
    """Replace one form of a generated sentence by another form of the same word.

    A changed verb can agree with an omitted subject while the noun becomes something else. Such
    sentences are right, and rare.
    """
    rejected: dict[str, list[bool]] = {}
    accepted = []
    for paragraph in generate_paragraphs(120, seed=4):
        for sentence in paragraph.sentences:
            for kind, text in break_agreement(*parse_text(sentence)):
                verdict = check_without_diagnosis(text)
                rejected.setdefault(kind, []).append(not verdict.grammatical)
                if verdict.grammatical:
                    accepted.append((kind, sentence, text))
    assert {"person", "number", "gender", "case", "mood"} <= set(rejected)
    for kind, results in rejected.items():
        assert len(results) >= 8, kind
        assert sum(results) / len(results) > 0.97, (kind, sum(results), len(results), accepted)


@pytest.mark.slow
def test_a_changed_form_is_nearly_always_named() -> None:
    """The reason for a changed form names the word and the form that was there."""
    named = []
    for paragraph in generate_paragraphs(30, seed=6):
        for sentence in paragraph.sentences:
            parsed, tree = parse_text(sentence)
            for _, text in break_agreement(parsed, tree):
                verdict = check_sentence(text)
                changed = [w for w, v in zip(parsed.words, text.split(), strict=True) if w != v]
                if not verdict.grammatical:
                    named.append(f"`{changed[0]}`" in verdict.reason)
    assert len(named) >= 60
    assert sum(named) / len(named) > 0.95


# Right sentences, and a part of the grammar without which it lacks them.
WITHOUT = [
    ("order", "Umbās!"),
    ("order", "Kirine sās!"),
    ("order", "Jagon daor!"),
    ("adjunct", "Ābra valoma ēdrus."),
    ("adjunct", "Korzossi vīlībzi."),
    ("adjunct", "Egromy havon hisas."),
    ("predicate", "Jentys Dovaogēdyro syt iksā."),
    ("clause", "Keso glaesot iderēptōt daor."),
    ("clause", "Rōvyz zaldrīzesse ojehikis."),
    ("clause", "Vala zaldrīzo ondoso ipradaks."),
    ("clause", "Hontes ipradaks."),
    ("fragment", "Ampa vali."),
    ("clause", "Lenton emi."),
    ("greeting", "Geros ilas, ñuha muña."),
]


@pytest.mark.parametrize(("part", "text"), WITHOUT, ids=lambda value: value)
def test_a_right_sentence_that_the_grammar_lacks_is_no_mistake(
    part: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_sentence(text).grammatical
    others = tuple(t for t in GRAMMAR.other_parts if t.part != part)
    smaller = replace(GRAMMAR, other_parts=others)
    monkeypatch.setattr(reading_module, "load_grammar", lambda: smaller)
    verdict = check_sentence(text)
    assert verdict.verdict != "mistake", verdict


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Vala ēdrus gō.", "the grammar follows it only as far as `vala ēdrus`"),
        ("Valar qzx morghūlis.", "`qzx` is not a known word"),
        ("Vala zaldrīzek urnes.", "`zaldrīzek` is not a known word"),
    ],
)
def test_what_is_beyond_gets_a_hint_and_a_list_of_its_words(text: str, hint: str) -> None:
    verdict = check_sentence(text)
    assert verdict.verdict == "beyond"
    assert hint in verdict.reason
    assert verdict.notes[-1].startswith("words: `Vala")


def test_decomposed_spelling_is_accepted() -> None:
    decomposed = unicodedata.normalize("NFD", "Valar morghūlis. Azantī rijan.")
    assert [verdict.grammatical for verdict in check(decomposed)] == [True, True]


@pytest.mark.parametrize("word", ["iderēbzi", "iderēbza"])
def test_free_variants_have_a_reading(word: str) -> None:
    assert [reading.lexeme.lemma for reading in analyze(word)] == ["iderēbagon"]


WORDS = "vala vale riñe urnes hen oktiot ñuhys zaldrīzes daor lo se , bē lua taobā"


@given(st.text(max_size=60))
def test_any_text_gets_verdicts(text: str) -> None:
    for verdict in check(text):
        assert verdict.grammatical == (not verdict.reason)
        assert 0 <= verdict.known_words <= verdict.words


@settings(max_examples=30)
@given(st.lists(st.sampled_from(WORDS.split()), max_size=14))
def test_any_order_of_known_words_gets_verdicts(words: list[str]) -> None:
    for verdict in check(" ".join(words) + "."):
        assert verdict.grammatical == (not verdict.reason)
