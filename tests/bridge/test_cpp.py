"""valyrian-generate gives the tokens and the text of Python."""

import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from bridge.torchscript import EXAMPLE_SETTINGS
from valyrian_jax.bundle.bundle import Bundle

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
    run: Run, file: Path, script: Any, small: Bundle, settings: tuple[float, int, float, int]
) -> None:
    prompts = ["", "the dragon", "Ȳdra daor 🐉", "wolf " * 40]
    names = ("temperature", "top-k", "top-p", "seed")
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


def test_text_equals_that_of_the_module(run: Run, file: Path, script: Any) -> None:
    options = ["--max-new-tokens", 40, "--temperature", 1.2, "--top-p", 1, "--num-samples", 3]
    prompts = dict(enumerate(["", "the dragon", "Ȳdra daor 🐉", "they're  \t", "x" * 90]))

    def continue_prompt(i: int) -> subprocess.CompletedProcess[bytes]:
        return run(file, "--prompt", prompts[i], "--seed", 3 * i, *options)

    with ThreadPoolExecutor(2) as pool:
        for i, done in zip(prompts, pool.map(continue_prompt, prompts), strict=True):
            expected = "".join(
                f"[seed {seed}] {script.generate_text(prompts[i], 40, 1.2, 0, 1.0, seed)}\n"
                for seed in range(3 * i, 3 * i + 3)
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


def test_lines_of_prompts_can_end_as_on_windows(run: Run, file: Path) -> None:
    options = [file, "--max-new-tokens", 9, "--prompts", "-"]
    expected = run(*options, stdin=b"the\nwolf\n").stdout
    assert run(*options, stdin=b"the\r\nwolf\r\n").stdout == expected


def test_a_full_disk_is_an_error(program: Path, file: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [program, file], stdout=full, stderr=subprocess.PIPE, check=False, timeout=60
        )
    assert (done.returncode, done.stderr) == (2, b"error: cannot write to standard output\n")


def test_help_shows_an_example(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    example = b'Example: valyrian-generate valyrian.pt --prompt "valar morghulis" --seed 7'
    assert example in done.stdout


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_user_errors_end_in_one_line_and_status_2(run: Run, file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no model")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "linear.pt"))
    os.mkfifo(tmp_path / "fifo")
    errors: list[tuple[list[Any], str]] = [
        ([tmp_path / "none.pt"], "cannot read"),
        ([tmp_path], "cannot read"),
        ([tmp_path / "fifo"], "cannot read"),
        ([tmp_path / "text.pt"], "is not a TorchScript file"),
        ([tmp_path / "linear.pt"], "is a TorchScript file without text generation; expected a"),
        ([], "no model file"),
        ([file, "other"], "more than one model file: other"),
        ([file, "--sed", 1, "--s", 2], "unknown option --sed"),
        ([file, "--seed"], "--seed needs a value"),
        ([file, "--seed", "-1"], "--seed is '-1'"),
        ([file, "--seed", 2**32], "--seed is '4294967296'"),
        ([file, "--seed", "1.5"], "--seed is '1.5', expected a whole number"),
        ([file, "--temperature", "hot"], "--temperature is 'hot'"),
        ([file, "--temperature", "nan"], "--temperature is 'nan'"),
        ([file, "--temperature", "0.0001"], "--temperature is '0.0001'"),
        ([file, "--top-p", 0], "--top-p is '0'"),
        ([file, "--top-k", -3], "--top-k is '-3'"),
        ([file, "--max-new-tokens", 0], "--max-new-tokens is '0'"),
        (
            [file, "--num-samples", "many"],
            "--num-samples is 'many', expected a whole number from 1 to 1000000000",
        ),
        ([file, "--prompts", tmp_path], "cannot read"),
        ([file, "--prompts", "-", "--prompt", "a"], "--prompt and --prompts cannot be combined"),
        ([file, "-xyz"], "unknown option -x"),
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
