"""The generator: its promises about a corpus, and its words looked up in the ending tables."""

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from unicodedata import is_normalized

import pytest

from valyrian_jax.errors import UserError
from valyrian_jax.language import generate_paragraphs
from valyrian_jax.language.generator.sentence_state import Discourse, Participant
from valyrian_jax.language.generator.vocabulary import find_words
from valyrian_jax.language.grammar import NEXT_SPEAKER, load_grammar
from valyrian_jax.language.set_phrases import set_phrase_words
from valyrian_jax.language.template import PUNCTUATION, parse_template
from valyrian_jax.language.words.categories import POSITIONS
from valyrian_jax.language.words.ending_tables import Form
from valyrian_jax.language.words.lexicon import ADJECTIVAL_POS, NOMINAL_POS, load_lexicon
from valyrian_jax.language.words.morphology import conjugate, decline, inflect_adjective
from valyrian_jax.language.words.vowels import lengthen_last_vowel

ALPHABET = set("abdeghijklmnñopqrstuvyzāēīōūȳ")
GRAMMAR = load_grammar()
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def paragraphs() -> list[str]:
    return [paragraph.text for paragraph in generate_paragraphs(2000, seed=3)]


def split_sentences(paragraph: str) -> list[str]:
    return re.split(r"(?<=[.!?]) ", paragraph)


@cache
def attested_forms() -> set[str]:
    """Return every form that a source attests, coordinated ones and uninflected words included."""
    nominal: list[Form] = []
    others: list[Form] = []
    for word in load_lexicon():
        if word.pos in NOMINAL_POS:
            nominal += decline(word).values()
        elif word.pos in ADJECTIVAL_POS:
            for position in POSITIONS:
                nominal += inflect_adjective(word, position).values()
        elif word.pos == "verb":
            others += conjugate(word).values()
        else:
            others.append(Form(word.lemma, True))
    texts = {form.text for form in nominal if form.attested}
    coordinated = {longer for text in texts if (longer := lengthen_last_vowel(text))}
    uninflected = {form.text for form in others if form.attested} | set_phrase_words()
    verbs = {longer for text in uninflected if (longer := lengthen_last_vowel(text))}
    return texts | coordinated | uninflected | verbs


def is_attested(word: str) -> bool:
    return not attested_forms().isdisjoint((word, word[:1].lower() + word[1:]))


def test_the_seed_determines_the_paragraphs() -> None:
    assert list(generate_paragraphs(200, 1)) == list(generate_paragraphs(200, 1))
    assert list(generate_paragraphs(200, 1)) != list(generate_paragraphs(200, 2))


@pytest.mark.slow
def test_the_shipped_corpus_is_what_the_generator_writes() -> None:
    """A change of tables, lexicon or templates needs a new corpus; see data/README.md."""
    corpus = ROOT / "data" / "High Valyrian.txt"
    source = json.loads((ROOT / "data" / "High Valyrian.source.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(corpus.read_bytes()).hexdigest()
    assert digest == source["sha256"]
    # The same seed writes the same beginning, but for the last text.
    beginning = list(generate_paragraphs(12_000, seed=1))[:-1]
    texts = corpus.read_text(encoding="utf-8").split("\n\n")
    assert texts[: len(beginning)] == [paragraph.text for paragraph in beginning]
    bits = [paragraph.bits for paragraph in beginning]
    assert source["bits"][: len(beginning)] == pytest.approx(bits, abs=0.0501)


def test_a_dialogue_replies_about_the_same() -> None:
    """The reply has the verb of the question, and who was you is I."""
    texts = [p for p in generate_paragraphs(3000, seed=6) if len(p.sentences) == 2]
    replies = [p.sentences for p in texts if p.sentences[1].startswith(("Issa,", "Daor, "))]
    assert len(replies) > 50
    assert all(question[-1] in "?!" for question, _ in replies)
    you = Participant(find_words(("issaros",))[0], "sg", "lunar", "2", find_words(("issaros",))[0])
    other = Discourse(topic=you).change_speaker()
    assert other.topic
    assert other.topic.verb_person == "1s"
    assert other.change_speaker() == Discourse(topic=you)


def test_the_texts_of_the_grammar_have_sentences_of_their_kinds() -> None:
    kinds = {kind for text in GRAMMAR.texts for kind in text.kinds} - {NEXT_SPEAKER}
    assert all(GRAMMAR.sentences_by_kind[kind] for kind in kinds)
    assert {k for t in GRAMMAR.sentences for k in t.kinds} == kinds


def test_there_are_as_many_sentences_as_requested_and_all_differ(paragraphs: list[str]) -> None:
    sentences = [sentence for paragraph in paragraphs for sentence in split_sentences(paragraph)]
    assert len(sentences) == 2000
    assert len(set(sentences)) == 2000
    assert max(len(split_sentences(p)) for p in paragraphs) <= 6


def test_sentences_are_spelt_in_the_alphabet_in_nfc(paragraphs: list[str]) -> None:
    for paragraph in paragraphs:
        assert is_normalized("NFC", paragraph)
        assert set(paragraph.lower()) <= ALPHABET | set(" .,!?")
        for sentence in split_sentences(paragraph):
            assert re.fullmatch(r"[^\W\d_a-zñāēīōūȳ][^.!?]*[^ ,.!?][.!?]", sentence), sentence


def test_every_word_is_an_attested_form(paragraphs: list[str]) -> None:
    words = {word for paragraph in paragraphs for word in re.findall(r"[^\W\d_]+", paragraph)}
    assert [word for word in words if not is_attested(word)] == []


def test_literal_words_and_examples_of_templates_are_attested() -> None:
    for template in (*GRAMMAR.sentences, *GRAMMAR.phrases):
        literals = {token.name for token in template.tokens if not token.is_letter}
        words = literals - {*PUNCTUATION} | {*re.findall(r"[^\W\d_]+", template.example)}
        assert [word for word in words if not is_attested(word)] == [], template.name


def test_errors_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="must be at least 1, found 0"):
        next(generate_paragraphs(0, 1))
    with pytest.raises(UserError, match="uses V without defining it; add V = "):
        parse_template({"words": "x:nom V:x .", "weight": 1, "x": "person"})
    with pytest.raises(UserError, match="must begin with one of verb"):
        parse_template({"words": "V:3s .", "weight": 1, "V": "werb intransitive x"})
    with pytest.raises(UserError, match="no verb in lexicon.csv has the frame 'motoin' of"):
        parse_template({"words": "V:3s .", "weight": 1, "V": "verb rest|motoin x"})
    with pytest.raises(UserError, match=r"'xyz', which lexicon\.csv does not list"):
        find_words(("xyz",))
    monkeypatch.setattr("valyrian_jax.language.generator.paragraphs.ATTEMPTS", 0)
    with pytest.raises(
        UserError, match="no new text in 20 attempts after 0 sentences; ask for fewer"
    ):
        next(generate_paragraphs(5, 1))
