"""What all tests share: the CPU, quiet logs, no way out to a tracker, and texts to work on."""

import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.pop("WANDB_API_KEY", None)
os.environ["NETRC"] = os.devnull
# Programs that several tests compile are compiled once.
_compiled = tempfile.TemporaryDirectory(prefix="jax-cache-")  # goes when the tests end
os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

settings.register_profile("repeatable", deadline=None, derandomize=True, print_blob=False)
settings.load_profile("repeatable")

ROOT = Path(__file__).parent.parent
WORDS = """the a red blue dragon wolf king queen sees hears loves eats sleeps and but in under city river
seventeen mountains quickly jumped beyond wooden harbours yesterday"""


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
    paragraphs = [" ".join(" ".join(draw.choices(words, k=6)).capitalize() + "." for _ in range(4)) for _ in range(60)]
    path = tmp_path_factory.mktemp("text") / "small.txt"
    path.write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
    return path
