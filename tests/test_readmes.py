"""The READMEs: what they show comes out as they show it, and their links lead somewhere."""

import doctest
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
LINKED = [
    *(
        "README.md",
        "CONTRIBUTING.md",
        "valyrian_jax/README.md",
        "valyrian_jax/language/README.md",
        "bridge/README.md",
    ),
    *("bridge/cpp/README.md", "configs/README.md", "data/README.md", "tests/bench/README.md"),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def snippets(file: Path) -> str:
    """The lines of a file that stand in ```python blocks, where they stand: all others are empty, fences too.

    So line numbers are those of the file, and no fence is taken for expected output.
    """
    lines, inside = [], False
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = line == "```python"
            line = ""
        lines.append(line if inside else "")
    return "\n".join(lines) + "\n"


def failures(file: Path) -> str:
    """Run the `>>>` lines of a file from top to bottom in one namespace; what came out otherwise than it says."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    test = doctest.DocTestParser().get_doctest(snippets(file), namespace, file.name, str(file), 0)
    assert test.examples, f"{file} has no snippets"
    told: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(test, out=told.append)
    return "".join(told)


@pytest.mark.parametrize("name", ["valyrian_jax/README.md", "bridge/README.md"])
def test_snippets_give_what_they_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    told = failures(ROOT / name)
    assert not told, told


def test_a_wrong_snippet_is_told_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(
        "# Title\n\n```python\n>>> x = 2\n```\n\n```\n>>> x / 0\n```\n\n```python\n>>> x + 2\n5\n```\n"
    )
    told = failures(file)
    assert f'File "{file}", line 12' in told
    assert "Expected:\n    5\nGot:\n    4\n" in told
    assert "ZeroDivisionError" not in told


@pytest.mark.parametrize("name", LINKED)
def test_links_lead_somewhere(name: str) -> None:
    file = ROOT / name
    targets = [
        target
        for target in LINK.findall(file.read_text(encoding="utf-8"))
        if not target.startswith("http")
    ]
    missing = [
        target for target in targets if not (file.parent / target.partition("#")[0]).exists()
    ]
    assert not missing
