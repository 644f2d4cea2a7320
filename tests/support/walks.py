"""The walks through the READMEs: blocks of Python, each with the output that it must print.

A block of output begins on the line after a block of Python. A block is run as if it was pasted
into an interactive Python, so a blank line ends a function. Blocks share their names; an answer,
which is folded in `<details>`, gets a copy of them.
"""

import contextlib
import doctest
import io
import re
import symtable
from code import InteractiveConsole
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:```\n(?P<output>.*?)^```\n)?", re.MULTILINE | re.DOTALL
)

PICTURE = re.compile(r"^!\[[^\]]*\]\((?P<path>[^)]+)\)\n", re.MULTILINE)

# A README with a walk, and the notebook that it becomes.
WALKS = {
    "valyrian_jax/README.md": "valyrian_jax/walk.ipynb",
    "bridge/README.md": "bridge/walk.ipynb",
}
SETUP = """# A notebook starts in its own directory, and the walk in the root of the repository.
import os
from pathlib import Path

import valyrian_jax

os.chdir(Path(valyrian_jax.__file__).parents[1])
%matplotlib inline"""


class Block(NamedTuple):
    """A block of Python in a README, and what it prints.

    Attributes:
        line: Number of its first line.
        code: Lines of Python.
        output: What they print.
        is_answer: Whether it is folded.
        start: Offset of its first character.
        end: Offset after its output.
        picture: Path of the picture that follows, or None.
    """

    line: int
    code: str
    output: str
    is_answer: bool
    start: int
    end: int
    picture: str | None


def find_blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of a README in order."""
    for match in BLOCK.finditer(text):
        before = text[: match.start()]
        is_answer = before.count("<details") > before.count("</details>")
        picture = PICTURE.match(text, match.end())
        yield Block(
            line=before.count("\n") + 1,
            code=match["code"],
            output=match["output"] or "",
            is_answer=is_answer,
            start=match.start(),
            end=picture.end() if picture else match.end(),
            picture=picture["path"] if picture else None,
        )


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


def find_rebound_names(text: str) -> dict[str, list[int]]:
    """Return names that several blocks of a README bind differently, and the lines of the blocks.

    A block can then not be run again after a later one. Two imports are the same; `figure` is the
    picture of its block, and `_` is nothing.
    """
    bindings = defaultdict[str, dict[int, str]](dict)
    for block in find_blocks(text):
        for symbol in symtable.symtable(block.code, "block", "exec").get_symbols():
            if symbol.is_imported():
                bindings[symbol.get_name()][block.line] = "import"
            elif symbol.is_assigned() and symbol.get_name() not in ("figure", "_"):
                bindings[symbol.get_name()][block.line] = f"line {block.line}"
    return {name: [*lines] for name, lines in bindings.items() if len({*lines.values()}) > 1}


def make_notebook(text: str) -> NotebookNode:
    """Return the numbered stops of a README as a notebook without outputs.

    An answer stays in the text around it. A picture becomes the output of its block, which leaves
    it in `figure`.
    """
    walk = text[: find_end(text)]
    cells, last = list[NotebookNode](), 0
    for block in find_blocks(walk):
        if block.is_answer:
            continue
        prose = walk[last : block.start].strip().replace("](#", "](README.md#")
        cells += [new_markdown_cell(prose)] if prose else []
        cells.append(new_code_cell(block.code.strip() + "\nfigure" * bool(block.picture)))
        last = block.end
    cells.append(new_markdown_cell(walk[last:].strip()))
    cells.insert(1, new_code_cell(SETUP))
    for index, cell in enumerate(cells):
        cell["id"] = str(index)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def find_end(text: str) -> int:
    """Return where the numbered stops of a README end."""
    last = [match.end() for match in re.finditer(r"^## \d+\. ", text, re.MULTILINE)][-1]
    following = re.compile(r"^## ", re.MULTILINE).search(text, last)
    return following.start() if following else len(text)


def read_outputs(notebook: NotebookNode) -> list[tuple[str, int]]:
    """Return what every code cell printed, and its number of pictures."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [
        (
            "".join(output.get("text", "") for output in cell.outputs),
            sum("image/png" in output.get("data", {}) for output in cell.outputs),
        )
        for cell in cells
    ]


def read_notebook(path: Path) -> NotebookNode:
    """Read and validate a notebook."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook
