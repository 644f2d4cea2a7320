"""Text to shards: the same tokens as in memory, for any number of workers and any group size."""

import gzip
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from rich.console import Console

from tests.support.commands import call
from tests.support.encoding import (
    encode,
    read_all_documents,
    read_all_tokens,
    read_contents,
    to_json_lines,
)
from valyrian_jax.cli.main import main
from valyrian_jax.data.reading import documents
from valyrian_jax.data.shards import inputs, writer
from valyrian_jax.data.shards.index import Shard, ShardIndex
from valyrian_jax.data.shards.shard_set import open_shards
from valyrian_jax.data.text import DOCUMENT_SEPARATOR, count_bytes, encode_documents
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer

ROOT = Path(__file__).parents[3]


def test_shards_hold_the_tokens_of_the_documents_in_memory(
    home: Path, whole: Path, tmp_path: Path
) -> None:
    texts = read_all_documents(home / "a.txt") + read_all_documents(home / "b.txt")
    assert len(texts) == 600
    expected = encode_documents(texts, Tokenizer.load(home / "t.json"), tmp_path)
    assert read_all_tokens(whole) == expected.tolist()
    index = open_shards(whole).index
    assert [shard.tokens for shard in index.shards[:-1]] == [3000] * (len(expected) // 3000)
    assert (index.tokens, index.documents, index.skipped) == (len(expected), 600, {})
    assert index.size + 600 * len(DOCUMENT_SEPARATOR) == count_bytes(texts)
    names = ["index.json", "tokenizer.json", "lock", *(shard.name for shard in index.shards)]
    assert sorted(path.name for path in whole.iterdir()) == sorted(names)
    assert (whole / "tokenizer.json").read_bytes() == (home / "t.json").read_bytes()


def test_shards_do_not_depend_on_workers_and_groups(
    home: Path, whole: Path, tmp_path: Path, small_groups: None
) -> None:
    encode(home, "a.txt b.txt", tmp_path / "two", workers=2)
    assert read_contents(tmp_path / "two") == read_contents(whole)


@pytest.mark.parametrize("size", [1 << 20, "exactly"])
def test_the_last_shard_may_be_the_only_one_or_hold_one_token(
    home: Path, whole: Path, tmp_path: Path, size: int | str
) -> None:
    count = len(read_all_tokens(whole)) - 1 if size == "exactly" else int(size)
    index = encode(home, "a.txt b.txt", tmp_path / "s", shard_tokens=count)
    assert index.shards[-1].tokens == (1 if size == "exactly" else index.tokens)
    assert read_all_tokens(tmp_path / "s") == read_all_tokens(whole)


def test_compressed_texts_and_json_lines_are_the_same_documents(
    home: Path, whole: Path, tmp_path: Path
) -> None:
    text, lines = (home / "a.txt").read_bytes(), to_json_lines(read_all_documents(home / "b.txt"))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text))
    a_lines = to_json_lines(read_all_documents(home / "a.txt")).replace(b"\n", b"\r\n\n")
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + a_lines)
    (tmp_path / "b.jsonl").write_bytes(lines.removesuffix(b"\n"))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines[:1000]) + gzip.compress(lines[1000:]))
    for number, names in enumerate((("a.txt.gz", "b.jsonl"), ("a.jsonl", "b.jsonl.gz"))):
        paths = " ".join(str(tmp_path / name) for name in names)
        encode(home, paths, tmp_path / str(number))
        assert read_all_tokens(tmp_path / str(number)) == read_all_tokens(whole)


