"""Small models whose every weight shows, as bundles, as files, and a C++ program to run them."""

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from filelock import FileLock

from bridge import __main__ as main
from bridge import torchscript
from bridge.generator import Generator
from tests.support.serving import Served, serving
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.config import ModelConfig
from valyrian_jax.tokenizer import Tokenizer, train_bpe

ROOT = Path(__file__).parents[2]
CONFIG = ModelConfig(
    vocab_size=300, n_positions=24, n_embd=24, n_layer=2, n_head=3, layer_norm_epsilon=1e-3
)
TEXT = (
    "the quick dragon sees a lazy wolf, and the wolf jumps over seventeen rivers; don't they? Ȳdra daor! "
    * 20
)

torch.set_num_threads(
    1
)  # at these sizes a second one only waits, for long where the machine is busy


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_bpe(TEXT, CONFIG.vocab_size)


@pytest.fixture(scope="session")
def make(tokenizer: Tokenizer) -> Callable[..., Bundle]:
    """A bundle with large random weights and biases, so that none can be wrong unseen."""

    def make(**changes: Any) -> Bundle:
        config = replace(CONFIG, **changes)
        rng = np.random.default_rng(0)
        shapes = parameter_shapes(config)
        tensors = {
            name: (
                rng.normal(size=shape) * 0.15
                + name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight"))
            ).astype(np.float32)
            for name, shape in shapes.items()
        }
        return Bundle(config, tensors, tokenizer)

    return make


@pytest.fixture(scope="session")
def small(make: Callable[..., Bundle]) -> Bundle:
    return make()


@pytest.fixture(scope="session")
def endless(small: Bundle) -> Bundle:
    """The small bundle, but its texts never end: the first number of every last state is 1, and speaks against it."""
    tensors = {name: tensor.copy() for name, tensor in small.tensors.items()}
    tensors["transformer.ln_f.weight"][0], tensors["transformer.ln_f.bias"][0] = 0, 1
    tensors["lm_head.weight"][small.tokenizer.end_of_text] = np.array([-1e3] + [0] * 23)
    return replace(small, tensors=tensors)


@pytest.fixture(scope="session")
def generator(endless: Bundle) -> Generator:
    return Generator(endless)


@pytest.fixture(scope="session")
def directory(small: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "bundle"
    save_bundle(small, path)
    return path


@pytest.fixture(scope="session")
def file(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small bundle as a TorchScript file."""
    path = tmp_path_factory.mktemp("file") / "small.pt"
    torchscript.export(directory, path)
    return path


@pytest.fixture(scope="session")
def script(file: Path) -> Any:
    """The module in that file."""
    return torchscript.load(file)[0]


@pytest.fixture(scope="session", autouse=True)
def building(request: pytest.FixtureRequest) -> Iterator[Future[Path] | None]:
    """Building valyrian-generate, which goes on beside the first tests if a later one needs it."""
    with ThreadPoolExecutor(1) as pool:
        needed = any(
            {"program", "proven"} & {*getattr(item, "fixturenames", ())}
            for item in request.session.items
        )
        yield pool.submit(build) if needed else None


@pytest.fixture(scope="session")
def program(building: Future[Path]) -> Path:
    """valyrian-generate, built if it is out of date."""
    return building.result()


@pytest.fixture(scope="session")
def endless_directory(endless: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("endless") / "bundle"
    save_bundle(endless, path)
    return path


@pytest.fixture(scope="module")
def served(endless_directory: Path) -> Iterator[Served]:
    with serving(endless_directory) as server:
        yield server


class Proven(NamedTuple):
    """A bundle directory after `python -m bridge verify`."""

    directory: Path
    status: int
    out: str
    report: dict[str, Any]  # its parity.json


@pytest.fixture(scope="session")
def proven(
    small: Bundle, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Proven:
    """The small bundle as a run, proven by the example in the command's help; with C++ where that can be built."""
    home = tmp_path_factory.mktemp("proven")
    path = home / "runs" / "first" / "bundle"
    path.parent.mkdir(parents=True)
    (path.parent / "config.toml").touch()
    save_bundle(small, path)
    try:
        options = ["--program", str(request.getfixturevalue("program"))]
    except pytest.skip.Exception:
        options = []
    (example,) = re.findall("^Example: python -m bridge (.*)", main.verify.epilog or "")
    with contextlib.chdir(home):
        done = CliRunner().invoke(main.main, [*shlex.split(example), *options])
    assert (path / "parity.json").exists(), done.output
    return Proven(path, done.exit_code, done.output, json.loads((path / "parity.json").read_text()))


def build() -> Path:
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("needs cmake and a C++ compiler")
    build = ROOT / "build" / "cpp"
    build.mkdir(parents=True, exist_ok=True)
    configure = ["cmake", "-S", "bridge/cpp", "-B", build, f"-DPython3_EXECUTABLE={sys.executable}"]
    with FileLock(
        build / "lock"
    ):  # every process of the tests comes here, and two would write the same files
        done = subprocess.run(configure, cwd=ROOT, capture_output=True, text=True, timeout=300)
        if (
            done.returncode
        ):  # a libtorch for CUDA, say, without the CUDA toolkit; .ci/run would fail there
            pytest.skip(f"cmake cannot configure: {done.stderr}")
        done = subprocess.run(
            ["cmake", "--build", build], cwd=ROOT, capture_output=True, text=True, timeout=300
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return build / "valyrian-generate"
