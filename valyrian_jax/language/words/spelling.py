"""Spelling: the alphabet, Unicode normalisation, and the known words closest to a misspelt one."""

import re
import string
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache, lru_cache
from itertools import groupby
from unicodedata import combining, normalize

from valyrian_jax.language.words.analysis import analyze, build_form_index
from valyrian_jax.language.words.lexicon import load_lexicon
from valyrian_jax.language.words.morphology import SHORT_VOWELS

ALPHABET = "".join(sorted((set(string.ascii_lowercase) - set("cfwx")) | set("ñāēīōūȳ")))
_WITHOUT_MACRONS = str.maketrans(
    SHORT_VOWELS | {long.upper(): short.upper() for long, short in SHORT_VOWELS.items()}
)
_SHORT_LETTERS = "".join(letter for letter in ALPHABET if letter not in SHORT_VOWELS)
_MAX_WORD = 30  # letters; a longer word gets no suggestions

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


def suggest(word: str) -> tuple[str, ...]:
    """Return up to three similar known words; those that differ in macrons only come first."""
    if spellings := _spellings().get(word.translate(_WITHOUT_MACRONS), ()):
        return spellings[:3]
    return _suggest_edited(word) if len(word) <= _MAX_WORD else ()


def correct_macrons(word: str) -> tuple[str, ...]:
    """Return the known words that differ from an unknown word in macrons only."""
    return () if analyze(word) else _spellings().get(word.translate(_WITHOUT_MACRONS), ())


@lru_cache(1 << 12)  # Text in another language repeats its words, and each takes a millisecond.
def _suggest_edited(word: str) -> tuple[str, ...]:
    edits = _edit_once(word.translate(_WITHOUT_MACRONS))
    if matches := sorted({form for edit in edits for form in _spellings().get(edit, ())}):
        return tuple(matches[:3])
    return tuple(get_close_matches(word, [lexeme.lemma for lexeme in load_lexicon()], 3))


@cache
def _spellings() -> dict[str, tuple[str, ...]]:
    """Map every form without its macrons to the forms that it may be."""
    spellings: dict[str, list[str]] = {}
    for form in build_form_index():
        spellings.setdefault(form.translate(_WITHOUT_MACRONS), []).append(form)
    return {key: tuple(forms) for key, forms in spellings.items()}


def _edit_once(word: str) -> Iterator[str]:
    """Yield every word one edit away, without macrons (Norvig 2007)."""
    for i in range(len(word) + 1):
        head, tail = word[:i], word[i:]
        if tail:
            yield head + tail[1:]
            yield from (head + letter + tail[1:] for letter in _SHORT_LETTERS)
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]
        yield from (head + letter + tail for letter in _SHORT_LETTERS)
