"""The snippets, links and figures of the READMEs are right, and the top README stays short."""

import re
from pathlib import Path

import pytest

from tests.support.walks import find_differences, run_block

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
<details>

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
