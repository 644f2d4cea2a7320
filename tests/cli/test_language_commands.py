"""Commands for the language: corpus, check and language."""

import gzip
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import RunMain, assert_one_line_error, call_on_terminal
from valyrian_jax.cli.main import main
from valyrian_jax.language.checker.text import stream_sentences


def test_corpus_writes_the_same_text_every_time(tmp_path: Path, run_main: RunMain) -> None:
    arguments = ["corpus", "--sentences", 50, "--seed", 3]
    status, out, _ = run_main(*arguments)
    assert status == 0
    assert run_main(*arguments, "-o", tmp_path / "c.txt")[0] == 0
    assert (tmp_path / "c.txt").read_text(encoding="utf-8") == out


def test_corpus_is_short_on_a_terminal_unless_its_size_is_given(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = call_on_terminal(main, monkeypatch, "corpus", "--seed", 3)
    assert len([*stream_sentences([text])]) == 20
    assert (
        "--sentences 250000 prints the whole corpus, -o FILE writes it\n" in capfd.readouterr().err
    )
    text = call_on_terminal(main, monkeypatch, "corpus", "--sentences", 30)
    assert len([*stream_sentences([text])]) == 30
    assert "250000" not in capfd.readouterr().err


@pytest.mark.parametrize("word", ["zaldrīzes", "kara", "jorrāelagon", "se"])
def test_language_prints_the_same_forms_as_a_table_and_as_json(
    word: str, run_main: RunMain
) -> None:
    status, out, _ = run_main("language", "--table", word, "--json")
    assert status == 0
    (record,) = map(json.loads, out.splitlines())
    assert record["lemma"] == word
    marked = {form["text"] + "°" * (not form["sure"]) for form in record["forms"]}
    table = run_main("language", "--table", word)[1].partition("\n\n")[2].partition("  source")[0]
    assert max(map(len, table.splitlines())) <= 80
    rows = [re.split(r"  +", line) for line in table.splitlines()]
    cells = {form for row in rows if row[0] for cell in row[1:] for form in cell.split("/")}
    assert cells - {"—", "— not established"} >= (marked if len(marked) > 1 else set())


FORMS: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "gzip": lambda text: gzip.compress(text.encode()),
    "UTF-16": lambda text: text.encode("utf-16"),
    "array": lambda text: json.dumps([{"text": text}]).encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_check_reads_every_form(form: str, tmp_path: Path, run_main: RunMain) -> None:
    text = "Vala zaldrīzī ūndas.\n\nValar morghūlis"
    (tmp_path / "text").write_bytes(FORMS[form](text))
    assert run_main("check", tmp_path / "text") == (
        0,
        "right    Vala zaldrīzī ūndas.\nright    Valar morghūlis\n2 sentences: 2 right\n",
        "",
    )


def test_check_streams_a_text_without_an_end(run_main: RunMain) -> None:
    texts = itertools.chain.from_iterable(itertools.repeat(["Valar mor", "ghūlis", ". Vala"]))
    sentences = stream_sentences(texts)
    assert [next(sentences) for _ in range(4)] == [
        "Valar morghūlis.",
        "ValaValar morghūlis.",
        "ValaValar morghūlis.",
        "ValaValar morghūlis.",
    ]
    longest = max(map(len, itertools.islice(stream_sentences(itertools.repeat("a" * 9999)), 9)))
    assert longest <= 1 << 16


SENTENCE = "Vala zaldrīzī ūndas."


@pytest.mark.parametrize(
    "arguments", [[SENTENCE], SENTENCE.split(), ["Valar morghūlis"], ["dohaeris"]], ids="-".join
)
def test_check_judges_a_sentence_in_place_of_a_file(
    arguments: list[str], run_main: RunMain
) -> None:
    status, out, err = run_main("check", *arguments)
    assert (status, err) == (0, "")
    assert out.splitlines()[0].endswith(f"  {' '.join(arguments)}")


def test_check_takes_a_file_for_a_file(
    tmp_path: Path, run_main: RunMain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("Valar morghūlis").write_text(SENTENCE, encoding="utf-8")
    assert run_main("check", "Valar morghūlis")[1].startswith(f"right    {SENTENCE}\n")
    for name in ("novel.txt", "texts/novel", "/nowhere"):
        status, _, err = run_main("check", name)
        assert status == 2
        assert_one_line_error(err, f"cannot read the text {name}: No such file or directory")
    status, _, err = run_main("check", "Valar morghūlis", "dohaeris")
    assert_one_line_error(err, "expected one file, found 2")


def test_tables_mark_inferred_and_missing_forms(run_main: RunMain) -> None:
    status, out, _ = run_main("language", "--table", "lōgor")
    assert status == 0
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert rows["nominative"] == ["lōgor", "lōgra", "lōgrun°", "lōgror°"]
    assert "—" in run_main("language", "--table", "tubis")[1]
    for word in ("urnegon", "kirine", "daor", "nyke"):
        assert run_main("language", "--table", word)[0] == 0
