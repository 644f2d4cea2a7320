"""Letters and their accents as one character (NFC), for any text in linear time.

Python sorts the marks on a letter by insertion: one letter with 100,000 of them takes half a minute. After thirty in a
row a joiner is put in, as in the Stream-Safe Text Format of the Unicode Standard (annex 15, section 13), whose limit no
text of any language reaches.
"""

import re
from itertools import groupby
from unicodedata import combining, normalize

_MOST = 30
_JOINER = "\u034f"  # the combining grapheme joiner, which ends what is sorted
_SUSPECT = re.compile(rf"[^\w\s\x00-\x7f]{{{_MOST + 1},}}")  # no mark is a word character


def nfc(text: str) -> str:
    """The text in NFC, with a joiner after every 30 marks in a row."""
    return normalize("NFC", _SUSPECT.sub(lambda found: _divided(found[0]), text))


def _divided(run: str) -> str:
    out: list[str] = []
    for is_mark, group in groupby(run, lambda character: combining(character) > 0):
        marks = "".join(group)
        step = _MOST if is_mark else len(marks)
        out.append(_JOINER.join(marks[i : i + step] for i in range(0, len(marks), step)))
    return "".join(out)
