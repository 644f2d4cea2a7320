"""valyrian-generate gives the tokens and the text of Python."""

import json
import os
import random
import subprocess
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bridge import torchscript
from bridge.parity_runtimes import SAMPLER_SETTINGS
from bridge.torchscript import EXAMPLE_SETTINGS
from tests.artifacts.make import PROMPT
from valyrian_jax import __version__
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.bundle.shipped_model import EXAMPLE_OPTIONS
from valyrian_jax.bundle.text_generation import NOT_FINITE

pytestmark = pytest.mark.slow

OLD_FILE = Path(__file__).parents[1] / "artifacts/0.1.0/model.pt"
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def run(program: Path) -> Run:
    """A function that runs the program with some arguments."""

    def run(*arguments: Any, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [program, *(arg if isinstance(arg, bytes) else str(arg) for arg in arguments)]
        return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)

    return run


@pytest.mark.parametrize("settings", EXAMPLE_SETTINGS, ids=str)
def test_tokens_equal_those_of_the_module(
    run: Run, file: Path, script: Any, small: Bundle, settings: tuple[Any, ...]
) -> None:
    prompts = ["", "the dragon", "Ȳdra daor 🐉", "wolf " * 40]
    names = [name.replace("_", "-") for name in SAMPLER_SETTINGS[: len(settings)]]
    options = [f"--{name}={value}" for name, value in zip(names, settings, strict=True)]
    arguments = ("--prompts", "-", "--ids", "--max-new-tokens", 50, *options)
    done = run(file, *arguments, stdin="\n".join(prompts).encode())
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(prompts)
    for prompt, line in zip(prompts, lines, strict=True):
        start = small.tokenizer.encode(prompt) or [small.tokenizer.end_of_text]
        expected = script.generate(torch.tensor([start]), 50, *settings)[0, len(start) :]
        assert [int(i) for i in line.split()] == expected.tolist()


@pytest.mark.parametrize(
    "stop", [["e"], ["never there"], ["he", "the"], ["er", "e", " dra"], ["\ufffd"], ["wolf "]]
)
def test_a_text_ends_before_a_stop_string_as_in_the_module(
    run: Run, file: Path, script: Any, stop: list[str]
) -> None:
    options = ["--max-new-tokens", 60, "--temperature", 1.2, "--top-p", 1, "--num-samples", 4]
    prompts = ["the wolf ", "Ȳdra 🐉"]
    expected = "".join(
        f"[seed {seed}] {script.generate_text(prompt, 60, 1.2, 0, 1.0, seed, stop=stop)}\n"
        for prompt in prompts
        for seed in range(4)
    )
    stops = [option for text in stop for option in ("--stop", text)]
    options += ["--prompts", "-", "--seed", 0, *stops]
    done = run(file, *options, stdin="\n".join(prompts).encode())
    assert (done.returncode, done.stdout.decode()) == (0, expected), done.stderr


def test_a_file_of_an_older_version_is_named_where_it_lacks_a_setting(run: Run) -> None:
    done = run(OLD_FILE, "--prompt", "the", "--max-new-tokens", 5)
    assert done.returncode == 0, done.stderr
    for options in ("--min-p 0.1", "--repetition-penalty 1.2", "--min-new-tokens 3", "--stop e"):
        done = run(OLD_FILE, "--prompt", "the", *options.split())
        assert (done.returncode, done.stdout) == (2, b""), options
        assert done.stderr.decode().endswith("found an older one; export the bundle again\n")


def test_text_equals_that_of_the_module(run: Run, file: Path, script: Any) -> None:
    options = ["--max-new-tokens", 40, "--temperature", 1.2, "--top-p", 1, "--num-samples", 3]
    prompts = ["", "the dragon", "Ȳdra daor 🐉", "they're  \t", "x" * 90]
    options += ["--prompts", "-", "--seed", 7]
    done = run(file, *options, stdin="\n".join(prompts).encode())
    expected = "".join(
        f"[seed {seed}] {script.generate_text(prompt, 40, 1.2, 0, 1.0, seed)}\n"
        for prompt in prompts
        for seed in range(7, 10)
    )
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, expected, b"")


def test_settings_default_to_those_in_the_file(run: Run, file: Path, script: Any) -> None:
    expected = script.generate_text("the", *script.defaults())
    assert run(file, "--prompt", "the").stdout.decode() == expected + "\n"


def test_malformed_utf8_in_a_prompt_is_replaced_as_in_python(
    run: Run, file: Path, script: Any
) -> None:
    prompt = b"ab\xff\xe2\x82 c"
    done = run(file, "--max-new-tokens", 40, "--temperature", 1, "--prompt", prompt)
    assert done.returncode == 0
    replaced = prompt.decode("utf-8", "replace")
    assert done.stdout.decode() == script.generate_text(replaced, 40, 1.0, 0, 0.95, 0) + "\n"


def test_each_sample_uses_the_next_seed(run: Run, file: Path, script: Any) -> None:
    largest = 2**32 - 1
    seeds = ("--seed", largest, "--num-samples", 2)
    done = run(file, "--prompt", "the", *seeds, "--max-new-tokens", 9, "--temperature", 1)
    expected = [script.generate_text("the", 9, 1.0, 0, 0.95, seed) for seed in (largest, 0)]
    assert done.stdout.decode() == f"[seed {largest}] {expected[0]}\n[seed 0] {expected[1]}\n"


