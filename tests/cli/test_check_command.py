"""The command check: verdicts, readings of words, and the exit status."""

import json
import unicodedata
from pathlib import Path

import pytest

from tests.support.commands import RunMain
from valyrian_jax.language.words.spelling import suggest


def test_check_prints_verdicts(tmp_path: Path, run_main: RunMain) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Valar morghūlis. Vale ēdrus.\n", encoding="utf-8")
    status, out, _ = run_main("check", text)
    assert status == 1
    assert "right    Valar morghūlis." in out
    assert "2 sentences: 1 right, 1 with a mistake" in out
    status, out, _ = run_main("check", text, "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert [set(record) for record in records] == [
        {"text", "grammatical", "verdict", "reason", "notes"}
    ] * 2
    assert [record["grammatical"] for record in records] == [True, False]
    assert [record["verdict"] for record in records] == ["right", "mistake"]
    text.write_text(unicodedata.normalize("NFD", "Valar morghūlis."), encoding="utf-8")
    assert "not NFC" in run_main("check", text)[1]


def test_check_words_prints_their_readings(run_main: RunMain) -> None:
    status, out, _ = run_main("check", "--word", "zaldrīzoti", "xyz", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert status == 3
    assert [record["word"] for record in records] == ["zaldrīzoti", "xyz"]
    assert {(r["lemma"], r["case"], r["number"]) for r in records[0]["readings"]} == {
        ("zaldrīzes", case, "pl") for case in ("gen", "dat", "loc")
    }
    assert records[1]["readings"] == []
    assert records[1]["nearest"] == list(suggest("xyz"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Valar morghūlis. Valar morghulis.", 0),
        ("Vale ēdrus. Vala ēdrus.", 1),
        ("Vale ēdrus. Qzx ēdrus.", 1),
        ("Valar morghūlis. Qzx ēdrus.", 3),
    ],
)
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_exit_status_tells_a_mistake_from_what_is_beyond(
    text: str,
    expected: int,
    options: list[str],
    run_main: RunMain,
) -> None:
    status, _, err = run_main("check", text, *options)
    assert (status, err) == (expected, "")


def test_check_words_takes_a_sentence_and_goes_on_after_an_unknown_word(run_main: RunMain) -> None:
    status, out, _ = run_main("check", "--word", "«Qzx, zaldrizoti!»", "zaldrīzek", "vala")
    assert status == 3
    assert out.splitlines() == [
        "Qzx: not a known word",
        "zaldrizoti: written zaldrīzoti",
        "  zaldrīzes (dragon): gen/dat/loc pl",
        f"zaldrīzek: not a known word; the nearest are {', '.join(suggest('zaldrīzek'))}",
        "vala",
        "  vala (man): nom sg",
    ]
    assert run_main("check", "--word", "vala")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "none.txt"], "none.txt"),
        (["check", "latin.txt"], "the text latin.txt is not UTF-8: byte 0xf1 at offset 1"),
        (["check", "blank.txt"], "no sentence to check"),
        (["check", "latin.txt", "b"], "expected one file, found 2"),
        (["check", "--word"], "--word expects at least one word, found none"),
        (["language", "--table", "zaldrīzxr"], "similar words: zaldrīz"),
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    run_main: RunMain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin.txt").write_bytes(b"a\xf1")
    Path("blank.txt").write_bytes(b" \n")
    status, _, err = run_main(*arguments)
    assert status == 2
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
