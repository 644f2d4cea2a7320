"""The Python files of the packages, and the imports in a file."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE_FILES = sorted(
    [*(ROOT / "valyrian_jax").rglob("*.py"), *(ROOT / "bridge").rglob("*.py"), ROOT / "train.py"]
)


def read_imports(file: Path) -> set[str]:
    """Return the full names that a file imports, at its top or inside functions."""
    return parse_imports(file.read_text(encoding="utf-8"))


def parse_imports(code: str) -> set[str]:
    """Return the full names that some code imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "relative imports hide where a name comes from"
            assert not node.level, "relative imports hide where a name comes from"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def top_level_names(names: set[str]) -> set[str]:
    """Return the top-level packages of some full names."""
    return {name.partition(".")[0] for name in names}


def path_from_root(file: Path) -> str:
    return str(file.relative_to(ROOT))
