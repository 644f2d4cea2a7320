"""The plain Python blocks of the top README run as they stand, where it says that they run."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from valyrian_jax.bundle.bundle import Bundle

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
BLOCKED = "import sys\nfor name in ('valyrian_jax', 'bridge', 'jax'): sys.modules[name] = None\n"


@pytest.fixture
def place(directory: Path, file: Path, tmp_path: Path) -> Path:
    """A directory in which a run was trained and its model exported."""
    shutil.copytree(directory, tmp_path / "runs" / "first" / "bundle")
    shutil.copy(file, tmp_path / "valyrian.pt")
    return tmp_path


def block(mark: str) -> str:
    """The one block that holds the mark."""
    (found,) = [block for block in BLOCKS if mark in block]
    return found


def output(code: str, place: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_transformers_opens_the_bundle(place: Path, small: Bundle) -> None:
    facts = "print(model.num_parameters(), len(tokenizer), tokenizer('the wolf')['input_ids'])"
    expected = sum(tensor.size for tensor in small.tensors.values()), small.tokenizer.vocab_size
    found = output(f"{block('import AutoModelForCausalLM')}\n{facts}\n", place)
    assert found.strip() == f"{expected[0]} {expected[1]} {small.tokenizer.encode('the wolf')}"


def test_the_file_needs_only_torch(place: Path) -> None:
    text = output(BLOCKED + block('torch.jit.load("valyrian.pt")'), place)
    assert text.startswith("valar morghulis")
    assert len(text.strip()) > len("valar morghulis")
