"""The commands for words: the dictionary, interlinear glosses, and the translator there is not."""

import functools
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import call, call_on_terminal
from valyrian_jax.cli.main import main

RunMain = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_main(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunMain:
    """Return a function that runs `python -m valyrian_jax` with arguments."""
    return functools.partial(call, main, capsys, monkeypatch)


def test_word_prints_the_entry_of_a_form(run_main: RunMain) -> None:
    status, out, err = run_main("word", "zaldrizoti")
    assert (status, err) == (0, "")
    assert out.startswith("zaldrīzes: noun, solar, fourth declension\n  dragon\n")
    assert "\n  zaldrīzoti: genitive, dative or locative plural\n" in out
    assert "\ninstrumental  zaldrīzose  zaldrīzossi   zaldrīzisse  zaldrīzerze\n" in out
    assert '\n  example: Zaldrīzes buzdari iksos daor. "A dragon is not a slave."' in out
    assert out.endswith("\n  source: Najahho's pages, languageinvention wiki\n")
    assert max(map(len, out.splitlines())) <= 80


def test_word_prints_the_best_english_match_and_lists_the_others(run_main: RunMain) -> None:
    status, out, _ = run_main("word", "eat", "hen")
    assert status == 0
    first, second = out.split("\n\nhen: ")
    assert first.startswith("ipradagon: verb")
    assert "\nOther words for eat:\n  kisagon: verb, to eat (said to a dragon)" in first
    assert second.startswith("preposition, with the locative or dative\n")


def test_word_prints_the_forms_of_a_word_once(run_main: RunMain) -> None:
    status, out, _ = run_main("word", "zaldrizoti", "dragon")
    assert (status, out.count("instrumental")) == (0, 1)
    again = "zaldrīzes: noun, solar, fourth declension\n  dragon; its forms are above\n"
    assert out.endswith(f"\n\n{again}")


def test_word_names_the_nearest_of_what_it_does_not_find(run_main: RunMain) -> None:
    status, out, err = run_main("word", "zaldrizxr", "vala")
    assert (status, err) == (3, "")
    assert out.startswith("zaldrizxr: not found; the nearest are zaldrīz")
    assert "\n\nvala: noun, lunar, first declension\n" in out
    assert "`gloss` explains" in run_main("word", "vali kari issi")[1]
    unlike = "not found, and no word of either language is like it"
    assert run_main("word", "x" * 10_000)[1] == f"{'x' * 40}…: {unlike}\n"
    assert run_main("word")[0] == 2
    assert run_main("word", "vala", " ") == (
        2,
        "",
        "error: a WORD is empty; expected at least one letter\n",
    )


def test_word_prints_json(run_main: RunMain) -> None:
    status, out, _ = run_main("word", "dragon", "zaldrizxr", "--json")
    assert status == 3
    found, missing = map(json.loads, out.splitlines())
    assert found["query"] == "dragon"
    assert found["entries"][0]["gloss"] == "dragon"
    assert found["entries"][0]["source"] == "NJ"
    assert missing["entries"] == []
    assert missing["nearest"]


def test_gloss_aligns_three_lines(run_main: RunMain) -> None:
    status, out, err = run_main("gloss", "Sīr vali kari issi.")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "Sīr  vali        kari                issi.",
        "now  man-NOM.PL  great-NOM.PL.LUN    be-PRS.3PL",
        "now  man         great, magnificent  be",
    ]
    assert "\nkari: also great-ACC.SG.SOL" in run_main("gloss", "--all", "Sīr vali kari issi.")[1]


def test_gloss_wraps_at_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "29")
    lines = call_on_terminal(main, monkeypatch, "gloss", "Sīr vali kari issi.").splitlines()
    assert max(map(len, lines)) <= 29
    assert [line.split()[0] for line in lines if line] == [
        *("Sīr", "now", "now", "kari", "great-NOM.PL.LUN", "great,", "issi.", "be-PRS.3PL", "be")
    ]


def test_gloss_translates_english_words(run_main: RunMain) -> None:
    status, out, _ = run_main("gloss", "Vala dragon urnes.")
    assert status == 3
    assert "\ndragon: an English word; in High Valyrian, zaldrīzes\n" in out


def test_gloss_reads_files_and_marks_unknown_words(
    run_main: RunMain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Vala xyz urnes. Issa.\n"
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    status, out, _ = run_main("gloss", tmp_path / "text.txt")
    assert status == 3
    assert "\nman-NOM.SG  ?    see-PRS.3SG\n" in out
    assert "\nxyz: not a known word; the nearest are " in out
    assert out.endswith("\n\nIssa.\nyes\nyes\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    status, lines, _ = run_main("gloss", "--json")
    first, second = map(json.loads, lines.splitlines())
    assert (status, first["parsed"], second["parsed"]) == (3, False, True)
    assert [word["known"] for word in first["words"]] == [True, False, True]
    assert second["words"][0]["source"] == "DU"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gloss", "..."], "no sentence to gloss"),
        (["gloss", "none.txt"], "none.txt"),
        (["translate", "A dragon.", "--to", "hv"], "no translator"),
        (["translate"], "use `gloss`"),
        (["translate", "--help"], "`word`"),
    ],
)
def test_mistakes_end_in_one_line(arguments: list[str], message: str, run_main: RunMain) -> None:
    status, out, err = run_main(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert "translator" in run_main("--help")[1]
