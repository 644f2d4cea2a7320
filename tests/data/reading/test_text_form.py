"""What is checked before a text is read: its key, and what its separator is for."""

import gzip
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.commands import call
from tests.support.encoding import encode, to_json_lines, to_parquet
from valyrian_jax.cli.main import main
from valyrian_jax.data.reading.documents import read_documents, read_texts
from valyrian_jax.data.reading.text_loader import load_text
from valyrian_jax.errors import UserError

RECORDS = [{"id": 1, "title": "Rytsas", "body": "Valar morghūlis."}] * 3
FORMS = {
    "lines": "".join(json.dumps(record) + "\n" for record in RECORDS).encode(),
    "array": json.dumps(RECORDS, indent=1).encode(),
    "gzip": gzip.compress(json.dumps(RECORDS).encode()),
    "Parquet": to_parquet({key: [record[key] for record in RECORDS] for key in RECORDS[0]}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", ["text", "id"])
def test_every_form_names_the_keys_that_have_text(form: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(FORMS[form])
    for read in (load_text, read_texts, read_documents):
        with pytest.raises(UserError) as caught:
            [*read(path, key)]
        assert str(caught.value) == (
            f"the text {path} has no text under {key!r}: expected a key of JSON or a column of "
            "Parquet of that name, found text under 'title', 'body'; name one of them with "
            "--data.text_key (or --text-key)"
        )
    assert load_text(path, "body").documents == ["Valar morghūlis."] * 3


@pytest.mark.parametrize("content", [b'{"id": 1}\n{"n": 2}\n', to_parquet({"id": [1], "n": [2]})])
def test_numbers_are_no_text(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UserError, match="found other values under 'id', 'n'; name another text"):
        load_text(tmp_path / "a")


def test_a_message_stays_short(tmp_path: Path) -> None:
    record = {f"{i}\x1b{'x' * 999}": "a" for i in range(99)}
    (tmp_path / "a").write_text(json.dumps(record))
    with pytest.raises(UserError) as caught:
        load_text(tmp_path / "a")
    assert len(str(caught.value)) < 1500
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "content",
    [
        b'{"id": 1}\n' * 5000 + b'{"text": "a"}\n',
        b'[{"id": 1}, {"text": null}, "a"]',
        b'{"text": null}\n{"text": "a"}\n',
    ],
)
def test_a_key_that_some_objects_lack_is_good(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    assert load_text(tmp_path / "a").documents == ["a"]


@pytest.mark.parametrize("form", FORMS)
def test_the_last_of_many_files_is_checked_before_the_first_is_used(
    form: str,
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "last").write_bytes(FORMS[form])
    before = {*tmp_path.iterdir()}
    files = home / "a.txt", home / "b.txt", tmp_path / "last"
    for command in (
        ["train", *files, "--vocab-size", 300, "-o", tmp_path / "t.json"],
        ["encode", home / "t.json", *files, "--out", tmp_path / "s"],
    ):
        status, _, err = call(main, capsys, monkeypatch, "tokenizer", *command)
        assert (status, err.count("\n")) == (2, 1)
        assert "last has no text under 'text': expected" in err
        assert {*tmp_path.iterdir()} == before


def test_a_separator_that_has_no_use_is_named_once(home: Path, tmp_path: Path) -> None:
    line = "the separator '--' is not used: it is for plain text only"
    names = []
    for form in ("lines", "array", "Parquet"):
        (tmp_path / form).write_bytes(FORMS[form])
        assert load_text(tmp_path / form, "body", "--").notes == (line,)
        names.append(str(tmp_path / form))
    output = io.StringIO()
    options = {"console": Console(file=output, width=20), "separator": "--", "text_key": "body"}
    index = encode(home, " ".join(["a.txt", *names]), tmp_path / "s", **options)
    assert output.getvalue() == f"note: {line}\n"
    assert index.documents == 1 + 9


def test_a_tokenizer_is_trained_with_the_same_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(to_json_lines(["Valar morghūlis."] * 9))
    command = ["train", tmp_path / "a", tmp_path / "a", "--separator", "re:-+", "--vocab-size", 260]
    options = ["-o", tmp_path / "t.json"]
    status, _, err = call(main, capsys, monkeypatch, "tokenizer", *command, *options)
    line = "note: the separator 're:-+' is not used: it is for plain text only\n"
    assert (status, err) == (0, line)
