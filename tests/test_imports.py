"""The arrows between the packages, as files import each other and as processes load them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "valyrian_jax").rglob("*.py"), *(ROOT / "bridge").rglob("*.py"), ROOT / "train.py"])

BASE = {"valyrian_jax.language", "valyrian_jax.tokenizer", "valyrian_jax.bundle.bundle", "valyrian_jax.config"}
BASE |= {"valyrian_jax.errors", "valyrian_jax.files", "valyrian_jax.cli.options", "valyrian_jax.bundle.text_generation"}
BASE |= {
    "valyrian_jax.run_directory",
    "valyrian_jax.files",
    "valyrian_jax.tokenizer.display",
    "valyrian_jax.cli.tables",
}
BASE |= {"valyrian_jax.bundle.names"}
ONLY_IN = {  # a library -> the files that may import it
    "torch": ("bridge/",),
    "orbax": ("valyrian_jax/training/checkpoint.py",),
    "wandb": ("valyrian_jax/training/wandb_uploader.py",),
    "filelock": ("valyrian_jax/run_directory.py",),
    "flax": ("valyrian_jax/model/gpt.py", "valyrian_jax/model/layers.py"),
    "starlette": ("bridge/serve.py",),
    "uvicorn": ("bridge/serve.py",),
    "matplotlib": ("valyrian_jax/plots/curves.py", "valyrian_jax/plots/attention.py"),
    "numba": ("valyrian_jax/tokenizer/numba_pretokenizer.py",),
}


def imported(file: Path) -> set[str]:
    """Full names of everything a file imports, wherever in it."""
    names: set[str] = set()
    package = ".".join(file.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, [package if node.level else "", node.module]))
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_follow_the_arrows(file: Path) -> None:
    path, names = str(file.relative_to(ROOT)), imported(file)
    for library, places in ONLY_IN.items():
        assert library not in tops(names) or path.startswith(places), f"{path} imports {library}"
    if path.startswith("valyrian_jax/"):
        assert "bridge" not in tops(names)
    name = path.removesuffix(".py").replace("/", ".")
    if name in BASE or path.startswith(("valyrian_jax/language/", "valyrian_jax/tokenizer/")):
        assert not tops(names) & {"jax", "flax", "optax", "torch"}
        inner = {".".join(n.split(".")[:2]) for n in names if n.startswith("valyrian_jax.")}
        assert inner <= BASE, inner
    if path.startswith("valyrian_jax/language/"):
        assert tops(names) <= {*sys.stdlib_module_names, "valyrian_jax"}
    if path.startswith("bridge/") and path != "bridge/parity.py":
        inner = {".".join(n.split(".")[:2]) for n in names if n.startswith("valyrian_jax.")}
        assert inner <= BASE, inner
        assert "jax" not in tops(names)


def test_torch_jit_stands_in_one_file() -> None:
    touching = [
        file.name for file in (ROOT / "bridge").glob("*.py") if "torch.jit." in file.read_text(encoding="utf-8")
    ]
    assert touching == ["torchscript.py"]


def run_blocking(modules: str, code: str) -> None:
    block = f"import sys\nfor name in {modules.split()}: sys.modules[name] = None\n"
    subprocess.run([sys.executable, "-c", block + code], check=True, cwd=ROOT, timeout=120)


def test_the_base_works_without_jax_and_torch() -> None:
    run_blocking(
        "jax flax optax orbax torch wandb matplotlib",
        "from valyrian_jax import bundle, config, language, tokenizer\n"
        "assert tokenizer.train_bpe('aaab', 258).encode('aa') == [256]\n"
        "assert config.load().model.n_head == 4\n"
        "assert next(language.generate_paragraphs(3, 0))\n",
    )


def test_text_is_encoded_without_jax_and_torch() -> None:
    run_blocking("jax flax optax orbax torch wandb matplotlib", "from valyrian_jax import encoding, sharded")


def test_the_jax_side_works_without_torch() -> None:
    run_blocking("torch transformers tokenizers", "from valyrian_jax import loop, sampling, evaluation, plot")


def test_importing_the_package_imports_nothing() -> None:
    code = "import sys; before = set(sys.modules); import valyrian_jax; print(set(sys.modules) - before)"
    out = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert out.stdout.strip() == "{'valyrian_jax'}"
