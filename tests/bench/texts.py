"""Make large English texts from the installed packages, without a download."""

import ast
import sysconfig
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

CACHE = Path(tempfile.gettempdir()) / "valyrian-bench"
_TEXT_SUFFIXES = {
    *(".py", ".pyi", ".c", ".cc", ".h", ".hpp", ".cuh", ".md", ".rst", ".txt"),
    *(".json", ".js", ".css", ".html", ".csv"),
}


def _list_text_files() -> Iterator[Path]:
    for name in ("purelib", "stdlib"):
        files = Path(sysconfig.get_path(name)).rglob("*")
        yield from sorted(path for path in files if path.suffix in _TEXT_SUFFIXES)


def load_docstrings(size: int = 28_000_000) -> list[str]:
    """Return distinct docstrings in the order of the files, `size` characters in all."""
    cache = CACHE / f"prose-{size}.txt"
    if not cache.exists():
        CACHE.mkdir(exist_ok=True)
        docstrings: dict[str, None] = {}
        total = 0
        for path in _list_text_files():
            if path.suffix == ".py" and total < size:
                for text in _parse_docstrings(path):
                    if text not in docstrings:
                        docstrings[text] = None
                        total += len(text) + 2
        cache.write_text("\n\n".join(docstrings)[:size], encoding="utf-8")
    return cache.read_text(encoding="utf-8").split("\n\n")


def load_python_source(size: int = 16_000_000) -> str:
    """Return `size` characters of Python source, in the order of the files."""
    cache = CACHE / f"source-{size}.txt"
    if not cache.exists():
        CACHE.mkdir(exist_ok=True)
        parts, total = [], 0
        for path in _list_text_files():
            if path.suffix == ".py" and total < size:
                parts.append(path.read_bytes().decode("utf-8", "ignore"))
                total += len(parts[-1])
        text = "".join(parts)[:size].replace("<|endoftext|>", "")
        cache.write_text(text, encoding="utf-8", newline="")
    return cache.read_bytes().decode()


def make_large_file(size: int = 1_000_000_000) -> Path:
    """Return a file of about `size` bytes: all text files, repeated as often as necessary."""
    cache = CACHE / f"bulk-{size}.txt"
    if not cache.exists():
        CACHE.mkdir(exist_ok=True)
        files = list(_list_text_files())
        written = 0
        with cache.open("w", encoding="utf-8", newline="") as out:
            while written < size:
                for path in files:
                    text = path.read_bytes().decode("utf-8", "ignore")
                    written += len(text.encode())
                    out.write(text)
                    if written >= size:
                        break
    return cache


def _parse_docstrings(path: Path) -> Iterator[str]:
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
