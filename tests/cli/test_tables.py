"""Tables fit into the terminal, and are complete where the output is not a terminal."""

import re
from pathlib import Path

import click
import pytest

from bridge import parity_report
from tests.support.commands import call, call_on_terminal
from valyrian_jax.cli.main import main
from valyrian_jax.cli.tables import advise_on_loss, new_table, print_table, report_table
from valyrian_jax.evaluation.report import ReportRow
from valyrian_jax.evaluation.text_metrics import TextMetrics

ARTIFACTS = Path(__file__).parents[1] / "artifacts" / "0.1.0"
REPORT = {
    "model": ReportRow(
        1.4633, 0.9034, 0.1043, TextMetrics(3033, 0.874, 0.998, 0.889, 0.996, 0.1, 0.026)
    ),
    "trigram": ReportRow(1.8743, 1.1571, None, None),
    "held-out text": ReportRow(None, 0.7991, 0.0, TextMetrics(3060, 1.0, 1.0, 1.0, 1.0)),
}
CELLS = [
    ["model", "trigram", "held-out text"],
    ["nats/token", "1.4633", "1.8743"],
    ["bits/byte", "0.9034", "1.1571", "0.7991"],
    ["above source", "0.1043", "0.0000"],
    ["sentences", "3,033", "3,060"],
    ["grammatical", "87.4%", "100.0%"],
    ["with a mistake", "10.0%"],
    ["beyond the grammar", "2.6%"],
    ["known words", "99.8%", "100.0%"],
    ["new", "88.9%", "100.0%"],
    ["distinct", "99.6%", "100.0%"],
]


@click.command()
def show_report() -> None:
    print_table(report_table(REPORT))


@pytest.fixture(autouse=True)
def narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Describe a terminal of 60 columns that has colours."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")


def parse_cells(output: str) -> list[list[str]]:
    """Return the cells of a printed table, without the line under its header."""
    return [re.split(r"  +", line.strip()) for line in output.splitlines() if line.strip(" ─")]


def test_a_report_fits_into_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_table(report_table(REPORT))
    assert parse_cells(capsys.readouterr().out) == CELLS
    assert parse_cells(call_on_terminal(show_report, monkeypatch)) == CELLS


def test_a_table_wraps_between_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    what = (  # brackets and :x: are no markup here
        "[bold]step 1:[/bold] " + "transformer.h.0.attn.c_attn.weight " * 9 + ":x:"
    )
    finding = {
        "runtime": "PyTorch",
        "what": what,
        "difference": 1e-7,
        "allowed": 1e-5,
        "passed": True,
    }
    report = {
        "findings": [finding],
        "passed": True,
        "first_divergence": None,
        "left_out": [],
    }
    show_parity = click.Command("show", callback=lambda: parity_report.print_report(report))
    parity_report.print_report(report)
    table = capsys.readouterr().out.partition("not compared")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert what.replace("transformer.", "").split() == [
        word
        for row in parse_cells(table)
        for cell in row
        for word in cell.split()
        if word in what.replace("transformer.", "").split()
    ]
    output = call_on_terminal(show_parity, monkeypatch)
    assert max(map(len, output.partition("not compared")[0].splitlines())) <= 60


def test_the_report_of_parity_names_what_was_not_compared(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The C++ programs are two: with only one of them built, the other is named."""
    findings = [
        {"runtime": name, "what": "logits", "difference": 0.0, "allowed": 1.0, "passed": True}
        for name in ("C++ from GGUF", "transformers float32")
    ]
    parity_report.print_report({"findings": findings, "passed": True, "left_out": []})
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("not compared")] == [
        "not compared: C++, which is not installed or built"
    ]


def test_a_table_breaks_no_word_where_it_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    table = new_table("a", "b")
    table.add_row("x" * 60, "y" * 60)
    print_table(table)
    assert ["x" * 60, "y" * 60] in parse_cells(capsys.readouterr().out)


def test_the_report_says_that_the_model_is_worse_than_the_trigram() -> None:
    assert advise_on_loss(REPORT) == ""
    assert advise_on_loss({"model": REPORT["model"]}) == ""  # a text too large for a trigram
    worse = REPORT | {"model": ReportRow(1.9, 1.2, None, None)}
    advice = advise_on_loss(worse)
    assert advice.startswith(
        "the model is worse than the trigram model: 1.9000 nats/token against 1.8743; "
    )
    assert "--train.steps" in advice
    assert advise_on_loss(REPORT, "it overfits") == "it overfits"
    assert advise_on_loss(worse, "it overfits").endswith("against 1.8743; it overfits")


@pytest.mark.parametrize("columns", ["0", "00", "-1", "x", "", "²", "9" * 5000])
def test_a_number_of_columns_that_makes_no_sense_is_ignored(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", columns)
    assert parse_cells(call(show_report, capsys, monkeypatch)[1]) == CELLS
    monkeypatch.setenv("COLUMNS", columns)
    assert parse_cells(call_on_terminal(show_report, monkeypatch)) == CELLS


def test_no_color_means_no_escape_sequence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in call_on_terminal(show_report, monkeypatch)
    (tmp_path / "poem.txt").write_text("Vala ēdrus.\n", encoding="utf-8")
    assert "\x1b" not in call_on_terminal(main, monkeypatch, "check", tmp_path / "poem.txt")
    monkeypatch.chdir(ARTIFACTS)  # The run's text has a relative path.
    assert "\x1b" not in call_on_terminal(main, monkeypatch, "eval", "run")
    assert "\x1b" not in call_on_terminal(main, monkeypatch, "sample", "run", "--top-k", 3)
