"""The judge: whether a sentence is grammatical, and if not, the first thing that is wrong with it.

A reason is found by repair: the sentence is parsed again with one word free to take any of its forms, then with one
word moved, then with one left out. The repair that changes least is what the learner is told.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from valyrian_jax.language.checker.parser import Leaf, Parse, Sentence, parse
from valyrian_jax.language.grammar import PUNCTUATION, load_grammar
from valyrian_jax.language.words.analysis import (
    ALPHABET,
    Reading,
    forms,
    lacks_macrons,
    nearest,
    readings,
)
from valyrian_jax.language.words.morphology import CASES, lengthen_last_vowel
from valyrian_jax.language.words.nfc import nfc

MAX_WORDS = 40  # words and marks; the grammar's own sentences are shorter
_LONGEST_REPAIRED = (
    25  # longer than those of the corpus: the work grows with the square of the length and more
)
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_WORD = re.compile(r"[^\W\d_]+|\d+|\S")
_FEATURES = ("case", "number", "gender", "person", "tense", "mood", "position")
_LONG_NAMES = (
    "nominative",
    "accusative",
    "genitive",
    "dative",
    "locative",
    "instrumental",
    "comitative",
    "vocative",
)
_NAMES = {
    **dict(zip(CASES, _LONG_NAMES, strict=True)),
    **{
        "sg": "singular",
        "pl": "plural",
        "1": "first person",
        "2": "second person",
        "3": "third person",
    },
}
_KINDS = ("verb", "adjective", "noun", "word")  # whose form is blamed first


class Verdict(NamedTuple):
    """What is said of a sentence.

    Attributes:
        text: the sentence, as it stood.
        grammatical: whether the grammar accepts it.
        reason: why not; empty if it does.
        known: how many of its words are known.
        words: how many words it has.
    """

    text: str
    grammatical: bool
    reason: str
    known: int
    words: int


def check(text: str) -> list[Verdict]:
    """Judges every sentence of a text.

    Args:
        text: any text. It is normalised to NFC for checking; a sentence ends with . ! ? or its line.
    """
    return [judge(sentence) for sentence in split_sentences(text)]


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, with their final marks."""
    return [part.strip() for part in _SENTENCE.findall(text) if part.strip()]


def judge(text: str) -> Verdict:
    """Whether one sentence is grammatical, and the first reason why not."""
    verdict, sentence = _read(text)
    if verdict.grammatical or sentence is None:
        return verdict
    return verdict._replace(reason=_diagnosis(sentence))


def glance(text: str) -> Verdict:
    """As `judge`, and many times faster where a sentence is wrong: what is wrong with its forms is not looked for."""
    return _read(text)[0]


def _read(text: str) -> tuple[Verdict, Sentence | None]:
    """A verdict without a diagnosis, and the sentence, if it is made of known words."""
    words = _WORD.findall(nfc(text))
    spoken = [i for i, word in enumerate(words) if word not in PUNCTUATION]
    found = [
        _readings(word, first=i == 0) if i in spoken else ()
        for i, word in enumerate(words[:MAX_WORDS])
    ]
    known = sum(bool(found[i]) for i in spoken if i < MAX_WORDS)
    if reason := _unreadable(words, spoken, found):
        return Verdict(text, False, reason, known, len(spoken)), None
    if words[-1] not in PUNCTUATION:
        words, found = [*words, "."], [*found, ()]
    first = found[0][0].text if found[0] else words[0]  # without its capital, unless it is a name
    sentence = Sentence(load_grammar(), [first, *words[1:]], found)
    right = parse(sentence) is not None
    return Verdict(
        text, right, "" if right else "its words do not fit together", known, len(spoken)
    ), sentence


def _readings(word: str, first: bool) -> tuple[Reading, ...]:
    lower = word[:1].lower() + word[1:]
    return readings(word) + (readings(lower) if first and lower != word else ())


def _unreadable(words: list[str], spoken: list[int], found: Sequence[Sequence[Reading]]) -> str:
    """Why a sentence cannot even be looked at; "" if it can."""
    if not spoken:
        return "there are no words in it; write a sentence"
    if len(words) > MAX_WORDS:
        return f"it has {len(spoken)} words; the grammar knows sentences of up to {MAX_WORDS}: divide it"
    return next((_unknown(words[i]) for i in spoken if not found[i]), "")


