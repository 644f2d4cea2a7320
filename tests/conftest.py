"""What all tests share: the CPU, quiet logs, no way out to a tracker, and texts to work on."""

import os
import random
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import settings

from valyrian_jax.data.corpus_entropy import GeneratedCorpus, generate_corpus

signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # as in a terminal: a shell's background jobs ignore it
os.environ.pop("WANDB_API_KEY", None)
os.environ.pop("WANDB_MODE", None)
os.environ["NETRC"] = os.devnull
for wish in (
    "FORCE_COLOR",
    "NO_COLOR",
    "TTY_COMPATIBLE",
):  # of whoever starts the tests: rich would follow it
    os.environ.pop(wish, None)
# Programs that several tests compile are compiled once.
_compiled = tempfile.TemporaryDirectory(prefix="jax-cache-")  # goes when the tests end
os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

settings.register_profile("repeatable", deadline=None, derandomize=True, print_blob=False)
settings.load_profile("repeatable")

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--gpu", action="store_true", help="run the tests that need an NVIDIA GPU, and only them"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs an NVIDIA GPU; runs with --gpu only")
    # Compiling is most of what tests of JAX do. Machine code of a lower quality, from the generator that XLA had before
    # JAX 0.11, is compiled in a third of the time; on a GPU the first kernel is taken instead of the fastest. The
    # operations are the same, and what `.ci/run` trains, verifies and samples at its end is compiled as usual.
    if config.getoption("--gpu"):
        os.environ["JAX_PLATFORMS"] = "cuda,cpu"
        quick = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
    else:
        os.environ["JAX_PLATFORMS"] = "cpu"
        quick = "--xla_backend_optimization_level=0"
        if version("jax").split(".")[:2] == ["0", "10"]:
            quick += " --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {quick}".strip()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = bool(config.getoption("--gpu"))
    config.hook.pytest_deselected(
        items=[item for item in items if ("gpu" in item.keywords) != wanted]
    )
    items[:] = [item for item in items if ("gpu" in item.keywords) == wanted]


WORDS = """the a red blue dragon wolf king queen sees hears loves eats sleeps and but in under city river
seventeen mountains quickly jumped beyond wooden harbours yesterday"""


@pytest.fixture(scope="session", autouse=True)
def generated_anew(request: pytest.FixtureRequest) -> Iterator[Future[GeneratedCorpus] | None]:
    """The shipped corpus from the generator, in a process that works beside the first tests if a later one needs it."""
    if not any(
        "corpus_again" in getattr(item, "fixturenames", ()) for item in request.session.items
    ):
        yield None
        return
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool.submit(generate_corpus, 62_000, seed=1, exact=0)


@pytest.fixture(scope="session")
def corpus_again(generated_anew: Future[GeneratedCorpus]) -> GeneratedCorpus:
    """What `python -m valyrian_jax corpus` writes."""
    return generated_anew.result()


@pytest.fixture(scope="session")
def valyrian() -> str:
    """The beginning of the shipped corpus, in whole texts."""
    text = (ROOT / "data" / "High Valyrian.txt").read_text(encoding="utf-8")
    return text[: text.rindex("\n\n", 0, 400_000)] + "\n"


@pytest.fixture(scope="session")
def sources() -> str:
    """This project's own source files, as a text with code, indents and symbols."""
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
