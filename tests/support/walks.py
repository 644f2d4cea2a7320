"""The walks through the READMEs: blocks of Python, each with the output that it must print.

A block of output begins on the line after a block of Python. A block is run as if it was pasted
into an interactive Python, so a blank line ends a function. Blocks share their names; an answer,
which is folded in `<details>`, gets a copy of them.
"""

import contextlib
import doctest
import io
import re
from code import InteractiveConsole
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:```\n(?P<output>.*?)^```\n)?", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """A block of Python in a README, and what it prints."""

    line: int
    code: str
    output: str
    is_answer: bool


def find_blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of a README in order."""
    for match in BLOCK.finditer(text):
        before = text[: match.start()]
        is_answer = before.count("<details>") > before.count("</details>")
        yield Block(before.count("\n") + 1, match["code"], match["output"] or "", is_answer)


def run_block(code: str, namespace: dict[str, Any]) -> str:
    """Paste code into an interactive Python; return what it prints, with tracebacks."""
    console, output = InteractiveConsole(namespace), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        for line in [*code.splitlines(), ""]:
            console.push(line)
    return output.getvalue()


def find_differences(file: Path) -> str:
    """Run the blocks of a README, and return a report of those that print something else.

    In the README, `...` stands for any text.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    report = []
    for block in find_blocks(file.read_text(encoding="utf-8")):
        output = run_block(block.code, dict(namespace) if block.is_answer else namespace)
        if not is_expected(block.output, output):
            report.append(f"{file}:{block.line}: expected\n{block.output}found\n{output}")
    return "\n".join(report)


def is_expected(expected: str, output: str) -> bool:
    """Return whether an output is the one that a README shows."""
    return doctest.OutputChecker().check_output(expected, output, doctest.ELLIPSIS)
