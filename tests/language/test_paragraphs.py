"""The generator: its promises about a corpus, and its grammar re-read from the text by table lookup."""

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from unicodedata import is_normalized

import pytest

from valyrian_jax.data.corpus_entropy import GeneratedCorpus
from valyrian_jax.errors import UserError
from valyrian_jax.language import generate_paragraphs
from valyrian_jax.language.generator.vocabulary import words
from valyrian_jax.language.grammar import PUNCTUATION, load_grammar, parse_pattern
from valyrian_jax.language.words.lexicon import load_lexicon
from valyrian_jax.language.words.morphology import (
    POSITIONS,
    Form,
    conjugate,
    decline,
    inflect_adjective,
    lengthen_last_vowel,
)

ALPHABET = set("abdeghijklmnñopqrstuvyzāēīōūȳ")
GRAMMAR = load_grammar()
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def paragraphs() -> list[str]:
    return [paragraph.text for paragraph in generate_paragraphs(2000, seed=3)]


def split(paragraph: str) -> list[str]:
    return re.split(r"(?<=[.!?]) ", paragraph)


@cache
def readings() -> dict[str, set[tuple[str, ...]]]:
    """Every sure form and uninflected word -> its analyses, straight from the tables."""
    found: dict[str, set[tuple[str, ...]]] = {}

    def add(form: Form, *analysis: str) -> None:
        if form.sure:
            found.setdefault(form.text, set()).add(analysis)

    for word in load_lexicon():
        if word.pos in ("noun", "name", "pron"):
            for (case, number), form in decline(word).items():
                person = {"nyke": "1", "ao": "2", "īlon": "1", "jeme": "2"}.get(word.lemma, "3")
                add(
                    form,
                    "noun",
                    case,
                    person + ("s" if number in ("sg", "collective") else "p"),
                    word.lemma,
                )
        elif word.pos == "verb":
            for (tense, mood, person), form in conjugate(word).items():
                add(form, "verb", mood, person, word.lemma, tense)
        elif word.pos in ("adj", "det", "num"):
            for position in POSITIONS:
                for cell, form in inflect_adjective(word, position).items():
                    add(form, "adj", *cell, position)
        else:
            add(Form(word.lemma, True), word.pos)
    return found


def is_known(word: str, joined: set[str]) -> bool:
    return any(w in readings() or w in joined for w in (word, word[:1].lower() + word[1:]))


def joined_forms() -> set[str]:
    nominal = (
        form
        for form, found in readings().items()
        if {"noun", "adj"} & {analysis[0] for analysis in found}
    )
    return {longer for form in nominal if (longer := lengthen_last_vowel(form))}


def test_deterministic_and_seeded() -> None:
    assert list(generate_paragraphs(200, 1)) == list(generate_paragraphs(200, 1))
    assert list(generate_paragraphs(200, 1)) != list(generate_paragraphs(200, 2))


def test_the_shipped_corpus_is_what_the_generator_writes(corpus_again: GeneratedCorpus) -> None:
    """Who changes tables, lexicon or templates rebuilds the corpus too: data/README.md has the command."""
    corpus = ROOT / "data" / "High Valyrian.txt"
    described = json.loads(
        (ROOT / "data" / "High Valyrian.source.json").read_text(encoding="utf-8")
    )
    digest = hashlib.sha256(corpus.read_bytes()).hexdigest()
    assert digest == described["sha256"]
    assert hashlib.sha256(corpus_again.text.encode()).hexdigest() == digest
    assert described["bits"] == pytest.approx(corpus_again.source.bits, abs=1e-3)


def test_exact_number_and_no_sentence_twice(paragraphs: list[str]) -> None:
    sentences = [sentence for paragraph in paragraphs for sentence in split(paragraph)]
    assert len(sentences) == 2000
    assert len(set(sentences)) == 2000
    assert max(len(split(p)) for p in paragraphs) <= 6


def test_spelling(paragraphs: list[str]) -> None:
    for paragraph in paragraphs:
        assert is_normalized("NFC", paragraph)
        assert set(paragraph.lower()) <= ALPHABET | set(" .,!?")
        for sentence in split(paragraph):
            assert re.fullmatch(r"[^\W\d_a-zñāēīōūȳ][^.!?]*[^ ,.!?][.!?]", sentence), sentence


def test_every_word_is_a_sure_form(paragraphs: list[str]) -> None:
    joined = joined_forms()
    unknown = {
        w for p in paragraphs for w in re.findall(r"[^\W\d_]+", p) if not is_known(w, joined)
    }
    assert not unknown


def test_small_words_of_templates_and_examples_are_known() -> None:
    joined, unknown = joined_forms(), []
    for item in (*GRAMMAR.sentences, *GRAMMAR.phrases):
        literals = [t.name for t in item.tokens if not t.is_letter and t.name not in PUNCTUATION]
        printed = [*literals, *re.findall(r"[^\W\d_]+", item.example)]
        unknown += [(item.name, word) for word in printed if not is_known(word, joined)]
    assert not unknown


# ------------------------------------------------------------------------------------------------ errors


def test_errors_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="must be at least 1, found 0"):
        next(generate_paragraphs(0, 1))
    with pytest.raises(UserError, match="uses V without explaining it; add V = "):
        parse_pattern({"words": "x:nom V:x .", "weight": 1, "x": "person"})
    with pytest.raises(UserError, match="must begin with one of verb"):
        parse_pattern({"words": "V:3s .", "weight": 1, "V": "werb intransitive x"})
    with pytest.raises(UserError, match="no verb in lexicon.csv has the frame 'motoin' of"):
        parse_pattern({"words": "V:3s .", "weight": 1, "V": "verb rest|motoin x"})
    with pytest.raises(UserError, match=r"'xyz', which lexicon\.csv does not list"):
        words(("xyz",))
    monkeypatch.setattr("valyrian_jax.language.generator.paragraphs.ATTEMPTS", 0)
    with pytest.raises(UserError, match="no new sentence found after 0; ask for fewer"):
        next(generate_paragraphs(5, 1))
