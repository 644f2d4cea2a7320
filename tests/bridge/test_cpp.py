"""valyrian-generate: the tokens and the text of Python, from C++."""

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from bridge.torchscript import EXAMPLES
from valyrian_jax.bundle.bundle import Bundle

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def run(program: Path) -> Run:
    def run(*arguments: Any, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [program, *map(str, arguments)]
        return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)

    return run


def options(settings: tuple[float, int, float, int]) -> list[str]:
    names = ("temperature", "top-k", "top-p", "seed")
    return [f"--{name}={value}" for name, value in zip(names, settings, strict=True)]


@pytest.mark.parametrize("settings", EXAMPLES, ids=str)
def test_tokens_are_those_of_the_module(
    run: Run, file: Path, script: Any, small: Bundle, settings: tuple[float, int, float, int]
) -> None:
    prompts = ["", "the dragon", "Ȳdra daor 🐉", "wolf " * 40]
    done = run(
        file,
        "--prompts",
        "-",
        "--ids",
        "--max-new-tokens",
        50,
        *options(settings),
        stdin="\n".join(prompts).encode(),
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(prompts)
    for prompt, line in zip(prompts, lines, strict=True):
        start = small.tokenizer.encode(prompt) or [small.tokenizer.end_of_text]
        expected = script.generate(torch.tensor([start]), 50, *settings)[0, len(start) :]
        assert [int(i) for i in line.split()] == expected.tolist()


def test_text_is_that_of_the_module(run: Run, file: Path, script: Any) -> None:
    options = ["--max-new-tokens", 40, "--temperature", 1.2, "--top-p", 1, "--num-samples", 3]
    prompts = dict(enumerate(["", "the dragon", "Ȳdra daor 🐉", "they're  \t", "x" * 90]))
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(
            lambda i: run(file, "--prompt", prompts[i], "--seed", 3 * i, *options), prompts
        )
        for (first, prompt), done in zip(prompts.items(), found, strict=True):
            seeds = range(3 * first, 3 * first + 3)
            expected = "".join(
                f"[seed {s}] {script.generate_text(prompt, 40, 1.2, 0, 1.0, s)}\n" for s in seeds
            )
            assert (done.returncode, done.stdout.decode(), done.stderr) == (0, expected, b"")


def test_settings_not_given_are_those_of_the_file(run: Run, file: Path, script: Any) -> None:
    expected = script.generate_text("the", *script.defaults())
    assert run(file, "--prompt", "the").stdout.decode() == expected + "\n"


def test_a_prompt_that_is_no_utf8_is_replaced_as_python_replaces_it(
    run: Run, file: Path, script: Any
) -> None:
    prompt = b"ab\xff\xe2\x82 c"
    command = [*run(file).args[:2], "--max-new-tokens", "40", "--temperature", "1", "--prompt"]
    done = subprocess.run([*command, prompt], capture_output=True, check=True, timeout=60)
    replaced = prompt.decode("utf-8", "replace")
    assert done.stdout.decode() == script.generate_text(replaced, 40, 1.0, 0, 0.95, 0) + "\n"


def test_several_samples_draw_with_the_seeds_that_follow(run: Run, file: Path, script: Any) -> None:
    last = 2**32 - 1
    done = run(
        file,
        "--prompt",
        "the",
        "--seed",
        last,
        "--num-samples",
        2,
        "--max-new-tokens",
        9,
        "--temperature",
        1,
    )
    expected = [script.generate_text("the", 9, 1.0, 0, 0.95, seed) for seed in (last, 0)]
    assert done.stdout.decode() == f"[seed {last}] {expected[0]}\n[seed 0] {expected[1]}\n"


def test_lines_may_end_as_on_windows_and_a_full_disk_is_no_success(run: Run, file: Path) -> None:
    options = [file, "--max-new-tokens", 9, "--prompts", "-"]
    assert (
        run(*options, stdin=b"the\r\nwolf\r\n").stdout == run(*options, stdin=b"the\nwolf\n").stdout
    )
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            run(file).args[:2], stdout=full, stderr=subprocess.PIPE, check=False, timeout=60
        )
    assert (done.returncode, done.stderr) == (
        2,
        b"error: cannot write the text to standard output\n",
    )


def test_help_shows_an_example(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    assert (
        b'Example: valyrian-generate valyrian.pt --prompt "valar morghulis" --seed 7' in done.stdout
    )


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_mistakes_end_in_one_line_and_status_2(run: Run, file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no model")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "linear.pt"))
    mistakes: list[tuple[list[Any], str]] = [
        ([tmp_path / "none.pt"], "cannot read"),
        ([tmp_path], "is not a TorchScript file"),
        ([tmp_path / "text.pt"], "is not a TorchScript file"),
        ([tmp_path / "linear.pt"], "but not one that `python -m bridge export` wrote"),
        ([], "no model file given"),
        ([file, "other"], "more than one model file given: other"),
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
        ([file, "--prompts", "-", "--prompt", "a"], "not both"),
        ([file, "-xyz"], "unknown option -x"),
        ([file, "--prompts", tmp_path / "none.txt"], "cannot read"),
    ]
    with ThreadPoolExecutor(2) as pool:  # most of the time goes into starting the processes
        found = list(pool.map(lambda mistake: run(*mistake[0]), mistakes))
    for (arguments, words), done in zip(mistakes, found, strict=True):
        message = done.stderr.decode()
        assert (done.returncode, done.stdout) == (2, b""), (arguments, message)
        assert message.startswith("error: ")
        assert message.count("\n") == 1
        assert words in message
