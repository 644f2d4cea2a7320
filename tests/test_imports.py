"""Every room imports only from lower floors, and every library only where it belongs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.imports import (
    PACKAGE_FILES,
    ROOT,
    parse_imports,
    path_from_root,
    read_imports,
    top_level_names,
)

# A room imports from lower floors only, not from other rooms of its own floor.
FLOORS = [
    {"errors"},
    {"files"},
    {"config"},
    {"language", "tokenizer"},
    {"data", "bundle"},
    {"run_directory"},
    {"model"},
    {"generation"},
    {"evaluation", "inspection", "plots"},
    {"training"},
    {"planning"},
    {"api"},
    {"cli"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ROOMS_WITHOUT_JAX = {room for room, floor in FLOOR.items() if floor <= FLOOR["run_directory"]}
BRIDGE_IMPORTS = ROOMS_WITHOUT_JAX - {"data"} | {"cli"}
ENTRY_POINTS = ("valyrian_jax/__init__.py", "valyrian_jax/__main__.py", "train.py")
BRIDGE_FILES_WITH_JAX = {"bridge/parity_runtimes.py"}

# A library, and the files or rooms that may import it.
LIBRARY_USERS = {
    "torch": ("bridge/",),
    "orbax": ("valyrian_jax/training/checkpoint.py",),
    "wandb": ("valyrian_jax/training/wandb_uploader.py",),
    "distributed": ("valyrian_jax/data/shards/executors.py",),
    "fsspec": ("valyrian_jax/files/remote.py",),
    "filelock": ("valyrian_jax/files/",),
    "gguf": ("bridge/gguf/", "bridge/importers/gguf_file.py"),
    "flax": ("valyrian_jax/model/",),
    "starlette": (
        "bridge/web/app.py",
        "bridge/web/completions.py",
        "bridge/web/description_queue.py",
        "bridge/web/language.py",
        "bridge/web/middleware.py",
        "bridge/web/request.py",
    ),
    "uvicorn": ("bridge/web/server.py", "bridge/web/protocol.py"),
    "zstandard": ("valyrian_jax/data/reading/text_reader.py",),
    "pyarrow": ("valyrian_jax/data/reading/parquet.py",),
    "matplotlib": ("valyrian_jax/plots/",),
    "numba": ("valyrian_jax/tokenizer/numba_pretokenizer.py",),
}
# What test modules and scripts may import from each other.
SHARED_TEST_PACKAGES = {"support", "bench", "artifacts"}


def rooms_of(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("valyrian_jax.")} & FLOOR.keys()


def find_violations(path: str, names: set[str]) -> Iterator[str]:
    """Yield the rules that a file breaks by importing some names."""
    libraries, rooms = top_level_names(names), rooms_of(names)
    for library, users in LIBRARY_USERS.items():
        if library in libraries and not path.startswith(users):
            yield f"{path} imports {library}"
    if path.startswith("valyrian_jax/"):
        if "bridge" in libraries:
            yield f"{path} imports the bridge"
        room = path.removesuffix(".py").split("/")[1]
        if path not in ENTRY_POINTS:
            higher = {other for other in rooms - {room} if FLOOR[other] >= FLOOR[room]}
            yield from (f"{path} imports {other}" for other in higher)
        if room in ROOMS_WITHOUT_JAX and (heavy := libraries & {"jax", "flax", "optax"}):
            yield f"{path} imports {heavy}"
    if path.startswith("bridge/") and path not in BRIDGE_FILES_WITH_JAX:
        yield from (f"{path} imports {room}" for room in rooms - BRIDGE_IMPORTS)
        if "jax" in libraries:
            yield f"{path} imports jax"
    if path.startswith("valyrian_jax/language/") and (
        other := libraries - {*sys.stdlib_module_names, "valyrian_jax"}
    ):
        yield f"{path} imports {other}"


@pytest.mark.parametrize("file", PACKAGE_FILES, ids=path_from_root)
def test_a_room_imports_from_lower_floors_only(file: Path) -> None:
    assert [*find_violations(path_from_root(file), read_imports(file))] == []


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
def test_a_forbidden_import_is_reported(path: str, code: str) -> None:
    assert [*find_violations(path, parse_imports(code))] != []


def test_every_room_has_a_floor() -> None:
    rooms = {
        path.stem
        for path in (ROOT / "valyrian_jax").iterdir()
        if path.suffix == ".py" or path.is_dir()
    }
    assert rooms - {"__init__", "__main__", "__pycache__"} == FLOOR.keys()


def test_only_the_parity_runtimes_of_the_bridge_import_the_jax_side() -> None:
    files = {
        path_from_root(file)
        for file in (ROOT / "bridge").rglob("*.py")
        if "jax" in top_level_names(read_imports(file))
        or rooms_of(read_imports(file)) - BRIDGE_IMPORTS
    }
    assert files == BRIDGE_FILES_WITH_JAX


@pytest.mark.parametrize("file", sorted((ROOT / "tests").rglob("*.py")), ids=path_from_root)
def test_tests_import_no_other_test_module(file: Path) -> None:
    modules = {name.split(".")[1] for name in read_imports(file) if name.startswith("tests.")}
    assert modules <= SHARED_TEST_PACKAGES


def uses_torch_jit(file: Path) -> bool:
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return "torch.jit" in {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}


def test_torch_jit_is_used_in_one_file() -> None:
    # The model asks whether it runs in a file, where autocast cannot be turned off.
    users = {file.name for file in PACKAGE_FILES if uses_torch_jit(file)}
    assert users == {"torchscript.py", "gpt.py"}


def run_without(modules: str, code: str) -> None:
    """Run code in a process that cannot import some modules."""
    block = f"import sys\nfor name in {modules.split()}: sys.modules[name] = None\n"
    subprocess.run([sys.executable, "-c", block + code], check=True, cwd=ROOT, timeout=120)


def test_the_rooms_below_the_model_work_without_jax_and_torch() -> None:
    run_without(
        "jax flax optax orbax torch wandb matplotlib",
        "from valyrian_jax import language, run_directory, tokenizer\n"
        "from valyrian_jax.bundle import bundle, text_generation\n"
        "from valyrian_jax.config import load_config\n"
        "from valyrian_jax.data import dataset\n"
        "from valyrian_jax.data.shards import writer\n"
        "assert tokenizer.train_bpe('aaab', 258).encode('aa') == [256]\n"
        "assert load_config().model.n_head == 4\n"
        "assert next(language.generate_paragraphs(3, 0))\n",
    )


def test_the_jax_side_works_without_torch() -> None:
    code = "from valyrian_jax.evaluation import report; from valyrian_jax.training import run"
    run_without("torch transformers tokenizers", code)


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); "
        "import valyrian_jax; print(set(sys.modules) - before)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert output.strip() == "{'valyrian_jax'}"
