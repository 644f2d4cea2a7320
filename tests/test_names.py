"""Names with control characters or bytes that are not UTF-8 work, and never reach the terminal."""

import json
import os
import subprocess
from pathlib import Path

import click
import pytest
from rich.console import Console

import train
from bridge import __main__ as bridge_program
from tests.support.commands import call
from tests.support.runs import make_text_console, read_console
from tests.support.targets import make_bundle_files, make_metrics_files
from valyrian_jax.cli.main import main
from valyrian_jax.config import Config
from valyrian_jax.errors import escape, quote_argument
from valyrian_jax.files import name_in_utf8
from valyrian_jax.run_directory import save_config
from valyrian_jax.tokenizer.display import to_json
from valyrian_jax.training.console import print_summary
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.run import resume_hint

NAMES = {
    "escape": "\x1b]0;title\x07\x1b[31m",
    "C1": "\x9b31m",
    "latin": "caf\udce9",
    "newline": "a\nb\r",
    "direction": "\u202egnp.exe",
}


def assert_printable(output: str) -> None:
    assert output.endswith("\n")
    assert all(line.isprintable() for line in output.splitlines() if "\r" not in line)
    assert not {"\x1b", "\x9b", "\r", "\x07"} & {*output}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_shell_reads_the_quoted_argument_as_the_name(name: str) -> None:
    quoted = quote_argument(f"{name}/it's \\n")
    assert quoted.isprintable()
    output = subprocess.run(
        ["bash", "-c", b"printf %s " + os.fsencode(quoted)], capture_output=True, check=True
    )
    assert output.stdout == os.fsencode(f"{name}/it's \\n")


def test_printable_text_is_not_escaped() -> None:
    assert escape("Ȳdra daor 'x' 🐉 \\n") == "Ȳdra daor 'x' 🐉 \\n"
    assert escape("caf\udce9\x1b\x9b\u202e") == r"caf\xe9\x1b\x9b\u202e"


def test_json_is_printable_and_means_the_same() -> None:
    value = {"a\x9b\x7f": "\x1b\u2028\U000e0001 Ȳ\\ \n"}
    assert to_json(value).isprintable()
    assert "Ȳ" in to_json(value)
    assert json.loads(to_json(value)) == value


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (main, ["corpus", "--sentences", "2", "-o", "NAME/out"]),
        (main, ["tokenizer", "train", "NAME/text.txt", "--vocab-size", "258", "-o", "NAME/out"]),
        (main, ["tokenizer", "encode", "NAME/tokenizer.json", "NAME/text.txt", "--out", "NAME/s"]),
        (main, ["plot", "NAME"]),
        (main, ["plot", "NAME/none"]),
        (main, ["sample", "NAME/none"]),
        (main, ["check", "--word", "--json", "NAME"]),
        (main, ["check", "--word", "NAME"]),
        (main, ["language", "--table", "NAME"]),
        (main, ["gloss", "vala NAME"]),
        (main, ["word", "NAME"]),
        (main, ["word", "--json", "NAME"]),
        (bridge_program.main, ["check", "NAME/model.pt"]),
        (bridge_program.main, ["check", "NAME/model.pt2"]),
        (bridge_program.main, ["import", "NAME", "-o", "NAME/out"]),
        (bridge_program.main, ["serve", "NAME", "--host", "NAME"]),
        (train.main, ["--resume", "NAME/none"]),
        (train.main, ["--data.path", "NAME/none"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_print_names_as_escapes(
    program: click.Command,
    arguments: list[str],
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = Path(name)
    directory.mkdir()
    for file, content in (make_bundle_files() | make_metrics_files()).items():
        (directory / file).write_bytes(content)
    (directory / "text.txt").write_text("abab abab.\n\n" * 40)
    for file in ("model.pt", "model.pt2"):
        (directory / file).write_text("no model")
    save_config(directory, Config())
    status, out, err = call(
        program, capsys, monkeypatch, *(part.replace("NAME", name) for part in arguments)
    )
    assert status in (0, 2, 3), err  # 3: the word is not known
    assert (status == 2) == err.startswith("error: ")
    for output in filter(None, (out, err)):
        assert_printable(output)


@pytest.mark.slow
def test_an_exported_file_can_have_any_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / NAMES["latin"]
    (directory / "bundle").mkdir(parents=True)
    for file, content in make_bundle_files().items():
        (directory / "bundle" / file).write_bytes(content)
    out = directory / f"{NAMES['escape']}.pt"
    arguments = "export", directory / "bundle", "-o", out
    status, shown, err = call(bridge_program.main, capsys, monkeypatch, *arguments)
    assert status == 0, err
    assert_printable(shown)
    assert {path.name for path in directory.iterdir()} == {"bundle", out.name}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_run_prints_its_name_as_escapes(name: str) -> None:
    console: Console = make_text_console()
    print_summary(console, Path(name), 3, Progress(), "--seed 1")
    assert_printable(read_console(console))
    assert resume_hint(Path(name)).isprintable()


def test_orbax_writes_into_a_directory_of_any_name(tmp_path: Path) -> None:
    directory = tmp_path / NAMES["latin"]
    directory.mkdir()
    with name_in_utf8(directory) as shown:
        (Path(shown) / "file").write_text("content")
    assert (directory / "file").read_text() == "content"
