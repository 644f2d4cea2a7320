"""How programs end: what they print, to whom, and with which status."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from tests.support.commands import call
from tests.support.runs import ROOT

PROGRAM = """
import sys
import click
from valyrian_jax.cli.entry_point import run_command
{imports}

@click.command
def main():
    {body}

run_command(main)
"""
BUNDLE = "tests/artifacts/0.1.0/run/bundle"
TABLE = "table = new_table('a'); [table.add_row('b' * 9) for _ in range(9999)]; print_table(table)"
PRINTERS = {"print": "print('a' * 99999)", "rich": TABLE, "click": "click.echo('a' * 99999)"}


def start(body: str, imports: str = "", **options: Any) -> subprocess.Popen[str]:
    code = PROGRAM.format(imports=imports, body=body)
    return subprocess.Popen([sys.executable, "-c", code], text=True, cwd=ROOT, **options)


@pytest.mark.parametrize("body", PRINTERS.values(), ids=PRINTERS)
def test_a_reader_that_leaves_is_no_error(body: str) -> None:
    imports = "from valyrian_jax.cli.tables import new_table, print_table"
    process = start(body, imports, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0


@pytest.mark.parametrize("body", PRINTERS.values(), ids=PRINTERS)
def test_a_full_disk_is_named_in_one_line(body: str) -> None:
    imports = "from valyrian_jax.cli.tables import new_table, print_table"
    with Path("/dev/full").open("wb") as full:
        process = start(body, imports, stdout=full, stderr=subprocess.PIPE)
        _, message = process.communicate()
    assert process.returncode == 2
    assert message.startswith("error: cannot write the output: the disk is full;")
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("raise StoppedError('stopped', 1)", 129),
        ("raise UserError('wrong')", 2),
        ("raise KeyboardInterrupt", 130),
    ],
)
def test_the_status_is_right_even_if_nobody_reads_the_errors(body: str, status: int) -> None:
    imports = "from valyrian_jax.errors import StoppedError, UserError"
    reader, writer = os.pipe()
    os.close(reader)
    process = start(body, imports, stderr=writer)
    os.close(writer)
    assert process.wait() == status


@pytest.mark.parametrize("platforms", ["nowhere", "cuda"])
@pytest.mark.parametrize(
    "arguments",
    [("train.py", "--config=configs/tiny.toml", "--out"), ("-m", "valyrian_jax", "sample", BUNDLE)],
    ids=["train", "sample"],
)
def test_platforms_that_are_not_there_are_named_in_one_line(
    arguments: tuple[str, ...], platforms: str, tmp_path: Path
) -> None:
    out = [tmp_path / "run"] if "--out" in arguments else []
    process = subprocess.run(
        [sys.executable, *arguments, *out],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": platforms},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 2
    error = process.stderr.splitlines()[-1]
    assert error.startswith("error: JAX cannot start: expected JAX_PLATFORMS to name platforms")
    assert f"found '{platforms}'" in error
    assert "Traceback" not in process.stderr


def test_a_mistake_in_the_program_keeps_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ZeroDivisionError):
        call(click.Command("divide", callback=lambda: 1 // 0), capsys, monkeypatch)


def test_threads_of_libraries_print_no_tracebacks() -> None:
    body = "log_in_thread(); raise UserError('one line')"
    imports = """
import logging, threading
from valyrian_jax.errors import UserError

def log():
    logging.warning('a warning')
    try:
        1 // 0
    except ZeroDivisionError:
        logging.exception('an error that the main thread reports too')

def log_in_thread():
    thread = threading.Thread(target=log)
    thread.start()
    thread.join()
"""
    process = start(body, imports, stderr=subprocess.PIPE)
    assert process.communicate()[1] == "WARNING:root:a warning\nerror: one line\n"