def test_lines_of_prompts_can_end_as_on_windows(run: Run, file: Path, script: Any) -> None:
    done = run(file, "--max-new-tokens", 9, "--prompts", "-", stdin=b"the\r\nwolf\r\n")
    settings = script.defaults()[1:5]
    expected = [script.generate_text(prompt, 9, *settings) for prompt in ("the", "wolf")]
    assert done.stdout.decode().splitlines() == "\n".join(expected).splitlines()


def test_a_full_disk_is_an_error(program: Path, file: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [program, file], stdout=full, stderr=subprocess.PIPE, check=False, timeout=60
        )
    assert (done.returncode, done.stderr) == (2, b"error: cannot write to standard output\n")


def test_the_version_is_that_of_the_package(run: Run) -> None:
    done = run("--version")
    assert (done.returncode, done.stdout.decode()) == (0, f"valyrian-gpt {__version__}\n")


def test_help_shows_an_example(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    example = f"Example: valyrian-generate valyrian.pt {EXAMPLE_OPTIONS}".encode()
    assert example in done.stdout


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_user_errors_end_in_one_line_and_status_2(run: Run, file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no model")
    (tmp_path / "empty.pt").write_text("")
    os.mkfifo(tmp_path / "fifo.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "linear.pt"))
    errors: list[tuple[list[Any], str]] = [
        ([tmp_path / "none.pt"], "cannot read"),
        ([tmp_path], "cannot read"),
        ([tmp_path / "fifo.pt"], "cannot read"),
        ([tmp_path / "text.pt"], "is damaged or not a TorchScript file"),
        ([tmp_path / "empty.pt"], "is damaged or not a TorchScript file"),
        ([tmp_path / "linear.pt"], "is a TorchScript file without text generation; expected a"),
        ([file, "--threads", 2], "unknown option --threads"),  # an option of valyrian-run only
        ([file, "--seed", "1.5"], "--seed is '1.5', expected a whole number"),
        ([file, "--prompts", tmp_path], "cannot read"),
        ([file, "--prompts", tmp_path / "none.txt"], "cannot read"),
    ]
    with ThreadPoolExecutor(2) as pool:  # Most of the time, the processes start.
        results = list(pool.map(lambda error: run(*error[0]), errors))
    for (arguments, words), done in zip(errors, results, strict=True):
        message = done.stderr.decode()
        assert (done.returncode, done.stdout) == (2, b""), (arguments, message)
        assert message.startswith("error: ")
        assert message.count("\n") == 1
        assert words in message


def test_a_damaged_file_writes_no_text(run: Run, file: Path, tmp_path: Path) -> None:
    data, draw = file.read_bytes(), random.Random(0)
    expected = run(file, "--max-new-tokens", 9).stdout
    paths = []
    for number in range(8):
        damaged = bytearray(data)
        start, length = draw.randrange(len(data)), draw.choice([1, 64, 4096])
        damaged[start : start + length] = draw.randbytes(len(damaged[start : start + length]))
        paths.append(tmp_path / f"{number}.pt")
        paths[-1].write_bytes(damaged if number % 4 else damaged[:start])
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda path: run(path, "--max-new-tokens", 9), paths))
    for done in results:
        if done.returncode == 0:  # The damage is in the padding between two members.
            assert done.stdout == expected
        else:
            assert (done.returncode, done.stdout) == (2, b"")
            assert b"is damaged or not a TorchScript file: " in done.stderr
            assert done.stderr.count(b"\n") == 1
    assert sum(b"does not match its checksum" in done.stderr for done in results) >= 4


def test_a_changed_weight_writes_no_text(run: Run, file: Path, tmp_path: Path) -> None:
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        members = [m for m in archive.infolist() if "/data/" in m.filename]
        member = max(members, key=lambda member: member.file_size)
        position = data.index(archive.read(member))
    data[position + 3] ^= 1  # a bit of the first weight
    (tmp_path / "model.pt").write_bytes(data)
    done = run(tmp_path / "model.pt")
    assert (done.returncode, done.stdout) == (2, b"")
    assert f"{member.filename} does not match its checksum".encode() in done.stderr


def test_logits_that_are_not_finite_are_an_error(
    run: Run, small: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {name: tensor * np.float32(1e30) for name, tensor in small.tensors.items()}
    save_bundle(replace(small, tensors=tensors), tmp_path / "bundle")
    monkeypatch.setattr(torchscript, "generate_examples", lambda *_: [])
    torchscript.write(tmp_path / "bundle", tmp_path / "model.pt")
    for temperature in (0, 1):
        done = run(tmp_path / "model.pt", "--prompt", "the", "--temperature", temperature)
        assert (done.returncode, done.stdout) == (2, b"the")
        assert done.stderr.decode() == f"error: {NOT_FINITE}\n"


@pytest.mark.parametrize(
    "version", sorted((Path(__file__).parents[1] / "artifacts").glob("*/model.pt")), ids=str
)
def test_files_of_older_versions_give_the_same_text(run: Run, version: Path) -> None:
    expected = json.loads((version.parent / "expected.json").read_text(encoding="utf-8"))["text"]
    arguments = ("--max-new-tokens", 20, "--temperature", 0, "--prompt", PROMPT)
    assert run(version, *arguments).stdout.decode() == expected + "\n"
