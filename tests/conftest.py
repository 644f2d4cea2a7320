"""Run the tests on one CPU backend, offline and with repeatable inputs, and share their texts."""

import gc
import os
import random
import signal
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.tiny import WORDS

# A shell starts background jobs with SIGINT ignored; the tests need it as in a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.pop("WANDB_API_KEY", None)
os.environ.pop("WANDB_MODE", None)
os.environ["NETRC"] = os.devnull
for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):  # rich reads them
    os.environ.pop(name, None)
# Compile a program that several tests need only once. The workers of xdist inherit the directory.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="jax-cache-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# PyTorch's threads spin while they wait for one another, and every core already runs a test. The
# commands, servers and C++ programs that tests start inherit this.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

settings.register_profile("repeatable", deadline=None, derandomize=True, print_blob=False)
settings.load_profile("repeatable")

ROOT = Path(__file__).parent.parent
TIERS = {
    "slow": "tests that take seconds each: builds, browsers, walks, every combination of settings",
    "long": "tests that take about a minute each and repeat at length what others show",
}
# They need the extra [bench], whose stores and schedulers take minutes to install.
collect_ignore = [
    file
    for file, package in (("files/test_remote.py", "moto"), ("data/shards/test_dask.py", "dask"))
    if find_spec(package) is None
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--gpu", action="store_true", help="run only the tests that need an NVIDIA GPU"
    )
    for name, description in TIERS.items():
        parser.addoption(f"--{name}", action="store_true", help=f"run also {description}")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs an NVIDIA GPU; runs with --gpu only")
    for name, description in TIERS.items():
        config.addinivalue_line("markers", f"{name}: {description}; needs --{name}")
    # JAX tests spend most of their time compiling. Without optimisation, and with the CPU emitters
    # that XLA had before JAX 0.11, compilation takes a third of the time. On a GPU, XLA takes the
    # first kernel instead of the fastest. The operations are the same. The programs that `.ci/run`
    # runs at its end are compiled as usual.
    if config.getoption("--gpu"):
        os.environ["JAX_PLATFORMS"] = "cuda,cpu"
        flags = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
    else:
        os.environ["JAX_PLATFORMS"] = "cpu"
        flags = "--xla_backend_optimization_level=0"
        if version("jax").split(".")[:2] == ["0", "10"]:
            flags += " --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    on_gpu = bool(config.getoption("--gpu"))
    left_out = {name for name in TIERS if not config.getoption(f"--{name}")}

    def is_selected(item: pytest.Item) -> bool:
        return ("gpu" in item.keywords) == on_gpu and left_out.isdisjoint(item.keywords)

    config.hook.pytest_deselected(items=[item for item in items if not is_selected(item)])
    items[:] = [item for item in items if is_selected(item)]


def pytest_collection_finish() -> None:
    gc.freeze()  # Modules and tests live to the end; looking at them again takes 4% of the time.


@pytest.fixture(scope="session")
def valyrian() -> str:
    """The beginning of the shipped corpus, in whole paragraphs."""
    text = (ROOT / "data" / "High Valyrian.txt").read_text(encoding="utf-8")
    return text[: text.rindex("\n\n", 0, 400_000)] + "\n"


@pytest.fixture(scope="session")
def sources() -> str:
    """The source files of this project, a text with code, indents and symbols."""
    files = sorted((ROOT / "valyrian_jax").rglob("*.py")) + sorted((ROOT / "tests").rglob("*.py"))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


@pytest.fixture(scope="session")
def small_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 60 paragraphs of random but repetitive English words, quick to train on."""
    words = WORDS.split()
    draw = random.Random(0)
    paragraphs = [
        " ".join(" ".join(draw.choices(words, k=6)).capitalize() + "." for _ in range(4))
        for _ in range(60)
    ]
    path = tmp_path_factory.mktemp("text") / "small.txt"
    path.write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
    return path
