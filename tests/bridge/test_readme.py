"""The Python blocks of the README run as they are."""

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
def home(directory: Path, file: Path, tmp_path: Path) -> Path:
    """A directory with a trained run and its exported file."""
    shutil.copytree(directory, tmp_path / "runs" / "first" / "bundle")
    shutil.copy(file, tmp_path / "valyrian.pt")
    return tmp_path


def find_block(code: str) -> str:
    """Return the only block that contains some code."""
    (block,) = [block for block in BLOCKS if code in block]
    return block


def run(code: str, home: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_model_is_used_from_python(home: Path) -> None:
    text, bits = run(find_block("vx.load()"), home).strip().rsplit("\n", 1)
    assert text.startswith("Sīr vali")
    assert float(bits) > 0


def test_transformers_opens_the_bundle(home: Path, small: Bundle) -> None:
    facts = "print(model.num_parameters(), len(tokenizer), tokenizer('the wolf')['input_ids'])"
    output = run(f"{find_block('import AutoModelForCausalLM')}\n{facts}\n", home)
    count = sum(tensor.size for tensor in small.tensors.values())
    tokenizer = small.tokenizer
    assert output.strip() == f"{count} {tokenizer.vocab_size} {tokenizer.encode('the wolf')}"


def test_the_file_needs_only_torch(home: Path) -> None:
    text = run(BLOCKED + find_block('torch.jit.load("valyrian.pt")'), home)
    assert text.startswith("Valar morghūlis")
    assert len(text.strip()) > len("Valar morghūlis")
