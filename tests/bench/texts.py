"""English to measure on, without a download: the docstrings of what is installed, and, for bulk, all its text files."""

import ast
import sysconfig
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

CACHE = Path(tempfile.gettempdir()) / "valyrian-bench"
_TEXT = {
    ".py",
    ".pyi",
    ".h",
    ".hpp",
    ".cuh",
    ".md",
    ".rst",
    ".txt",
    ".json",
    ".js",
    ".css",
    ".html",
    ".csv",
    ".c",
    ".cc",
}


def _files() -> Iterator[Path]:
    for name in ("purelib", "stdlib"):
        yield from sorted(
            path for path in Path(sysconfig.get_path(name)).rglob("*") if path.suffix in _TEXT
        )


def prose(size: int = 28_000_000) -> list[str]:
    """Distinct docstrings, in the order of the files, up to so many characters in all."""
    kept = CACHE / f"prose-{size}.txt"
    if not kept.exists():
        CACHE.mkdir(exist_ok=True)
        found: dict[str, None] = {}
        total = 0
        for path in _files():
            if path.suffix == ".py" and total < size:
                for text in _docstrings(path):
                    if text not in found:
                        found[text] = None
                        total += len(text) + 2
        kept.write_text("\n\n".join(found)[:size], encoding="utf-8")
    return kept.read_text(encoding="utf-8").split("\n\n")


def bulk(size: int = 1_000_000_000) -> Path:
    """A file of so many bytes: all text files that are UTF-8, one after the other, from the start again if need be."""
    kept = CACHE / f"bulk-{size}.txt"
    if not kept.exists():
        CACHE.mkdir(exist_ok=True)
        files = list(_files())
        written = 0
        with kept.open("w", encoding="utf-8", newline="") as out:
            while written < size:
                for path in files:
                    text = path.read_bytes().decode("utf-8", "ignore")
                    written += len(text.encode())
                    out.write(text)
                    if written >= size:
                        break
    return kept


def _docstrings(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and len(text) > 100:
                yield text
