"""Small random models as bundles and as files, and the C++ program that runs them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock

from bridge import torchscript
from bridge.api import load
from bridge.generator import Generator
from bridge.gguf import export as gguf_export
from bridge.web import static_site
from tests.support.browsing import watch_errors
from tests.support.serving import PageServer, start_server
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.bundle.shipped_model import short_name
from valyrian_jax.config import ModelConfig
from valyrian_jax.tokenizer import Tokenizer, train_bpe

ROOT = Path(__file__).parents[2]
CONFIG = ModelConfig(
    vocab_size=300, n_positions=24, n_embd=24, n_layer=2, n_head=3, layer_norm_epsilon=1e-3
)
SENTENCE = (
    "the quick dragon sees a lazy wolf, and the wolf jumps over seventeen rivers; don't they? "
)
VIEWPORT = {"width": 1000, "height": 900}
TEXT = (SENTENCE + "Ȳdra daor! ") * 20

torch.set_num_threads(1)  # models of this size gain nothing from a second thread


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_bpe(TEXT, CONFIG.vocab_size)


@pytest.fixture(scope="session")
def make(tokenizer: Tokenizer) -> Callable[..., Bundle]:
    """A function that makes a bundle with weights so large that a change of any one shows."""

    def make(**changes: Any) -> Bundle:
        config = replace(CONFIG, **changes)
        rng = np.random.default_rng(0)
        norms = ("ln_1.weight", "ln_2.weight", "ln_f.weight")
        tensors = {
            name: (rng.normal(size=shape) * 0.15 + name.endswith(norms)).astype(np.float32)
            for name, shape in parameter_shapes(config).items()
        }
        return Bundle(config, tensors, tokenizer)

    return make


@pytest.fixture(scope="session")
def small(make: Callable[..., Bundle]) -> Bundle:
    return make()


@pytest.fixture(scope="session")
def endless(small: Bundle) -> Bundle:
    """The small bundle, changed so that its texts never end.

    The first number of every final state is 1, and its weight for the end of the text is -1000.
    """
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
    """The small bundle as a TorchScript file, which one worker exports for all."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    path = shared / "small.pt"
    with FileLock(shared / "small.pt.lock"):
        if not path.exists():
            torchscript.export(directory, path)
    return path


@pytest.fixture(scope="session")
def script(file: Path) -> Any:
    """The module in that file."""
    return torchscript.load(file)[0]


@pytest.fixture(scope="session", autouse=True)
def program_build(request: pytest.FixtureRequest) -> Iterator[Future[Path] | None]:
    """The build of valyrian-generate, which runs beside the first tests if a later one needs it."""
    with ThreadPoolExecutor(1) as pool:
        names = {
            name for item in request.session.items for name in getattr(item, "fixturenames", ())
        }
        needed = not names.isdisjoint({"program", "verified"})
        yield pool.submit(build) if needed else None


@pytest.fixture(scope="session")
def program(program_build: Future[Path]) -> Path:
    """valyrian-generate, rebuilt if it is out of date."""
    return program_build.result()


@pytest.fixture(scope="session")
def endless_directory(endless: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("endless") / "bundle"
    save_bundle(endless, path)
    return path


@pytest.fixture(scope="module")
def page_server(endless_directory: Path) -> Iterator[PageServer]:
    with start_server(endless_directory) as server:
        yield server


@pytest.fixture(scope="module")
def client(page_server: PageServer) -> Iterator[Any]:
    """OpenAI's client of that server."""
    from tests.support.completions import connect  # here, as its package is slow to import

    with connect(page_server) as client:
        yield client


@pytest.fixture(scope="module")
def model_name(endless_directory: Path) -> str:
    """The name of the model in the protocol."""
    return short_name(endless_directory)


@pytest.fixture(scope="session")
def site(endless_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the endless bundle that runs in the browser."""
    directory = tmp_path_factory.mktemp("web") / "page"
    directory.mkdir()
    gguf_export.write(endless_directory, directory / static_site.MODEL_NAME)
    static_site.add_page(directory, load(endless_directory), "endless")
    return directory


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if not executable:
        pytest.skip("needs Chromium")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    arguments += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    sync_api.expect.set_options(timeout=30_000)
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def tab(browser: Any) -> Iterator[tuple[Any, list[str]]]:
    """A page and its errors, shared because opening a page takes longer than most tests.

    It keeps no service worker: each test of a module must see what the site sends.
    """
    context = browser.new_context(
        viewport=VIEWPORT,
        permissions=["clipboard-read", "clipboard-write"],
        service_workers="block",
    )
    page = context.new_page()
    yield page, watch_errors(page)
    context.close()


@pytest.fixture
def page(tab: tuple[Any, list[str]]) -> Iterator[Any]:
    """An empty page; the test fails if a script fails, or if the page breaks its own policy."""
    page, errors = tab
    yield page
    page.goto("about:blank")
    page.unroute_all(behavior="wait")
    page.context.unroute_all(behavior="wait")
    page.set_viewport_size(VIEWPORT)
    page.mouse.move(0, 0)
    found = [*errors]
    errors.clear()
    assert found == []


def build() -> Path:
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("needs cmake and a C++ compiler")
    build = ROOT / "build" / "cpp"
    build.mkdir(parents=True, exist_ok=True)
    configure = ["cmake", "-S", "bridge/cpp", "-B", build, f"-DPython3_EXECUTABLE={sys.executable}"]
    options: Any = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300}
    with FileLock(build / "lock"):  # every test process builds into the same directory
        done = subprocess.run(configure, **options)
        if done.returncode:  # for example a libtorch for CUDA on a machine without the toolkit
            pytest.skip(f"cmake cannot configure: {done.stderr}")
        command = ["cmake", "--build", build, "--target", "valyrian-generate"]
        done = subprocess.run(command, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return build / "valyrian-generate"
