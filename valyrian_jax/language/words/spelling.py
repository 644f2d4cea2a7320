"""Spelling: the alphabet, Unicode normalisation, and the known words closest to a misspelt one."""

import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache, lru_cache
from itertools import groupby, zip_longest
from unicodedata import combining, normalize

from valyrian_jax.language.words.analysis import (
    MAX_WORD,
    Reading,
    analyze,
    find_candidates,
    inflect,
)
from valyrian_jax.language.words.lexicon import Lexeme, load_lexicon
from valyrian_jax.language.words.vowels import (
    LONG_VOWELS,
    SHORT_VOWELS,
    lengthen_last_vowel,
    shorten_last_vowel,
)

ALPHABET = "".join(sorted((set(string.ascii_lowercase) - set("cfwx")) | set("ñāēīōūȳ")))
_WITHOUT_MACRONS = str.maketrans(
    SHORT_VOWELS | {long.upper(): short.upper() for long, short in SHORT_VOWELS.items()}
)
_SHORT_LETTERS = "".join(letter for letter in ALPHABET if letter not in {*SHORT_VOWELS, "ñ"})
_PLAIN_LETTERS = str.maketrans(SHORT_VOWELS | {"ñ": "n", "c": "k", "x": "ks", "æ": "ae"})
_DOUBLED_VOWEL = re.compile(r"([aeiouy])\1")
_MAX_WORD = 30  # letters; a longer word gets no suggestions
_CUTOFF = 0.6  # of `get_close_matches`
_MAX_REPEATED = 8  # No lemma has a letter more often.

_MAX_MARKS = 30
_JOINER = "\u034f"  # COMBINING GRAPHEME JOINER: normalisation does not reorder marks across it
_LONG_RUN = re.compile(rf"[^\w\s\x00-\x7f]{{{_MAX_MARKS + 1},}}")  # No mark is a word character.


def nfc(text: str) -> str:
    """Return the text in NFC, with a joiner after every 30 combining marks in a row.

    Python sorts the marks of a letter by insertion, so 100,000 marks on one letter take half a
    minute; the joiners keep the time linear. They are those of the Stream-Safe Text Format
    (Unicode Standard Annex 15, section 13). No text of any language reaches its limit.
    """
    return normalize("NFC", _LONG_RUN.sub(lambda match: _insert_joiners(match[0]), text))


def _insert_joiners(run: str) -> str:
    chunks: list[str] = []
    for is_mark, characters in groupby(run, lambda character: combining(character) > 0):
        group = "".join(characters)
        size = _MAX_MARKS if is_mark else len(group)
        chunks.append(_JOINER.join(group[i : i + size] for i in range(0, len(group), size)))
    return "".join(chunks)


def fold(word: str) -> str:
    """Return the common form of all spellings of a word, however its long vowels are written.

    It is in lower case, without accents (also on ñ) and with single vowels; c is k, and x is ks.
    """
    plain = word.lower().translate(_PLAIN_LETTERS)
    if not plain.isascii():
        letters = normalize("NFD", nfc(plain))
        plain = "".join(letter for letter in letters if not combining(letter))
        plain = plain.translate(_PLAIN_LETTERS)
    return _DOUBLED_VOWEL.sub(r"\1", plain)


def suggest(word: str) -> tuple[str, ...]:
    """Return up to three similar known words; if some only differ in spelling, only those."""
    if len(word) > _MAX_WORD:
        return ()
    return _find_spellings(word)[:3] or _suggest_edited(word)


def correct_macrons(word: str) -> tuple[str, ...]:
    """Return the known words that differ from an unknown word in macrons only."""
    if len(word) > MAX_WORD or analyze(word):
        return ()
    plain = word.translate(_WITHOUT_MACRONS)
    return tuple(s for s in _find_spellings(word) if s.translate(_WITHOUT_MACRONS) == plain)


