"""The Python blocks of the README run as they are, and so do those of the bridge's."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bridge.web import protocol, request, text_line
from bridge.web.completion_request import MAX_LOGPROBS
from tests.support.serving import start_server
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.memory import MAX_TEXTS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
BRIDGE = (ROOT / "bridge" / "README.md").read_text(encoding="utf-8")
BRIDGE_BLOCKS = re.findall(r"^```\w*\n(.*?)^```$", BRIDGE, re.MULTILINE | re.DOTALL)
SERVER = BRIDGE.partition("\n## The server\n")[2]
BLOCKED = "import sys\nfor name in ('valyrian_jax', 'bridge', 'jax'): sys.modules[name] = None\n"


@pytest.fixture
def home(directory: Path, file: Path, tmp_path: Path) -> Path:
    """A directory with a trained run and its exported file."""
    shutil.copytree(directory, tmp_path / "runs" / "first" / "bundle")
    shutil.copy(file, tmp_path / "valyrian.pt")
    return tmp_path


def find_block(code: str, blocks: list[str] = BLOCKS) -> str:
    """Return the only block that contains some code."""
    (block,) = [block for block in blocks if code in block]
    return block


def run(code: str, home: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore:.*torch.jit", "-c", code, *arguments],
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
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


def test_the_file_is_warmed_up_with_torch_alone(home: Path) -> None:
    text = run(BLOCKED + find_block("_jit_set_profiling_mode", BRIDGE_BLOCKS), home)
    assert text.startswith("Sīr vali")


def test_the_client_of_openai_gets_a_text(endless_directory: Path, tmp_path: Path) -> None:
    code = find_block("from openai import", BRIDGE_BLOCKS)
    with start_server(endless_directory, "--name", "valyrian") as server:
        assert run(code.replace("http://127.0.0.1:8000/", server.url), tmp_path).strip()


def test_the_packages_of_the_side_of_pytorch_are_enough(home: Path) -> None:
    """All other packages that the project requires are blocked."""
    words = find_block("--no-deps", BRIDGE_BLOCKS).replace("typing-extensions", "").split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[^\w-]", package)[0] for package in project["dependencies"]]
    blocked = {name for name in names if name not in words}
    assert {"flax", "jax", "matplotlib", "wandb"} <= blocked
    assert {*project["optional-dependencies"]["bridge"]} - {"typing-extensions"} <= {*words}
    modules = {"pillow": "PIL", "orbax-checkpoint": "orbax"}
    code = f"""import sys
for name in {sorted(modules.get(name, name) for name in blocked)}: sys.modules[name] = None
import bridge.web.server, bridge.torchscript, bridge.importers.gpt2
from bridge.__main__ import run
run()"""
    text = run(code, home, "generate", "runs/first/bundle", "--prompt", "the wolf")
    assert text.startswith("the wolf")


@pytest.mark.parametrize(
    "words",
    [
        f"| prompt | {request.MAX_PROMPT_CHARACTERS:,} characters or token ids |",
        f"| new tokens of a text | {request.MAX_NEW_TOKENS:,} |",
        f"| time of a text | {text_line.MAX_SECONDS:.0f} s |",
        f"| {request.MAX_BODY_BYTES:,} bytes, which arrive within {protocol.BODY_TIMEOUT:.0f} s |",
        f"| requests whose texts are generated at a time | {text_line.MAX_TEXTS} |",
        f"| {max(256, text_line.MAX_WAITING)}, for up to {text_line.PLACE_TIMEOUT:.0f} s; then 503",
        f"| loses its place after {protocol.READ_TIMEOUT:.0f} s |",
        f"at most {MAX_TEXTS} texts in all",
        f"up to {request.MAX_STOP_STRINGS} of at most {request.MAX_STOP_CHARACTERS} characters",
        f"| `logprobs` | up to {MAX_LOGPROBS};",
    ],
)
def test_the_limits_are_those_of_the_server(words: str) -> None:
    assert words in SERVER  # except that fewer requests wait where descriptors are few
