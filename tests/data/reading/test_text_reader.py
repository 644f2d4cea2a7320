"""Texts in every form are recognised by their content, whatever their names are."""

import codecs
import gzip
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tests.support.encoding import to_parquet
from valyrian_jax.data.reading import text_reader
from valyrian_jax.data.reading.documents import read_texts
from valyrian_jax.data.reading.text_loader import load_text
from valyrian_jax.data.reading.text_reader import read_blocks
from valyrian_jax.errors import UserError

TEXT = "Ēza zaldrīzes.\n\nNUL \0, escape \x1b[31m,\x9b1m 🐉.\n\n第一章。\u3000\n"
DOCUMENTS = ["Ēza zaldrīzes.", "NUL \0, escape \x1b[31m,\x9b1m 🐉.", "第一章。"]
UTF8 = TEXT.encode()


RECORDS = [{"id": 1, "text": text} for text in DOCUMENTS]
LINES = "".join(json.dumps(record, ensure_ascii=False) + "\r\n" for record in RECORDS).encode()
PLAIN = {
    "plain": UTF8,
    "with a mark": codecs.BOM_UTF8 + UTF8,
    "gzip": gzip.compress(UTF8),
    "gzip of a text with a mark": gzip.compress(codecs.BOM_UTF8 + UTF8),
    "two members of gzip": gzip.compress(UTF8[:20]) + gzip.compress(UTF8[20:]),
    "zstd": zstandard.compress(UTF8),
    "frames of zstd": b"\x50\x2a\x4d\x18\x02\0\0\0ab"
    + b"".join(zstandard.compress(UTF8[i : i + 9]) for i in range(0, len(UTF8), 9)),
    "UTF-16, little": codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
    "UTF-16, big": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "UTF-32": codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
    "zstd of UTF-16": zstandard.compress(TEXT.encode("utf-16")),
}
STRUCTURED = {
    "lines": LINES,
    "lines with a mark": codecs.BOM_UTF8 + LINES,
    "lines in UTF-16": LINES.decode().encode("utf-16"),
    "gzip of lines": gzip.compress(LINES),
    "array": json.dumps(RECORDS).encode(),
    "array over many lines": json.dumps(RECORDS, indent=2, ensure_ascii=False).encode(),
    "a line longer than the head": json.dumps(RECORDS[0] | {"a": "b" * 1_100_000}).encode()
    + b"\n"
    + LINES[LINES.index(b"\n") + 1 :],
    "array of strings": json.dumps(DOCUMENTS).encode(),
    "zstd of an array": zstandard.compress(json.dumps(RECORDS).encode()),
    "Parquet": to_parquet({"text": DOCUMENTS}),
}


@pytest.mark.parametrize("form", PLAIN)
def test_plain_text_is_read_in_every_encoding_and_compression(form: str, path: Path) -> None:
    path.write_bytes(PLAIN[form])
    text = load_text(path)
    assert text.documents == DOCUMENTS
    assert (text.size, text.notes) == (len(UTF8), ())
    path.with_name("plain").write_bytes(UTF8)
    assert text.fingerprint == load_text(path.with_name("plain")).fingerprint
    assert "".join(read_texts(path)) == TEXT
    assert b"".join(read_blocks(path)) == UTF8


@pytest.mark.parametrize("form", STRUCTURED)
def test_json_and_parquet_are_read_by_documents(form: str, path: Path) -> None:
    path.write_bytes(STRUCTURED[form])
    text = load_text(path)
    assert text.documents == DOCUMENTS
    assert text.size == sum(len(document.encode()) for document in DOCUMENTS)
    assert [*read_texts(path)] == DOCUMENTS
    path.write_bytes(STRUCTURED["array"])
    assert load_text(path).fingerprint == text.fingerprint