def test_bad_documents_are_counted_and_skipped(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "MAX_DOCUMENT_BYTES", 200_000)  # the message keeps 64 MB
    long, whole = b"a" * 200_001, b"a" * 200_000  # a document of plain text is cut instead
    lines = [
        b'{"body": "one"}',
        *(b"{", b'{"body": 1' + b"0" * 5000 + b"}", b"[" * 100_000),  # not JSON
        *(b'{"text": "x"}', b'["body"]', b'{"body": 7}', b'{"body": null}'),  # no text
        *(b'{"body": ""}', b'{"body": " \\n"}', b'{"body": "\xff"}', b'{"body": "' + long + b'"}'),
        *(b"", b"  ", b'{"body": "two \\ud800."}'),  # blank lines are no documents
    ]
    (tmp_path / "bad.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines), 1))
    paragraphs = b"three", b"\xc3", b"\xe3\x80\x80\x0b", b"four\nfour", whole, b"f\xc3\xbcnf"
    (tmp_path / "bad.txt.gz").write_bytes(gzip.compress(b"\n\n".join(paragraphs), 1))
    options = ["--out", tmp_path / "s", "--text-key", "body", "--workers", "1"]
    names = (tmp_path / "bad.jsonl.gz", tmp_path / "bad.txt.gz")
    status, out, err = call(
        main, capsys, monkeypatch, "tokenizer", "encode", home / "t.json", *names, *options
    )
    assert (status, err) == (0, "")
    shards = open_shards(tmp_path / "s")
    assert shards.index.skipped == {
        "not UTF-8": 2,
        "invalid JSON": 3,
        "no text under the key": 4,
        "empty": 2,
        "longer than 64 MB": 1,
    }
    texts = ["one", "two \ufffd.", "three", "four\nfour", whole.decode(), "fünf"]
    expected = encode_documents(texts, shards.tokenizer, tmp_path)
    assert read_all_tokens(tmp_path / "s") == expected.tolist()
    assert out == (
        f"{tmp_path / 's'}: {len(expected):,} tokens in 1 shard, from 6 documents with 200,030 "
        "bytes; skipped 12: 2 not UTF-8, 3 invalid JSON, 4 no text under the key, 2 empty, 1 "
        "longer than 64 MB\n"
    )


@pytest.mark.parametrize("content", [b"", b" \n\n \n", b"\xff\n\n\xfe"])
def test_a_text_without_documents_is_refused(home: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "none.txt").write_bytes(content)
    reasons = "; skipped 2: 2 not" if content.startswith(b"\xff") else ""
    with pytest.raises(UserError, match=r"there is no document in .*none.txt" + reasons):
        encode(home, str(tmp_path / "none.txt"), tmp_path / "s")


def test_a_file_without_a_good_document_is_noted(home: Path, tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text('{"text": " "}\n{"text": null}\n\n')
    (tmp_path / "some.jsonl").write_text('{"text": "Rytsas"}\n{"body": "Valar"}\n')
    output = io.StringIO()
    other, some = tmp_path / "other.jsonl", tmp_path / "some.jsonl"
    names = f"{other} a.txt {some} {other}"
    encode(home, names, tmp_path / "s", console=Console(file=output, width=20))
    line = f"note: no document of {other} was used: 1 no text under the key, 1 empty\n"
    assert output.getvalue() == 2 * line


def test_a_file_that_was_begun_before_is_not_noted(
    home: Path, tmp_path: Path, small_groups: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = to_json_lines(read_all_documents(home / "a.txt")).decode()
    (tmp_path / "half.jsonl").write_text(good + "{\n" * 9000, encoding="utf-8")
    # One shard, which ends with the last good document.
    size = encode(home, "a.txt", tmp_path / "a").tokens - 1
    write_shard, output = writer.write_shard, io.StringIO()

    def fill_disk(directory: Path, number: int, *rest: Any) -> Shard:
        if number:
            raise OSError(28, "No space left on device")
        return write_shard(directory, number, *rest)

    def encode_half() -> ShardIndex:
        options = {"console": Console(file=output), "shard_tokens": size}
        return encode(home, str(tmp_path / "half.jsonl"), tmp_path / "s", **options)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_shard", fill_disk)
        with pytest.raises(OSError, match="No space"):
            encode_half()
    output.truncate(0)
    assert encode_half().skipped == {documents.NOT_JSON: 9000}
    assert output.getvalue() == ""


def test_a_full_disk_is_reported_with_how_to_resume(home: Path, tmp_path: Path) -> None:
    command = (
        f"ulimit -f 12; exec {shlex.quote(sys.executable)} -m valyrian_jax tokenizer encode t.json "
        "a.txt --out s --shard-tokens 8000 --workers 1"
    )  # a shard has 16,064 bytes; bash counts in 1,024
    (tmp_path / "t.json").write_bytes((home / "t.json").read_bytes())
    (tmp_path / "a.txt").write_bytes((home / "a.txt").read_bytes())
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr == (
        "error: cannot write s/shard-00000.bin: File too large; finished shards are kept: run the "
        "same command again to resume\n"
    )
    assert not [*(tmp_path / "s").glob("shard*")]


def test_directories_and_devices_are_refused(home: Path, tmp_path: Path) -> None:
    for path in (tmp_path, "/dev/zero"):
        with pytest.raises(UserError, match=f"cannot read the text {path}: expected a regular"):
            encode(home, str(path), tmp_path / "s")


def test_files_that_cannot_be_read_are_named(home: Path, tmp_path: Path) -> None:
    compressed = gzip.compress((home / "a.txt").read_bytes())
    damaged = {
        "cut.gz": compressed[:-100],
        "bits.jsonl.gz": compressed[:500] + b"?" * 9 + compressed[509:],
        "cut.zst": zstandard.compress(compressed)[:-100],
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"cannot read the text .*{name}: "):
            encode(home, f"a.txt {tmp_path / name}", tmp_path / f"{name} shards")
    with pytest.raises(UserError, match=r"cannot read the text .*none.txt: No such file"):
        encode(home, "a.txt none.txt", tmp_path / "s")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.txt", "b.txt"], "expected one FILE, found 2; pass --out DIRECTORY to write shards"),
        (
            ["--workers", "2", "a.txt"],
            "--text-key, --separator, --shard-tokens, --workers, --scheduler and --deduplicate "
            "need --out; pass --out DIRECTORY",
        ),
        (["--out", "s"], "--out expects at least one FILE and no --show-tokens"),
        (
            ["--out", "s", "a.txt", "--show-tokens"],
            "--out expects at least one FILE and no --show-tokens",
        ),
        (
            ["none.txt"],
            "cannot read the text none.txt: No such file or directory; expected a file of text, "
            "JSON or Parquet: name another",
        ),
    ],
)
def test_mistakes_end_in_one_line(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(home)
    status, out, err = call(main, capsys, monkeypatch, "tokenizer", "encode", "t.json", *arguments)
    assert (status, out, err) == (2, "", f"error: {message}\n")


def test_a_terminal_shows_the_progress(home: Path, tmp_path: Path) -> None:
    output = io.StringIO()
    terminal = Console(file=output, force_terminal=True, width=100)
    encode(home, "a.txt", tmp_path / "s", console=terminal)
    assert re.search(
        r"[\d,]+ tokens, [\d.]+ kB of text, [\d.,]+ \w+/s .* left: ", output.getvalue()
    )
