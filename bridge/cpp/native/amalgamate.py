"""Write a header or a program of the runner as one file, with the headers that it includes.

python bridge/cpp/native/amalgamate.py valyrian.hpp > valyrian_single.hpp
python bridge/cpp/native/amalgamate.py main.cpp > valyrian-run.cpp
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent
_INCLUDE = re.compile(r'#include (?:"(.+)"|VALYRIAN_INSTRUCTIONS)$')
_INSTRUCTIONS = re.compile(r'#define VALYRIAN_INSTRUCTIONS "(.+)"$')


def amalgamate(name: str) -> str:
    """Return the content of a file, with the other files of its directory in place of includes."""
    included: set[str] = set()
    instructions = ""  # which file the loops include for the instruction set

    def expand(name: str) -> Iterator[str]:
        nonlocal instructions
        included.add(name)
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if found := _INSTRUCTIONS.match(line):
                instructions = found[1]
            elif found := _INCLUDE.match(line):
                header = found[1] or instructions
                if header.endswith(".inc") or header not in included:
                    yield from expand(header)
            elif line != "#pragma once":
                yield line

    top = "#pragma once\n" if name.endswith(".hpp") else ""
    return f"// Written by amalgamate.py from {name}; do not edit.\n{top}" + "\n".join(
        [*expand(name), ""]
    )


if __name__ == "__main__":
    sys.stdout.write(amalgamate(sys.argv[1]))
