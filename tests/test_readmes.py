"""The snippets, links and figures of the READMEs are right, and the top README stays short."""

import doctest
import re
from pathlib import Path
from typing import Any

import pytest

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


def extract_python(file: Path) -> str:
    """Return the lines of the ```python blocks of a file, and every other line empty.

    So line numbers are those of the file, and doctest takes no fence for expected output.
    """
    lines, inside = [], False
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = line == "```python"
            line = ""
        lines.append(line if inside else "")
    return "\n".join(lines) + "\n"


def run_snippets(file: Path) -> str:
    """Run the `>>>` lines of a file in one namespace, and return doctest's report of failures."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    code = extract_python(file)
    test = doctest.DocTestParser().get_doctest(code, namespace, file.name, str(file), 0)
    assert test.examples, f"{file} has no snippets"
    report: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    return "".join(report)


@pytest.mark.parametrize("name", ["valyrian_jax/README.md", "bridge/README.md"])
def test_snippets_print_what_the_readme_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    failures = run_snippets(ROOT / name)
    assert not failures, failures


def test_a_wrong_snippet_is_reported_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    blocks = ["```python\n>>> x = 2\n```", "```\n>>> x / 0\n```", "```python\n>>> x + 2\n5\n```"]
    file.write_text("\n\n".join(["# Title", *blocks]) + "\n")
    failures = run_snippets(file)
    assert f'File "{file}", line 12' in failures
    assert "Expected:\n    5\nGot:\n    4\n" in failures
    assert "ZeroDivisionError" not in failures


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