def _unknown(word: str) -> str:
    shown = word if len(word) <= 40 else word[:40] + "…"
    if set(word.lower()) - set(ALPHABET):
        strange = next(letter for letter in word.lower() if letter not in ALPHABET)
        if not strange.isprintable():
            return f"`U+{ord(strange):04X}` cannot be High Valyrian: it is no letter or mark at all"
        return f"`{shown}` cannot be High Valyrian: it has no letter or mark `{strange}`"
    if right := lacks_macrons(word) or lacks_macrons(word[:1].lower() + word[1:]):
        return f"`{shown}` has its macrons wrong or missing; it is spelt {_list(right[:3])}"
    alike = nearest(word) or nearest(word[:1].lower() + word[1:])
    return f"`{shown}` is not a known word" + (f"; the nearest are {_list(alike)}" if alike else "")


def _list(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


# --------------------------------------------------------------------------------------------------- diagnosis


def _diagnosis(sentence: Sentence) -> str:
    if len(sentence.words) > _LONGEST_REPAIRED:
        return "its words are known, but they do not fit together; divide it into shorter sentences to learn more"
    if found := parse(replace(sentence, tense_matters=False, phrases={})):
        return _tense_clash(found)
    if repairs := sorted(_other_forms(sentence), key=lambda repair: repair[0]):
        _, index, found = repairs[0]
        return _wrong_form(sentence, index, found)
    for order in _other_orders(sentence):
        if parse(_reordered(sentence, order)):
            return _wrong_order(sentence, order)
    for index, word in enumerate(sentence.words):
        if sentence.readings[index] and parse(_without(sentence, index)):
            return f"`{word}` has no place in this sentence; without it the rest is right"
    return "its words are known, but they do not fit together in any sentence that the grammar has"


def _other_forms(sentence: Sentence) -> Iterator[tuple[tuple[int, ...], int, Parse]]:
    """(how bad, index, parse) for every word that would make the sentence right in another of its forms."""
    for index, now in enumerate(sentence.readings):
        allowed = [(_difference(form, now), form) for form in _forms_like(now)]
        before = {
            end: phrases for end, phrases in sentence.phrases.items() if end <= index
        }  # they stay what they are
        for most in (1, len(_FEATURES)):
            free = [form for distance, form in allowed if distance <= most]
            others = [*sentence.readings[:index], free, *sentence.readings[index + 1 :]]
            if free and (found := parse(replace(sentence, readings=others, phrases=dict(before)))):
                used = next(leaf.reading for leaf in found.leaves if leaf.place == index)
                assert used is not None
                usual = sentence.grammar.sentences.index(found.leaves[-1].pattern)
                case = (
                    CASES.index(used.case) if used.case else 0
                )  # subjects and objects before all else
                yield (
                    (_difference(used, now), _KINDS.index(used.kind), case, usual, index),
                    index,
                    found,
                )
                break


def _forms_like(now: Sequence[Reading]) -> list[Reading]:
    """Every form of the words that these readings belong to, lengthened if one of them is."""
    lexemes = dict.fromkeys(reading.lexeme for reading in now)
    plain = [form for lexeme in lexemes for form in forms(lexeme)]
    if not any(reading.joined for reading in now):
        return plain
    return [
        replace(f, text=longer, joined=True)
        for f in plain
        if (longer := lengthen_last_vowel(f.text))
    ] + plain


def _difference(form: Reading, now: Sequence[Reading]) -> int:
    """In how many features a form differs from the nearest reading of the same word."""
    same = [reading for reading in now if reading.lexeme == form.lexeme]
    return min(
        sum(getattr(form, name) != getattr(reading, name) for name in _FEATURES) for reading in same
    )


def _other_orders(sentence: Sentence) -> Iterator[list[int]]:
    """The orders that learners mix up: a verb that is not last, and neighbours that have changed places."""
    everything = list(range(len(sentence.words)))
    for i in everything[:-2]:
        if any(reading.kind == "verb" for reading in sentence.readings[i]):
            yield [*everything[:i], *everything[i + 1 : -1], i, everything[-1]]
    for i in everything[:-2]:
        yield [*everything[:i], i + 1, i, *everything[i + 2 :]]


def _reordered(sentence: Sentence, order: Sequence[int]) -> Sentence:
    words, found = [sentence.words[i] for i in order], [sentence.readings[i] for i in order]
    return replace(sentence, words=words, readings=found, phrases={})


def _without(sentence: Sentence, index: int) -> Sentence:
    return _reordered(sentence, [i for i in range(len(sentence.words)) if i != index])


# ---------------------------------------------------------------------------------------------------- wording


def _tense_clash(found: Parse) -> str:
    """The first adverb of time that does not go with the verb of its own clause."""
    words = [(leaf, leaf.reading) for leaf in found.leaves if leaf.reading]
    for at, time in words:
        if time.kind != "word" or "time" not in time.lexeme.senses:
            continue
        clause = (r for leaf, r in words if leaf.pattern is at.pattern and leaf.place > at.place)
        verb = next(reading for reading in clause if reading.tense and reading.mood != "infinitive")
        tenses = time.lexeme.frame.split()
        if verb.tense not in tenses:
            return f"`{verb.text}` is {verb.tense}; with `{time.text}` the verb must be {' or '.join(tenses)}"
    return "the adverb of time does not go with the tense of the verb"


def _wrong_order(sentence: Sentence, order: Sequence[int]) -> str:
    first = next(place for place, index in enumerate(order) if place != index)
    moved, words = sentence.words[first], sentence.words
    if order[first + 1] == first:  # two neighbours
        return f"`{moved}` and `{words[first + 1]}` stand in the wrong order: `{words[first + 1]} {moved}`"
    return f"`{moved}` stands in the wrong place: the verb belongs at the end"


def _wrong_form(sentence: Sentence, index: int, found: Parse) -> str:
    leaf = next(leaf for leaf in found.leaves if leaf.place == index)
    right, word = leaf.reading, sentence.words[index]
    assert right is not None
    now = [reading for reading in sentence.readings[index] if reading.lexeme == right.lexeme]
    nearest_now = min(now, key=lambda reading: _difference(right, [reading]))
    changed = [name for name in _FEATURES if getattr(right, name) != getattr(nearest_now, name)]
    if right.joined != nearest_now.joined or not changed:
        return f"`{word}` must be `{right.text}` here"
    if changed == ["position"]:
        return f"`{word}` is the form used {_position(nearest_now)}; {_position(right)} it must be `{right.text}`"
    states = " ".join(_name(nearest_now, name) for name in changed)
    wants = " ".join(_name(right, name) for name in changed)
    return f"`{word}` is {states}; {_place(found, leaf, changed)} must be {wants}: `{right.text}`"


def _name(reading: Reading, feature: str) -> str:
    value = getattr(reading, feature)
    return _NAMES.get(value, value) if feature != "position" else _position(reading)


def _position(reading: Reading) -> str:
    return {
        "full": "after the noun",
        "prepositive": "before the noun",
        "prevocalic": "before the noun and a vowel",
    }.get(reading.position, "")


def _subject(found: Parse, leaf: Leaf) -> str:
    """The nearest nominative before a word, quoted."""
    before = (o.reading for o in found.leaves if o.reading and o.place < leaf.place)
    nouns = [reading.text for reading in before if reading.kind == "noun" and reading.case == "nom"]
    return f" `{nouns[-1]}`" if nouns else ""


def _place(found: Parse, leaf: Leaf, changed: Sequence[str]) -> str:
    """The place in the sentence that a word must suit, as the subject of the clause "... must be nominative"."""
    reading = leaf.reading
    assert reading is not None
    later = [other for other in found.leaves if other.place > leaf.place]
    if reading.kind == "verb":
        if "mood" in changed:
            return "before `daor` the verb" if reading.mood == "subjunctive" else "the verb here"
        return f"to agree with its subject{_subject(found, leaf)} it"
    if reading.kind == "adjective":
        same = [
            o
            for o in found.leaves
            if o.token.name == leaf.token.features[0] and o.pattern is leaf.pattern
        ]
        head = (
            f" `{same[0].reading.text}`"
            if same and same[0].reading
            else f" its subject{_subject(found, leaf)}"
        )
        return f"to agree with{head} it"
    verbs = [
        o.reading.text
        for o in later
        if o.reading and o.reading.kind == "verb" and o.reading.mood != "infinitive"
    ]
    before = next((o for o in reversed(found.leaves) if o.place < leaf.place), None)
    verb = f" of `{verbs[0]}`" if verbs else ""
    match reading.case:
        case "nom":
            return f"the subject{verb}"
        case "acc":
            return f"the object{verb}"
        case "gen":
            return f"the word before `{_text(later[0])}`" if later else "it"
        case "voc":
            return "the one who is spoken to"
        case "dat" | "loc" if before and before.reading and before.reading.kind == "word":
            return f"after `{before.reading.text}` the noun"
        case "dat":
            return f"the receiver{verb}"
        case _:
            return "the noun here"


def _text(leaf: Leaf) -> str:
    return leaf.reading.text if leaf.reading else leaf.token.name
