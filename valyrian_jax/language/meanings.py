"""The English meanings in the lexicon: the senses of a gloss, and the search by English words."""

import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from valyrian_jax.language.set_phrases import load_set_phrases
from valyrian_jax.language.words.lexicon import Lexeme, load_lexicon

_IN_BRACKETS = re.compile(r"\([^()]*\)")
_BEFORE_SENSE = re.compile(r"^(?:to (?!the )|the |an? )")
_BEFORE_SENSES = re.compile("^[^,;:]*: ")  # "relative: who, which"
_ENGLISH_ENDINGS = [("s", ""), ("es", ""), ("ies", "y"), ("ed", ""), ("d", ""), ("ing", "")]
_IRREGULAR_FORMS = {
    "be": "am is are was were been",
    "break": "broke broken",
    "bring": "brought",
    "buy": "bought",
    "choose": "chose chosen",
    "come": "came",
    "do": "does did done",
    "drink": "drank",
    "eat": "ate eaten",
    "fall": "fell fallen",
    "fight": "fought",
    "find": "found",
    "fly": "flew flown",
    "give": "gave given",
    "go": "went gone",
    "have": "has had",
    "he": "him",
    "hear": "heard",
    "hold": "held",
    "i": "me",
    "keep": "kept",
    "know": "knew known",
    "lead": "led",
    "make": "made",
    "man": "men",
    "mouse": "mice",
    "ride": "rode ridden",
    "run": "ran",
    "say": "said",
    "see": "saw seen",
    "send": "sent",
    "sing": "sang sung",
    "sit": "sat",
    "sleep": "slept",
    "speak": "spoke spoken",
    "stand": "stood",
    "steal": "stole stolen",
    "take": "took taken",
    "teach": "taught",
    "tell": "told",
    "they": "them",
    "think": "thought",
    "we": "us",
    "wear": "wore worn",
    "win": "won",
    "wolf": "wolves",
    "woman": "women",
    "write": "wrote written",
}
_IRREGULAR = {form: base for base, forms in _IRREGULAR_FORMS.items() for form in forms.split()}
_MARKS = string.punctuation + "«»“”‘’…"
_MIN_BEGINNING = 3  # letters of a part of a word
_WORD = re.compile(r"[^\W\d_]+")


class _Meaning(NamedTuple):
    """The English words by which a word of the lexicon is found.

    Attributes:
        lexeme: The word.
        senses: Its senses, in lower case.
        words: The words of its senses.
        remarks: All words of its gloss.
        rank: Its rank among the words of its part of speech, from frequent to rare.
    """

    lexeme: Lexeme
    senses: tuple[str, ...]
    words: tuple[str, ...]
    remarks: tuple[str, ...]
    rank: int


def list_senses(gloss: str) -> tuple[str, ...]:
    """Split a gloss into senses: "to give, grant (a thing)" into "give" and "grant"."""
    parts = re.split("[,;!?]", _BEFORE_SENSES.sub("", _IN_BRACKETS.sub("", gloss)))
    senses = (_BEFORE_SENSE.sub("", " ".join(part.split())) for part in parts)
    return tuple(sense for sense in senses if sense and not sense.startswith("as spelt"))


@cache
def list_phrases() -> tuple[Lexeme, ...]:
    """Return the set phrases as words of the lexicon, without those that the lexicon has too."""
    known = {(word.lemma, sense) for word in load_lexicon() for sense in list_senses(word.gloss)}
    return tuple(
        Lexeme(" ".join(p.words), "phrase", "indecl", frame=p.kind, gloss=p.gloss, source=p.source)
        for p in load_set_phrases()
        if known.isdisjoint((" ".join(p.words), sense) for sense in list_senses(p.gloss))
    )


def find_by_sense(english: str) -> list[Lexeme]:
    """Find the words with this sense, the most common ones first."""
    wanted = normalize_english(english)
    # Nobody who types "men" looks for a word that means "the men of an army".
    irregular = [_IRREGULAR[wanted]] if wanted in _IRREGULAR else []
    for sense in (*irregular, wanted, *_list_stems(wanted)):
        matches = [m for m in _list_meanings() if sense in m.senses]
        if matches:
            matches.sort(key=lambda m: (*_order(m), m.senses.index(sense), m.rank))
            return [m.lexeme for m in matches]
    return []


def _list_stems(sense: str) -> Iterator[str]:
    """Yield the dictionary forms that an English form may have: "dragons", "loved"."""
    for ending, replacement in _ENGLISH_ENDINGS:
        if sense.endswith(ending) and len(sense) > len(ending) + 1:
            yield sense.removesuffix(ending) + replacement


def find_by_words(english: str) -> list[Lexeme]:
    """Find the words of the lexicon whose senses contain all of these English words.

    If there are none, find those whose whole glosses contain them, or else those whose glosses
    contain words that begin with them.
    """
    wanted = _WORD.findall(normalize_english(english))
    levels: list[list[_Meaning]] = [[], [], []]
    for meaning in _list_meanings() if wanted else ():
        everything = meaning.words + meaning.remarks
        if all(word in meaning.words for word in wanted):
            levels[0].append(meaning)
        elif all(word in everything for word in wanted):
            levels[1].append(meaning)
        elif all(_begins_one(word, everything) for word in wanted):
            levels[2].append(meaning)
    best = next(filter(None, levels), [])
    return [meaning.lexeme for meaning in sorted(best, key=_order)]


def _begins_one(beginning: str, words: Iterable[str]) -> bool:
    return len(beginning) >= _MIN_BEGINNING and any(word.startswith(beginning) for word in words)


@cache
def list_english_words() -> tuple[str, ...]:
    """Return the words of all meanings."""
    return tuple(dict.fromkeys(word for m in _list_meanings() for word in m.words + m.remarks))


def normalize_english(text: str) -> str:
    """Return English in the form of the senses: in lower case, without "to", "the" or "a"."""
    return _BEFORE_SENSE.sub("", " ".join(text.lower().split()).strip(_MARKS))


def _order(meaning: _Meaning) -> tuple[bool, bool, int]:
    """Return the sort key of meanings, among which the lexicon has frequent words first."""
    return meaning.lexeme.is_inferred, meaning.lexeme.pos == "name", len(meaning.words)


@cache
def _list_meanings() -> tuple[_Meaning, ...]:
    return tuple(_read_meanings())


def _read_meanings() -> Iterator[_Meaning]:
    ranks = Counter[str]()
    for lexeme in (*load_lexicon(), *list_phrases()):
        gloss = lexeme.gloss.lower()
        # A derived word has a gloss such as "agent noun of dohaeragon: to serve".
        senses = () if lexeme.is_inferred else list_senses(gloss)
        words = tuple(word for sense in senses for word in _WORD.findall(sense))
        remarks = tuple(_WORD.findall(gloss))
        yield _Meaning(lexeme, senses, words, remarks, ranks[lexeme.pos])
        ranks[lexeme.pos] += 1
