"""A text as sentences, and a sentence as words and marks; quotes, brackets and emoji are layout."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from unicodedata import category

from valyrian_jax.language.template import PUNCTUATION
from valyrian_jax.language.words.spelling import nfc

MAX_SENTENCE = 1 << 16  # characters; a longer one is cut
_ELLIPSIS = r"(?<![.…])(?:\.{2,}+|…++)(?=\s*[a-zāēīōūȳñ])"  # inside a sentence, not at its end
_CLOSERS = "[\"'”’»›)\\]}*_]*"
_SENTENCE = re.compile(rf"(?:[^.!?…\n]|{_ELLIPSIS})+[.!?…]*{_CLOSERS}")
_ACCENTS = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_TOKEN = re.compile(rf"[^\W\d_](?:[^\W\d_]|[{_ACCENTS}])*|\d+|[.…]{{2,}}|\S")
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufe0e\ufe0f\ufeff"))
_GAP = "…"
_COMMAS = ",;:—–―"
_MEANINGFUL = "@#%&/\\§"  # punctuation for Unicode, but it says something


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences, each of which ends with . ! ? or its line.

    What has no letter and no digit is no sentence.
    """
    parts = (part.strip() for part in _SENTENCE.findall(text))
    return [part for part in parts if any(map(str.isalnum, part))]


def stream_sentences(blocks: Iterable[str]) -> Iterator[str]:
    """Yield the sentences of a text of any size, which comes in blocks, as `split_sentences`."""
    rest = ""
    for block in blocks:
        rest += block
        parts = [*_SENTENCE.finditer(rest)]
        # The last one may go on in the next block, and a blank one belongs to the one before.
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
    are commas without a word on both sides. The marks at the end become one; there always is one.
    Everything else, such as a digit, is a word.
    """
    found = map(_normalize, _TOKEN.findall(nfc(text).translate(_INVISIBLE)))
    tokens = [token for token in found if token]
    ends = []
    while tokens and tokens[-1] in (*PUNCTUATION, _GAP):
        ends.append(tokens.pop())
    end = next((mark for mark in "?!" if mark in ends), ".")
    words = [token for token in tokens if token != _GAP]
    kept = [b for a, b in pairwise([",", *words]) if not a == b == ","]
    return [*kept, end] if kept else []


def _normalize(token: str) -> str:
    """Return a word or mark as the grammar has it; "" for one that means nothing."""
    if token[0].isalnum() or token in PUNCTUATION:
        return token
    if token[0] in ".…":
        return _GAP
    if token in _COMMAS:
        return ","
    is_layout = category(token)[0] == "P" or category(token) in ("So", "Sk")
    return "" if is_layout and token not in _MEANINGFUL else token