def readings_as_meant(word: str) -> tuple[tuple[str, tuple[Reading, ...]], ...]:
    """Find the known words that a misspelt one may be meant for, and their readings.

    It allows vowels without their macron or with one too many (zaldrizes, iprādis), doubled or with
    another accent (vaalar, zaldrîzes), a missing tilde (muna), c for k (Dracarys), letters of
    another case (daenerys), and any Unicode normal form.

    Args:
        word: A word as it was written.

    Returns:
        (right spelling, readings), the closest spelling first; nothing for a word that is known as
        it is, or that differs in other ways.
    """
    if len(word) > MAX_WORD or analyze(word):
        return ()
    return _find_meant(word)


@lru_cache(1 << 12)
def _find_meant(word: str) -> tuple[tuple[str, tuple[Reading, ...]], ...]:
    written = _DOUBLED_VOWEL.sub(lambda match: LONG_VOWELS.get(match[1], match[1]), nfc(word))
    candidates = dict.fromkeys(_find_spellings(word))
    for form in tuple(candidates):  # "and ...", as in `zaldrizesē`
        if shorten_last_vowel(written) and (longer := lengthen_last_vowel(form)):
            candidates[longer] = None
    spellings = sorted(candidates, key=lambda form: _count_differences(form, written))
    analyses = ((_capitalize_as(form, word), analyze(form)) for form in spellings)
    return tuple((spelling, readings) for spelling, readings in analyses if readings)


def _count_differences(form: str, written: str) -> int:
    pairs = zip_longest(form.lower(), written.lower())
    return sum(a != b for a, b in pairs)


def _capitalize_as(form: str, word: str) -> str:
    return form[:1].upper() + form[1:] if word[:1].isupper() else form


@lru_cache(1 << 12)  # Text in another language repeats its words, and each takes a millisecond.
def _suggest_edited(word: str) -> tuple[str, ...]:
    edits = {*_edit_once(fold(word))}
    words = map(_fold_forms, find_candidates(edits, fold))
    matches = {form for forms in words for edit in edits & forms.keys() for form in forms[edit]}
    if matches:
        return tuple(sorted(matches)[:3])
    return tuple(get_close_matches(word, find_similar_lemmas(word), 3))


def find_similar_lemmas(word: str) -> list[str]:
    """Find the lemmas that share enough letters with a word, in any order, to be a close match.

    `get_close_matches` needs a millisecond for all lemmas, and most of it for this bound.
    """
    letters, length = _letter_bits(word), len(word)
    return [
        lemma
        for lemma, others in _list_lemmas()
        if 2 * (letters & others).bit_count() >= _CUTOFF * (length + len(lemma))
    ]


@cache
def _list_lemmas() -> tuple[tuple[str, int], ...]:
    return tuple((lexeme.lemma, _letter_bits(lexeme.lemma)) for lexeme in load_lexicon())


def _letter_bits(word: str) -> int:
    """Return a bit for the first, second ... occurrence of each letter."""
    counts = Counter(word)
    return sum(
        ((1 << min(counts[letter], _MAX_REPEATED)) - 1) << _MAX_REPEATED * index
        for index, letter in enumerate(_list_lemma_letters())
    )


@cache
def _list_lemma_letters() -> tuple[str, ...]:
    return tuple(sorted({letter for lexeme in load_lexicon() for letter in lexeme.lemma}))


def _find_spellings(word: str) -> tuple[str, ...]:
    folded = fold(word)
    words = find_candidates([folded], fold)
    return tuple(dict.fromkeys(t for lexeme in words for t in _fold_forms(lexeme).get(folded, ())))


@cache
def _fold_forms(lexeme: Lexeme) -> Mapping[str, Sequence[str]]:
    """Map every form of a word, folded, to the forms that it may be."""
    forms: dict[str, dict[str, None]] = {}
    for reading in inflect(lexeme):
        forms.setdefault(fold(reading.text), {})[reading.text] = None
    return {folded: [*texts] for folded, texts in forms.items()}


def _edit_once(word: str) -> Iterator[str]:
    """Yield every word one edit away from a folded one (Norvig 2007)."""
    for i in range(len(word) + 1):
        head, tail = word[:i], word[i:]
        if tail:
            yield head + tail[1:]
            yield from (head + letter + tail[1:] for letter in _SHORT_LETTERS)
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]
        yield from (head + letter + tail for letter in _SHORT_LETTERS)
