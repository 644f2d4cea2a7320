"""Split a text into sentences, and a sentence into words and marks, without quotes and emoji."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from unicodedata import category

from valyrian_jax.language.template import PUNCTUATION
from valyrian_jax.language.words.spelling import nfc

MAX_SENTENCE = 1 << 16  # characters; a longer one is cut
_SMALL = "[a-zāēīōūȳñ]"
_ELLIPSIS = rf"(?<![.…])(?:\.{{2,}}+|…++)(?=\s*{_SMALL})"  # inside a sentence, not at its end
_PART = rf"[^.!?…\n]|{_ELLIPSIS}"
# A sentence that begins with a capital goes on where the next line begins without one.
_CAPITAL = rf"[^\w.!?…\n]*+(?!{_SMALL})[^\W\d_](?:{_PART}|\n(?={_SMALL}))*+"
_CLOSERS = "[\"'”’»›)\\]}*_]*"
_SENTENCE = re.compile(rf"(?:{_CAPITAL}|(?:{_PART})+)[.!?…]*{_CLOSERS}")
_ACCENTS = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_TOKEN = re.compile(rf"[^\W\d_](?:[^\W\d_]|[{_ACCENTS}])*|\d+|[.…]{{2,}}|\S")
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufe0e\ufe0f\ufeff"))
_GAP = "…"
_COMMAS = ",;:—–―"
_MEANINGFUL = "@#%&/\\§"  # Unicode classes them as punctuation, but they have a meaning.


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences, which end with . ! ? or at the end of a line.

    A sentence that begins with a capital continues on a line that begins with a small letter, as in
    a paragraph wrapped by hand. A part without a letter or a digit is not a sentence.
    """
    parts = (part.strip().replace("\n", " ") for part in _SENTENCE.findall(text))
    return [part for part in parts if any(map(str.isalnum, part))]


def stream_sentences(blocks: Iterable[str]) -> Iterator[str]:
    """Yield the sentences of a text of any size that comes in blocks, as `split_sentences` does."""
    rest = ""
    for block in blocks:
        rest += block
        parts = [*_SENTENCE.finditer(rest)]
        # The last one may continue in the next block, and a blank one belongs to the one before.
        count = len(parts) - 1 if parts and parts[-1][0].strip() else len(parts) - 2
        for part in parts[: max(count, 0)]:
            yield from split_sentences(part[0])
        rest = rest[parts[max(count, 0)].start() :] if parts else ""
        while len(rest) > MAX_SENTENCE:
            yield from split_sentences(rest[:MAX_SENTENCE])
            rest = rest[MAX_SENTENCE:]
    yield from split_sentences(rest)


def tokenize(text: str) -> list[str]:
    """Split a sentence into words and the marks . , ! ? that the grammar knows.

    Semicolons, colons and dashes become commas. Other punctuation and emoji are left out, and so
    are commas without a word on both sides. The marks at the end become one; a missing one is
    added. Everything else, such as a digit, is a word.
    """
    normalized = map(_normalize, _TOKEN.findall(nfc(text).translate(_INVISIBLE)))
    tokens = [token for token in normalized if token]
    ends = []
    while tokens and tokens[-1] in (*PUNCTUATION, _GAP):
        ends.append(tokens.pop())
    end = next((mark for mark in "?!" if mark in ends), ".")
    words = [token for token in tokens if token != _GAP]
    words = [b for a, b in pairwise([",", *words]) if not a == b == ","]
    return [*words, end] if words else []


def _normalize(token: str) -> str:
    """Return a word or mark in the grammar's form; "" for one without a meaning."""
    if token[0].isalnum() or token in PUNCTUATION:
        return token
    if token[0] in ".…":
        return _GAP
    if token in _COMMAS:
        return ","
    is_layout = category(token)[0] == "P" or category(token) in ("So", "Sk")
    return "" if is_layout and token not in _MEANINGFUL else token
