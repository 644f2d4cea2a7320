"""The vowels, and the coordinated form of a word, whose last vowel is long."""

from collections.abc import Mapping

LONG_VOWELS = dict(zip("aeiouy", "āēīōūȳ", strict=True))
SHORT_VOWELS = {long: short for short, long in LONG_VOWELS.items()}
VOWELS = frozenset([*LONG_VOWELS, *SHORT_VOWELS])


def lengthen_last_vowel(word: str) -> str | None:
    """Return the coordinated form, "and ...": taoba -> taobā; None if the last vowel is long."""
    return _replace_last_vowel(word, LONG_VOWELS)


def shorten_last_vowel(word: str) -> str | None:
    """Undo `lengthen_last_vowel`; return None if the last vowel is short."""
    return _replace_last_vowel(word, SHORT_VOWELS)


def _replace_last_vowel(word: str, replacements: Mapping[str, str]) -> str | None:
    index = next((i for i in reversed(range(len(word))) if word[i] in VOWELS), None)
    if index is None or word[index] not in replacements:
        return None
    return word[:index] + replacements[word[index]] + word[index + 1 :]
