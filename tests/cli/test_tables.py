"""Tables fit into the terminal, and are whole where there is none."""

import re
from pathlib import Path

import click
import pytest

from bridge import parity_report
from tests.support.commands import call_on_terminal
from valyrian_jax import __main__ as main
from valyrian_jax.cli.tables import print_table, report_table
from valyrian_jax.evaluation.report import ReportRow
from valyrian_jax.evaluation.text_metrics import TextMetrics

OLD = Path(__file__).parents[1] / "artifacts" / "0.1.0"
LINES = {
    "model": ReportRow(1.4633, 0.9034, 0.1043, TextMetrics(3033, 0.874, 0.998, 0.889, 0.996)),
    "trigram": ReportRow(1.8743, 1.1571, None, None),
    "held-out text": ReportRow(None, 0.7991, 0.0, TextMetrics(3060, 1.0, 1.0, 1.0, 1.0)),
}
ROWS = [
    ["model", "trigram", "held-out text"],
    ["nats/token", "1.4633", "1.8743"],
    ["bits/byte", "0.9034", "1.1571", "0.7991"],
    ["above source", "0.1043", "0.0000"],
    ["sentences", "3,033", "3,060"],
    ["grammatical", "87.4%", "100.0%"],
    ["known words", "99.8%", "100.0%"],
    ["new", "88.9%", "100.0%"],
    ["distinct", "99.6%", "100.0%"],
]


@click.command()
def show() -> None:
    print_table(report_table(LINES))


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A narrow terminal that has colours."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")


def rows(shown: str) -> list[list[str]]:
    """The cells of a table, without the line under its head."""
    return [re.split(r"  +", line.strip()) for line in shown.splitlines() if line.strip(" ─")]


def test_an_evaluation_fits_into_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_table(report_table(LINES))
    assert rows(capsys.readouterr().out) == ROWS
    assert rows(call_on_terminal(show, monkeypatch)) == ROWS


def test_a_table_fits_into_the_terminal_and_is_whole_where_there_is_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    what = (
        "[bold]step 1:[/bold] " + "transformer.h.0.attn.c_attn.weight " * 9 + ":x:"
    )  # and nothing is markup
    finding = {
        "runtime": "PyTorch",
        "what": what,
        "difference": 1e-7,
        "allowed": 1e-5,
        "passed": True,
    }
    found = {"findings": [finding], "passed": True, "first_divergence": None}
    parity_report.print_report(found)
    assert ["PyTorch", what, "1.0e-07", "1.0e-05", "ok"] in rows(capsys.readouterr().out)
    shown = call_on_terminal(
        click.Command("show", callback=lambda: parity_report.print_report(found)), monkeypatch
    )
    assert max(map(len, shown.partition("not compared")[0].splitlines())) <= 60


def test_no_colour_means_no_escape_sequence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in call_on_terminal(show, monkeypatch)
    (tmp_path / "poem.txt").write_text("Vale ēdrus.\n", encoding="utf-8")
    assert "\x1b" not in call_on_terminal(main.main, monkeypatch, "check", tmp_path / "poem.txt")
    monkeypatch.chdir(OLD)  # where the text of the run is
    assert "\x1b" not in call_on_terminal(main.main, monkeypatch, "eval", "run")
    assert "\x1b" not in call_on_terminal(main.main, monkeypatch, "sample", "run", "--top-k", 3)
