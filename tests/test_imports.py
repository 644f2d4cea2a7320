"""The floors of the house: which room may import from which, and which file may import which library."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    [*(ROOT / "valyrian_jax").rglob("*.py"), *(ROOT / "bridge").rglob("*.py"), ROOT / "train.py"]
)

# A room imports from rooms on lower floors only; rooms of one floor do not know each other.
FLOORS = [
    {"errors"},
    {"files"},
    {"config"},
    {"language", "tokenizer"},
    {"data", "bundle"},
    {"run_directory"},
    {"model"},
    {"generation"},
    {"evaluation", "plots"},
    {"training"},
    {"cli"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
WITHOUT_JAX = {room for room, floor in FLOOR.items() if floor <= FLOOR["run_directory"]}
BRIDGE_IMPORTS = WITHOUT_JAX - {"data"} | {"cli"}
ENTRANCES = ("valyrian_jax/__init__.py", "valyrian_jax/__main__.py", "train.py")

ONLY_IN = {  # a library -> the files or rooms that may import it
    "torch": ("bridge/",),
    "orbax": ("valyrian_jax/training/checkpoint.py",),
    "wandb": ("valyrian_jax/training/wandb_uploader.py",),
    "filelock": ("valyrian_jax/files.py",),
    "flax": ("valyrian_jax/model/",),
    "starlette": ("bridge/web/server.py",),
    "uvicorn": ("bridge/web/server.py",),
    "matplotlib": ("valyrian_jax/plots/",),
    "numba": ("valyrian_jax/tokenizer/numba_pretokenizer.py",),
}


def imported(file: Path) -> set[str]:
    """Full names of everything a file imports, wherever in it."""
    return imported_by(file.read_text(encoding="utf-8"))


def imported_by(code: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "relative imports hide where a name comes from"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def broken_rules(path: str, names: set[str]) -> Iterator[str]:
    """What a file of a path may not import of these names, in words."""
    for library, places in ONLY_IN.items():
        if library in tops(names) and not path.startswith(places):
            yield f"{path} imports {library}"
    rooms = {
        name.split(".")[1] for name in names if name.startswith("valyrian_jax.")
    } & FLOOR.keys()
    if path.startswith("valyrian_jax/"):
        if "bridge" in tops(names):
            yield f"{path} imports the bridge"
        room = path.removesuffix(".py").split("/")[1]
        if path not in ENTRANCES:
            yield from (
                f"{room} imports {r}" for r in rooms if r != room and FLOOR[r] >= FLOOR[room]
            )
        if room in WITHOUT_JAX and (heavy := tops(names) & {"jax", "flax", "optax"}):
            yield f"{path} imports {heavy}"
    if path.startswith("bridge/") and path != "bridge/parity.py":
        yield from (f"{path} imports {r}" for r in rooms - BRIDGE_IMPORTS)
        if "jax" in tops(names):
            yield f"{path} imports jax"
    if path.startswith("valyrian_jax/language/") and (
        other := tops(names) - {*sys.stdlib_module_names, "valyrian_jax"}
    ):
        yield f"{path} imports {other}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_a_room_imports_from_lower_floors_only(file: Path) -> None:
    assert [*broken_rules(str(file.relative_to(ROOT)), imported(file))] == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("valyrian_jax/data/text.py", "from valyrian_jax.training import run"),
        (
            "valyrian_jax/data/text.py",
            "def f():\n    from valyrian_jax.bundle.names import Tensors",
        ),
        ("valyrian_jax/tokenizer/bpe.py", "import jax"),
        ("valyrian_jax/model/gpt.py", "import bridge.gpt"),
        ("valyrian_jax/plots/curves.py", "import orbax.checkpoint"),
        ("bridge/gpt.py", "from valyrian_jax.model.gpt import GPT"),
        ("valyrian_jax/language/grammar.py", "import numpy"),
    ],
)
def test_a_planted_import_upwards_is_found(path: str, code: str) -> None:
    assert [*broken_rules(path, imported_by(code))] != []


def test_every_room_has_a_floor() -> None:
    rooms = {
        path.stem
        for path in (ROOT / "valyrian_jax").iterdir()
        if path.suffix == ".py" or path.is_dir()
    }
    assert rooms - {"__init__", "__main__", "__pycache__"} == FLOOR.keys()


def test_torch_jit_is_used_in_one_file() -> None:
    touching = [file.name for file in FILES if "torch.jit." in file.read_text(encoding="utf-8")]
    assert touching == ["torchscript.py"]


def run_blocking(modules: str, code: str) -> None:
    block = f"import sys\nfor name in {modules.split()}: sys.modules[name] = None\n"
    subprocess.run([sys.executable, "-c", block + code], check=True, cwd=ROOT, timeout=120)


def test_what_comes_before_the_model_works_without_jax_and_torch() -> None:
    run_blocking(
        "jax flax optax orbax torch wandb matplotlib",
        "from valyrian_jax import language, run_directory, tokenizer\n"
        "from valyrian_jax.bundle import bundle, text_generation\n"
        "from valyrian_jax.config import load_config\n"
        "from valyrian_jax.data import dataset, shard_dataset, shard_writer\n"
        "assert tokenizer.train_bpe('aaab', 258).encode('aa') == [256]\n"
        "assert load_config().model.n_head == 4\n"
        "assert next(language.generate_paragraphs(3, 0))\n",
    )


def test_the_jax_side_works_without_torch() -> None:
    code = "from valyrian_jax.evaluation import report; from valyrian_jax.training import run"
    run_blocking("torch transformers tokenizers", code)


def test_importing_the_package_imports_nothing() -> None:
    code = "import sys; before = set(sys.modules); import valyrian_jax; print(set(sys.modules) - before)"
    out = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert out.stdout.strip() == "{'valyrian_jax'}"
