"""The options of both C++ programs, which share `options.hpp`, are read as those of Python."""

import subprocess
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType

from bridge import __main__ as bridge_main
from bridge.gguf.writer import write_gguf
from tests.support.commands import call
from tests.support.native import build_native
from valyrian_jax.bundle.bundle import Bundle, save_bundle

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


def test_options_take_the_numbers_that_python_takes(
    small: Bundle,
    tmp_path: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory, file = tmp_path / "bundle", tmp_path / "model.gguf"
    save_bundle(small, directory)
    write_gguf(file, small, GGMLQuantizationType.F32, {"activation": small.model.activation})
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
