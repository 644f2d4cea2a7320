"""The generator: its promises about a corpus, and its grammar re-read from the text by table lookup."""

import re
from functools import cache
from pathlib import Path
from unicodedata import is_normalized

import pytest

from valyrian_jax.errors import UserError
from valyrian_jax.language import generate_paragraphs
from valyrian_jax.language.grammar import PUNCTUATION, Pattern, load_grammar, parse_pattern
from valyrian_jax.language.lexicon import Lexeme, load_lexicon
from valyrian_jax.language.morphology import (
    POSITIONS,
    Form,
    conjugate,
    decline,
    inflect_adjective,
    lengthen_last_vowel,
)
from valyrian_jax.language.realise import Filled, Filler, Participant, realise
from valyrian_jax.language.sentences import draw, to_text
from valyrian_jax.language.vocabulary import Chance, words

ALPHABET = set("abdeghijklmnñopqrstuvyzāēīōūȳ")
GRAMMAR = load_grammar()
BY_LEMMA = {word.lemma: word for word in reversed(load_lexicon()) if word.pos != "interj"}


@pytest.fixture(scope="module")
def paragraphs() -> list[str]:
    return list(generate_paragraphs(2000, seed=3))


def split(paragraph: str) -> list[str]:
    return re.split(r"(?<=[.!?]) ", paragraph)


def pattern(name: str) -> Pattern:
    return next(p for p in (*GRAMMAR.sentences, *GRAMMAR.phrases) if p.name == name)


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
                add(form, "noun", case, person + ("s" if number in ("sg", "collective") else "p"), word.lemma)
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
    nominal = (form for form, found in readings().items() if {"noun", "adj"} & {analysis[0] for analysis in found})
    return {longer for form in nominal if (longer := lengthen_last_vowel(form))}


def test_deterministic_and_seeded() -> None:
    assert list(generate_paragraphs(200, 1)) == list(generate_paragraphs(200, 1))
    assert list(generate_paragraphs(200, 1)) != list(generate_paragraphs(200, 2))


def test_the_shipped_corpus_is_what_the_generator_writes() -> None:
    """Who changes tables, lexicon or templates rebuilds the corpus too: data/README.md has the command."""
    corpus = (Path(__file__).parents[2] / "data" / "High Valyrian.txt").read_text(encoding="utf-8")
    assert corpus == "\n\n".join(generate_paragraphs(12_000, seed=1)) + "\n"


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
    unknown = {w for p in paragraphs for w in re.findall(r"[^\W\d_]+", p) if not is_known(w, joined)}
    assert not unknown


def test_small_words_of_templates_and_examples_are_known() -> None:
    joined, unknown = joined_forms(), []
    for item in (*GRAMMAR.sentences, *GRAMMAR.phrases):
        literals = [t.name for t in item.tokens if not t.is_letter and t.name not in PUNCTUATION]
        printed = [*literals, *re.findall(r"[^\W\d_]+", item.example)]
        unknown += [(item.name, word) for word in printed if not is_known(word, joined)]
    assert not unknown


def agrees(sentence: str, with_object: bool) -> bool:
    """Whether some nominative agrees with the last word as a verb, and (with_object) another word is accusative."""
    *rest, last = sentence.rstrip(".").split()
    rest[:1] = [w for w in (rest[0], rest[0][:1].lower() + rest[0][1:]) if w in readings()] if rest else []
    nouns = [(w, r) for w in rest for r in readings()[w] if r[0] == "noun"]
    persons = {r[2] for r in readings().get(last, set()) if r[:2] == ("verb", "indicative")}
    subjects = {w for w, r in nouns if r[1] == "nom" and r[2] in persons}
    objects = {w for w, r in nouns if r[1] == "acc"}
    return any(not with_object or objects - {subject} for subject in subjects)