PARQUET = to_parquet({"text": ["a"]})
BAD_TEXTS = {
    "empty": (b" \n\n ", "is empty"),
    "latin": (b"abc \xf1 def", "not UTF-8: byte 0xf1 at offset 4"),
    "cut UTF-8": (("é" * 9).encode()[:-1], "not UTF-8: byte 0xc3 at offset 16"),
    "half UTF-16": (codecs.BOM_UTF16_LE + b"a\0\0\xd8", "is not UTF-16, as its byte-order mark"),
    "odd UTF-16": (codecs.BOM_UTF16_BE + b"\0ab", "is not UTF-16, as its byte-order mark"),
    "UTF-16 without a mark": ("Valar.\n".encode("utf-16-le"), "found UTF-16 without a byte-order"),
    "cut gzip": (gzip.compress(UTF8)[:-9], "expected undamaged compressed data"),
    "cut zstd": (zstandard.compress(UTF8)[:-9], "ends before the end of its last frame"),
    "bad zstd": (zstandard.compress(UTF8)[:9] + bytes(40), "expected undamaged compressed data"),
    "xz": (b"\xfd7zXZ\0abc", "found xz data; decompress it"),
    "bzip2": (b"BZh91AY&SYabc", "found bzip2 data; decompress it"),
    "docx": (b"PK\x03\x04abc", "found a ZIP archive; unpack it"),
    "PDF": (b"%PDF-1.7 abc", "found a PDF; extract its text"),
    "one object": (b'{\n "text": "a",\n "b": 1\n}\n', "is one value of JSON over several lines"),
    "numbers": (b"[\n1,\n2,\n3\n]\n", "is one value of JSON over several lines"),
    "another key": (b'{"body": "a"}\n', "found text under 'body'; name one .*--data.text_key"),
    "no text": (b'{"text": null}\n', "skipped 1: 1 no text under the key; .*--data.text_key"),
    "cut array": (b'[{"text": "a"}, {"text": "b', "not a JSON array .*as element 2, found"),
    "long array": (b'[{"text": "a"}]\n[{"text": "b"}]', "goes on after its JSON array"),
    "Parquet with another key": (to_parquet({"body": ["a"]}), "found text under 'body'; name one"),
    "damaged Parquet": (PARQUET[:-20], "expected undamaged Parquet"),
    "gzip of Parquet": (
        gzip.compress(to_parquet({"text": ["a"]})),
        "is Parquet in a pipe or compressed",
    ),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_bad_texts_are_refused_in_one_line_with_their_name(name: str, tmp_path: Path) -> None:
    content, message = BAD_TEXTS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"the text .*{name}.*{message}"):
        load_text(tmp_path / name)
    if name != "empty":
        with pytest.raises(UserError, match=f"the text .*{name}.*{message}"):
            list(read_texts(tmp_path / name))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    cases = {
        tmp_path / "none": "No such file",
        tmp_path: "Is a directory",
        Path("/dev/zero"): "found a device",
        Path("/dev/tty"): "found a device",
        Path("a\0b"): "null byte",
    }
    for path, message in cases.items():
        with pytest.raises(UserError, match=message):
            load_text(path)
    assert [*read_blocks(os.devnull)] == [b""]


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Path]:
    """A FIFO that somebody writes the text to, slowly."""
    os.mkfifo(tmp_path / "fifo")

    def write() -> None:
        with (tmp_path / "fifo").open("wb", buffering=0) as file:
            for byte in gzip.compress(UTF8):
                file.write(bytes([byte]))

    thread = threading.Thread(target=write)
    thread.start()
    yield tmp_path / "fifo"
    thread.join()


def test_a_pipe_is_read(fifo: Path) -> None:
    text = load_text(fifo)
    assert text.documents == DOCUMENTS
    assert [note.partition(":")[0] for note in text.notes] == [f"{fifo} can be read only once"]


def test_a_descriptor_is_read() -> None:
    reader, writer = os.pipe()
    os.write(writer, LINES)
    os.close(writer)
    assert load_text(f"/dev/fd/{reader}").documents == DOCUMENTS
    os.close(reader)


def test_closed_standard_input_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="standard input is closed; expected a text"):
        load_text("-")


def test_a_device_as_standard_input_is_refused() -> None:
    code = "from valyrian_jax.data.reading.text_loader import load_text; load_text('-')"
    with Path("/dev/zero").open("rb") as zeros:
        ended = subprocess.run(
            [sys.executable, "-c", code], stdin=zeros, capture_output=True, text=True
        )
    assert "UserError: cannot read standard input: expected a file or a pipe" in ended.stderr


@pytest.mark.parametrize("content", [b"a", b"a \n"])
def test_a_text_that_unpacks_to_much_takes_little_memory(content: bytes, tmp_path: Path) -> None:
    bomb = zstandard.compress(content * (300_000_000 // len(content)))
    (tmp_path / "bomb").write_bytes(bomb)
    tracemalloc.start()
    size = sum(map(len, read_texts(tmp_path / "bomb")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 299_000_000
    assert peak < 250_000_000


def test_blocks_are_cut_where_every_tokenizer_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_reader, "_CUT_CHARACTERS", 20)
    monkeypatch.setattr(text_reader, "_MAX_CUT_CHARACTERS", 40)
    words = ["valar ", "morghūlis.\n", "  ", "daor\n\n", "x" * 90]
    blocks = [*text_reader.cut_between_words(words * 9)]
    assert "".join(blocks) == "".join(words) * 9
    assert max(map(len, blocks)) < 140
    assert len(blocks) > 5
    first = next(text_reader.cut_between_words(["12\r\n34\r\n" * 5, "5"]))
    assert first.endswith("\r")
