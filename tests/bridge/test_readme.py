"""The Python blocks of the README run as they are, and so do those of the bridge's."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bridge.web import protocol, request, text_queue
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


@pytest.fixture
def home(directory: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a trained run and its exported file."""
    shutil.copytree(directory, tmp_path / "runs" / "first" / "bundle")
    shutil.copy(file, tmp_path / "valyrian.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def find_block(code: str, blocks: list[str] = BLOCKS) -> str:
    """Return the only block that contains some code."""
    (block,) = [block for block in blocks if code in block]
    return block


def run(code: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, Any]]:
    """Run code; return what it prints, and its variables."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, "README.md", "exec"), namespace)
    return capsys.readouterr().out, namespace


def test_a_model_is_used_from_python(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, _ = run(find_block("vx.load()"), capsys)
    text, bits = output.strip().rsplit("\n", 1)
    assert text.startswith("Sīr vali")
    assert float(bits) > 0


def test_transformers_opens_the_bundle(
    home: Path, small: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    _, variables = run(find_block("import AutoModelForCausalLM"), capsys)
    tokenizer = small.tokenizer
    assert len(variables["tokenizer"]) == tokenizer.vocab_size
    assert variables["tokenizer"]("the wolf")["input_ids"] == tokenizer.encode("the wolf")
    count = sum(tensor.size for tensor in small.tensors.values())
    assert variables["model"].num_parameters() == count


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_the_file_is_warmed_up_with_torch_alone(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("valyrian_jax", "bridge", "jax"):
        monkeypatch.setitem(sys.modules, name, None)
    is_profiling = torch._C._jit_set_profiling_mode(False)
    try:
        text, _ = run(find_block("_jit_set_profiling_mode", BRIDGE_BLOCKS), capsys)
    finally:
        torch._C._jit_set_profiling_mode(is_profiling)
    assert text.startswith("Sīr vali")


def test_the_client_of_openai_gets_a_text(
    endless_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = find_block("from openai import", BRIDGE_BLOCKS)
    with start_server(endless_directory, "--name", "valyrian") as server:
        text, variables = run(code.replace("http://127.0.0.1:8000/", server.url), capsys)
        variables["client"].close()
    assert text.strip()


@pytest.mark.parametrize(
    "words",
    [
        f"| prompt | {request.MAX_PROMPT_CHARACTERS:,} characters or token ids |",
        f"| new tokens of a text | {request.MAX_NEW_TOKENS:,} |",
        f"| time of a text | {text_queue.MAX_SECONDS:.0f} s |",
        f"| {request.MAX_BODY_BYTES:,} bytes, which arrive within {protocol.BODY_TIMEOUT:.0f} s |",
        f"| requests whose texts are generated at a time | {text_queue.MAX_TEXTS} |",
        (
            f"| {max(256, text_queue.MAX_WAITING)}, for up to "
            f"{text_queue.PLACE_TIMEOUT:.0f} s; then 503"
        ),
        f"| loses its place after {protocol.READ_TIMEOUT:.0f} s |",
        f"at most {MAX_TEXTS} texts in all",
        f"up to {request.MAX_STOP_STRINGS} of at most {request.MAX_STOP_CHARACTERS} characters",
        f"| `logprobs` | up to {MAX_LOGPROBS};",
    ],
)
def test_the_limits_are_those_of_the_server(words: str) -> None:
    assert words in SERVER  # except that fewer requests wait where descriptors are few
