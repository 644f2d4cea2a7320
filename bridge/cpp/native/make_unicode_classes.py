"""Write unicode_classes.hpp from the table of classes that the Python tokenizer reads.

python bridge/cpp/native/make_unicode_classes.py
"""

import textwrap
from pathlib import Path

import numpy as np

from valyrian_jax.tokenizer.pretokenizer import load_class_table

HEADER = Path(__file__).with_name("unicode_classes.hpp")
_TOP = """\
// The class of every code point, for the pre-tokenizer. Written by make_unicode_classes.py from
// valyrian_jax/tokenizer/unicode_classes.csv; do not edit.

#pragma once

#include <cstdint>

namespace valyrian {

enum class CharacterClass : uint8_t { other, letter, number, space };

// One number for each run of code points of one class: 4 x its first code point + the class.
constexpr uint32_t kClassRuns[] = {
"""
_BOTTOM = """
};

}  // namespace valyrian
"""


def make_header() -> str:
    """Return the content of the header."""
    table = load_class_table()
    starts = np.flatnonzero(np.diff(table, prepend=255))
    numbers = ", ".join(str(4 * int(start) + int(table[start])) for start in starts)
    lines = textwrap.fill(numbers, 100, initial_indent="    ", subsequent_indent="    ")
    return _TOP + lines + _BOTTOM


if __name__ == "__main__":
    HEADER.write_text(make_header(), encoding="ascii")
