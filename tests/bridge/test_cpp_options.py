"""The options of both C++ programs, which share `options.hpp`, are read as those of Python."""

import subprocess
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType

from bridge import __main__ as bridge_main
from bridge.gguf.writer import write_gguf
from tests.support.commands import call
from tests.support.native import build_native
from valyrian_jax.bundle.bundle import Bundle

pytestmark = pytest.mark.slow

NUMBERS = {
    "--seed": (
        ["7", "+7", " 7\t", "007", "1_0", "-0", "4294967295"],
        [
            "1e3",
            "0x10",
            "7abc",
            "7.0",
            "",
            "4294967296",
            "_7",
            "7_",
            "1__0",
            "+-7",
            "1 2",
            "inf",
            "-1",
        ],
    ),
    "--temperature": (
        ["1", "+1", " .5", "1.", "1e-1", "1E+0", "1_0e-1", "-0.0", "0001.5", "0.001", "1e308"],
        ["0x1p3", "1e", ".", "e5", "inf", "nan", "-Infinity", "1e400", "1,5", "0.0001", "-1", "1f"],
    ),
    "--top-p": (["1e-320", "5e-324", "2", "0.9_5"], ["0", "-0.0", "1e-400", "-1", "nan", "inf"]),
    "--top-k": (["2147483647", "0"], ["2147483648", "9" * 30, "9" * 5000, "3.0"]),
    "--min-p": (["0", "1", "0.5"], ["-0.1", "1.1", "nan"]),
    "--repetition-penalty": (["0.001", "1e3", "1"], ["0", "1001", "-1"]),
    "--min-new-tokens": (["0", "3"], ["-1", "1.0"]),
    "--max-new-tokens": (["1"], ["0", "2147483648", "1e1"]),
    "--num-samples": (["2"], ["0", "2147483648", "1.0"]),
}


# The same in both programs, except for the name of a model file.
ERRORS = [
    ([], "no model file"),
    (["{file}", "other"], "more than one model file: other"),
    (["{file}", "--sed", "1", "--s", "2"], "unknown option --sed"),
    (["{file}", "--see", "1"], "unknown option --see"),
    (["{file}", "--ids=1"], "unknown option --ids=1"),
    (["{file}", "-xyz"], "unknown option -x"),
    (["{file}", "--seed"], "--seed needs a value"),
    (["{file}", "--seed", "1.5"], "--seed is '1.5', expected a whole number"),
    (["{file}", "--seed", "4294967296"], "--seed is '4294967296', expected"),
    (["{file}", "--temperature", "hot"], "--temperature is 'hot', expected 0 or a number"),
    (["{file}", "--temperature", "0.0001"], "--temperature is '0.0001', expected 0 or"),
    (["{file}", "--top-p", "0"], "--top-p is '0', expected a number above 0"),
    (["{file}", "--top-k", "1.5"], "--top-k is '1.5', expected a whole number"),
    (["{file}", "--top-k", "1__0"], "--top-k is '1__0', expected a whole number"),
    (
        ["{file}", "--num-samples", "many"],
        "--num-samples is 'many', expected a whole number from 1 to 2147483647",
    ),
    (["{file}", "--stop="], "--stop is '', expected at least one character"),
    (["{file}", "--stop", ""], "--stop is '', expected at least one character"),
    (["{file}", "--stop"], "--stop needs a value"),
    (["{file}", "--ids", "--stop", "a"], "--ids and --stop cannot be combined"),
    (["{file}", "--prompts", "-", "--prompt", "a"], "--prompt and --prompts cannot be combined"),
]


@pytest.fixture(scope="module")
def file(small: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "model.gguf"
    write_gguf(path, small, GGMLQuantizationType.F32, {"activation": small.model.activation})
    return path


@pytest.mark.parametrize(("arguments", "message"), ERRORS, ids=str)
def test_wrong_options_end_in_one_line_and_status_2(
    file: Path, arguments: list[str], message: str
) -> None:
    program = build_native() / "valyrian-run"
    command = [program, *(argument.replace("{file}", str(file)) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_options_take_the_numbers_that_python_takes(
    directory: Path,
    file: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = build_native() / "valyrian-run"
    cases = [
        (f"{name}={text}", is_number)
        for name, texts in NUMBERS.items()
        for is_number, group in ((True, texts[0]), (False, texts[1]))
        for text in group
    ]
    short = ("--max-new-tokens", 2)
    for option, is_number in cases:
        command = [program, file, *map(str, short), option]
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        arguments = ("generate", directory, *short, option)
        status, text, _ = call(bridge_main.main, capsysbinary, monkeypatch, *arguments)
        assert (status == 0) == is_number, option
        assert done.returncode == status, (option, done.stderr)
        if is_number:
            assert done.stdout == text, option
