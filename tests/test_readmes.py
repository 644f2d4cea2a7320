"""The snippets, links and figures of the READMEs are right, and the top README stays short."""

import re
from pathlib import Path

import pytest

from tests.support.walks import (
    WALKS,
    find_blocks,
    find_differences,
    find_end,
    find_rebound_names,
    is_expected,
    make_notebook,
    read_notebook,
    read_outputs,
    run_block,
)
from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.config import ModelConfig

ROOT = Path(__file__).parent.parent
LINKED = [
    "README.md",
    "CONTRIBUTING.md",
    "valyrian_jax/README.md",
    "valyrian_jax/language/README.md",
    "bridge/README.md",
    "bridge/cpp/README.md",
    "configs/README.md",
    "data/README.md",
    "tests/bench/README.md",
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["valyrian_jax/README.md", "bridge/README.md"])
def test_blocks_print_what_the_readme_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    differences = find_differences(ROOT / name)
    assert not differences, differences


WALK = """# Title
```python
x = 2
print(x)
```
```
2
```
```
x / 0
```
<details><summary>Answer</summary>

```python
def double(x):
    return 2 * x

x = double(x)
print(x, "and so on")
```
```
4...
```
</details>

```python
print(x + 2)
```
```
5
```
```python
x / 0
```
"""


def test_a_block_that_prints_something_else_is_reported_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(WALK)
    wrong, failed = find_differences(file).split("\n\n")
    assert wrong == f"{file}:26: expected\n5\nfound\n4"
    assert failed.startswith(f"{file}:32: expected\nfound\nTraceback")
    assert failed.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    "code",
    [
        "def double(x):\n    return 2 * x\nprint(double(2))\n",
        "def double(x):\n    x *= 2\n\n    return x\n\nprint(double(2))\n",
        ">>> print(4)\n",
    ],
    ids=["no blank line after a function", "a blank line in a function", "a prompt"],
)
def test_code_that_cannot_be_pasted_is_reported(code: str) -> None:
    assert "Error" in run_block(code, {})
    assert run_block("def double(x):\n    return 2 * x\n\nprint(double(2))\n", {}) == "4\n"


@pytest.mark.parametrize("name", WALKS)
def test_a_notebook_is_the_walk_of_its_readme(name: str) -> None:
    text = read(name)
    notebook, expected = read_notebook(ROOT / WALKS[name]), make_notebook(text)
    fix = f"run `python tests/bench/walks.py`: {WALKS[name]} is not that of {name}"
    assert [(c.cell_type, c.source) for c in notebook.cells] == [
        (c.cell_type, c.source) for c in expected.cells
    ], fix
    blocks = [b for b in find_blocks(text[: find_end(text)]) if not b.is_answer]
    _, *outputs = read_outputs(notebook)
    for block, (printed, pictures) in zip(blocks, outputs, strict=True):
        assert is_expected(block.output, printed), f"{name}:{block.line}: {printed}\n{fix}"
        assert pictures == bool(block.picture), fix


@pytest.mark.parametrize("name", WALKS)
def test_a_block_of_a_walk_can_be_run_again_because_no_other_binds_its_names(name: str) -> None:
    assert not find_rebound_names(read(name))


def test_a_name_with_two_meanings_is_reported() -> None:
    answer = "<details>\n\n```python\ndef x():\n    y = 1\n```\n</details>\n"
    assert find_rebound_names(WALK) == {"x": [2, 14]}
    assert find_rebound_names("```python\nimport x\ny = 2\n```\n" + answer) == {"x": [1, 7]}
    assert not find_rebound_names("```python\nimport x\n```\n" * 2)


@pytest.mark.parametrize("name", WALKS)
def test_every_exercise_of_a_walk_has_a_folded_answer(name: str) -> None:
    text = read(name)
    exercises = text.split("\nExercise: ")[1:]
    stops = len(re.findall(r"^## \d+\. ", text, re.MULTILINE))
    assert text[: find_end(text)].count("\nExercise: ") == stops
    assert all("\n\n<details><summary>Answer</summary>\n\n" in text for text in exercises)
    assert text.count("<details") == text.count("</details>")


def test_the_table_of_names_has_every_weight_and_its_shape() -> None:
    config = ModelConfig()
    sizes = {"V": config.vocab_size, "T": config.n_positions, "D": config.n_embd}
    rows = re.findall(
        r"^\| `([\w.]+)` \| \[(.+)\] \|", read("valyrian_jax/README.md"), re.MULTILINE
    )
    table = {
        name: tuple(int(n or 1) * sizes[size] for n, size in re.findall(r"(\d*) ?([VTD])", shape))
        for name, shape in rows
    }
    assert table == {
        name.removeprefix("transformer.").removesuffix(".weight"): shape
        for name, shape in parameter_shapes(config).items()
        if name.endswith(".weight") and not re.search(r"\.h\.[1-9]", name)
    }


def test_a_notebook_keeps_answers_folded_and_makes_pictures_of_figures() -> None:
    walk = "# Title\nSee [promises](#promises).\n\n## 1. Text\n" + WALK.partition("\n")[2]
    text = walk + "```python\nfigure = 2\n```\n![a](b.png)\nEnd\n\n## Promises\nNone\n"
    cells = make_notebook(text).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"][1:]
    assert sources == ["x = 2\nprint(x)", "print(x + 2)", "x / 0", "figure = 2\nfigure"]
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert prose[0] == "# Title\nSee [promises](README.md#promises).\n\n## 1. Text"
    assert "x = double(x)" in prose[1]
    assert prose[-1] == "End"


@pytest.mark.parametrize("name", LINKED)
def test_links_lead_to_existing_files(name: str) -> None:
    directory = (ROOT / name).parent
    targets = [target for target in LINK.findall(read(name)) if not target.startswith("http")]
    assert not [target for target in targets if not (directory / target.partition("#")[0]).exists()]


def test_the_top_readme_has_fewer_than_150_lines() -> None:
    assert len(read("README.md").splitlines()) < 150


def test_every_figure_of_the_top_readme_is_in_the_benchmarks() -> None:
    section = read("README.md").partition("\n## Figures\n")[2].partition("\n## ")[0]
    _, _, *rows = [line.split("|") for line in section.splitlines() if line.startswith("|")]
    figures = {number for row in rows for cell in row[2:4] for number in NUMBER.findall(cell)}
    assert figures
    assert figures <= set(NUMBER.findall(read("tests/bench/README.md")))