@pytest.mark.parametrize(("name", "with_object"), [("1", False), ("2", True)])
def test_verbs_agree_with_their_subjects(name: str, with_object: bool) -> None:
    chance, seen = Chance(5), 0
    for _ in range(1500):
        drawn = draw(GRAMMAR, pattern(name), chance)
        if drawn is None:
            continue
        subject = drawn[1].fillers["x"]
        if isinstance(subject, Participant) and not subject.silent:
            seen += 1
            assert agrees(drawn[0], with_object), drawn[0]
    assert seen > 300


@pytest.mark.parametrize("wrong", ["Vala riñe urnesi.", "Vali riñe urnes.", "Valar riñe urnesi.", "Valun riñe urnes."])
def test_the_agreement_check_can_fail(wrong: str) -> None:
    assert not agrees(wrong, with_object=True)


def test_adjectives_agree_with_the_noun_before_them() -> None:
    chance, seen = Chance(8), 0
    for _ in range(1500):
        drawn = draw(GRAMMAR, pattern("4"), chance)
        if drawn is None or len(drawn[0].split()) != 3:
            continue
        noun, adjective, verb = drawn[0].rstrip(".").split()
        nouns = {
            (BY_LEMMA[r[3]].gender, r[2][1])
            for r in readings().get(noun, set()) | readings().get(noun[:1].lower() + noun[1:], set())
            if r[0] == "noun" and r[1] == "nom" and BY_LEMMA[r[3]].gender
        }
        cells = {
            (r[1], r[2][0]) for r in readings().get(adjective, set()) if r[0] == "adj" and r[3:] == ("nom", "full")
        }
        if nouns and cells:
            seen += 1
            assert nouns & cells, drawn[0]
            assert {p for _, p in nouns & cells} & {r[2][1] for r in readings()[verb] if r[0] == "verb"}, drawn[0]
    assert seen > 80


# -------------------------------------------------------------------------- sentences of the sources, words given


def who(lemma: str, number: str = "sg", phrase: str = "", **fillers: Filler) -> Participant:
    """A noun, inside the phrase with these `words` if one is named."""
    noun = BY_LEMMA[lemma]
    plain = Participant(noun, number, noun.gender, "3", noun)
    if not phrase:
        return plain
    filled = Filled(pattern(phrase), {"N": plain, **fillers})
    return Participant(noun, number, noun.gender, "3", noun, phrase=filled)


def me(lemma: str, person: str, number: str = "sg", silent: bool = True) -> Participant:
    return Participant(BY_LEMMA[lemma], number, "lunar", person, BY_LEMMA[lemma], silent)


def word(lemma: str) -> Lexeme:
    return words((lemma,))[0]


KNOWN: list[tuple[str, str, str, dict[str, Filler]]] = [
    ("1", "present", "Taoba ēdrus.", {"x": who("taoba"), "V": word("ēdrugon")}),
    ("1", "present", "Hontesse vāedis.", {"x": who("hontes", "pl"), "V": word("vāedagon")}),
    ("2", "present", "Vala riñe urnes.", {"x": who("vala"), "y": who("riña"), "V": word("urnegon")}),
    ("3", "present", "Azantī rijan.", {"x": me("nyke", "1"), "y": who("azantys", "pl"), "V": word("rijagon")}),
    ("4", "present", "Ābra kirine issa.", {"x": who("ābra"), "A": word("kirine"), "V": word("sagon")}),
    ("4", "present", "Vali dāeri issi.", {"x": who("vala", "pl"), "A": word("dāez"), "V": word("sagon")}),
    ("5, realm", "present", "Valyria dārion issa.", {"x": who("Valyria"), "y": who("dārion"), "V": word("sagon")}),
    (
        "6, ships",
        "present",
        "Sīkudra lōgra qelbār ilzi.",
        {"x": who("lōgor", "pl", "Q:N N", Q=word("sīkuda")), "y": who("qelbar"), "V": word("ilagon")},
    ),
    (
        "7, pronoun",
        "present",
        "Jemot dāervī tepan.",
        {"x": me("nyke", "1"), "z": me("jeme", "2", "pl"), "y": who("dāerves"), "V": word("tepagon")},
    ),
    (
        "8, companion and object",
        "perfect",
        "Taoba lōtintī hāedroma iprattas.",
        {"x": who("taoba"), "y": who("lōtinty", "pl"), "z": who("hāedar"), "V": word("ipradagon")},
    ),
    (
        "9, about",
        "present",
        "Dārys bono hāro guēsoti bē vestras.",
        {
            "x": who("dārys"),
            "y": who("guēse", "pl", "D:N Q:N N", D=word("bona"), Q=word("hāre")),
            "V": word("vestragon"),
        },
    ),
    (
        "10, like",
        "present",
        "Ziry hae zoklā ipradas.",
        {"x": me("ziry", "3", silent=False), "y": who("zokla"), "V": word("ipradagon")},
    ),
    (
        "11, identity",
        "present",
        "Zaldrīzes buzdari iksos daor.",
        {"x": who("zaldrīzes"), "y": who("buzdari"), "V": word("sagon")},
    ),
    ("17", "present", "Muña taobā ēdrusi.", {"x": who("muña"), "z": who("taoba"), "V": word("ēdrugon")}),
    ("21", "aorist", "Valar dohaeris.", {"x": who("vala", "collective"), "V": word("dohaeragon")}),
    ("21", "aorist", "Valar morghūlis.", {"x": who("vala", "collective"), "V": word("morghūljagon")}),
]


@pytest.mark.parametrize(("name", "tense", "expected", "fillers"), KNOWN, ids=[row[2] for row in KNOWN])
def test_known_sentence(name: str, tense: str, expected: str, fillers: dict[str, Filler]) -> None:
    printed = realise(Filled(pattern(name), fillers, tense))
    assert printed is not None
    assert to_text(printed) == expected


def test_relative_clauses_of_the_sources() -> None:
    held = who("vala", "sg", "y:acc V:N R:N N", y=who("qilōny"), V=word("pilogon"), R=word("lua"))
    seen = who("vala", "sg", "p:nom V:p R:N N", p=me("jeme", "2", "pl"), V=word("urnegon"), R=word("lua"))
    assert held.phrase
    assert seen.phrase
    assert realise(held.phrase, "acc") == ["qilōni", "pilos", "lue", "vale"]
    assert realise(seen.phrase, "gen") == ["urnēt", "luo", "valo"]


def test_unsure_forms_are_not_printed() -> None:
    queens: dict[str, Filler] = {
        "x": who("dāria", "collective"),
        "V": word("dohaeragon"),
    }  # dāriar is less sure than valar
    assert realise(Filled(pattern("21"), queens, "aorist")) is None
    hungry: dict[str, Filler] = {
        "x": me("ao", "2"),
        "V": word("merbugon"),
    }  # merbū: the rule for u-stems comes from one source only
    assert realise(Filled(pattern("1"), hungry, "present")) is None


# ------------------------------------------------------------------------------------------------ errors


def test_errors_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="must be at least 1, found 0"):
        next(generate_paragraphs(0, 1))
    with pytest.raises(UserError, match="uses V without explaining it; add V = "):
        parse_pattern({"words": "x:nom V:x .", "weight": 1, "x": "person"})
    with pytest.raises(UserError, match="must begin with one of verb"):
        parse_pattern({"words": "V:3s .", "weight": 1, "V": "werb intransitive x"})
    with pytest.raises(UserError, match=r"'xyz', which lexicon\.csv does not list"):
        words(("xyz",))
    monkeypatch.setattr("valyrian_jax.language.sentences.ATTEMPTS", 0)
    with pytest.raises(UserError, match="no new sentence found after 0; ask for fewer"):
        next(generate_paragraphs(5, 1))
