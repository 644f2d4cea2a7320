"""Text to shards: the same tokens as in memory, whoever encodes them and however often that is stopped."""

import contextlib
import dataclasses
import gzip
import io
import json
import multiprocessing
import os
import re
import shlex
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.support.commands import call
from valyrian_jax import __main__ as main
from valyrian_jax.data import documents, shard_workers, shard_writer, shards
from valyrian_jax.data.text import (
    _PARAGRAPH_BREAK,
    DOCUMENT_SEPARATOR,
    count_bytes,
    encode_documents,
    read_corpus,
    split_documents,
)
from valyrian_jax.errors import UserError
from valyrian_jax.files import lock_directory
from valyrian_jax.tokenizer import Tokenizer, train_bpe

ROOT = Path(__file__).parents[2]
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def home(valyrian: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tokenizer and two texts."""
    directory = tmp_path_factory.mktemp("texts")
    paragraphs = valyrian.strip().split("\n\n")[:600]
    train_bpe(paragraphs, 300).save(directory / "t.json")
    (directory / "a.txt").write_text("\n\n".join(paragraphs[:350]) + "\n", encoding="utf-8")
    (directory / "b.txt").write_text(
        "\n \r\n\n" + "\r\n \n".join(paragraphs[350:]) + "\n\n\n", encoding="utf-8"
    )
    return directory


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_writer, "_GROUP_BYTES", 4000)


def pieces(path: Path) -> list[str]:
    parts = split_documents(read_corpus(path), 0.1)
    return parts.train + parts.held_out


def encode(
    home: Path, names: str, out: Path, shard_tokens: int = 3000, workers: int = 1
) -> shards.ShardIndex:
    files = [home / name for name in names.split()]
    return shard_writer.encode(
        home / "t.json", files, out, QUIET, shard_tokens=shard_tokens, workers=workers
    )


def tokens(out: Path) -> list[int]:
    found = shards.open_shards(out)
    return shards.read(found, 0, found.index.tokens).tolist()


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(scope="module")
def whole(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shards of both texts, without a disturbance, by one worker."""
    out = tmp_path_factory.mktemp("shards") / "whole"
    encode(home, "a.txt b.txt", out)
    return out


def test_shards_hold_the_tokens_of_the_documents_in_memory(
    home: Path, whole: Path, tmp_path: Path
) -> None:
    together = pieces(home / "a.txt") + pieces(home / "b.txt")
    assert len(together) == 600
    expected = encode_documents(together, Tokenizer.load(home / "t.json"), tmp_path)
    assert tokens(whole) == expected.tolist()
    index = shards.open_shards(whole).index
    assert [shard.tokens for shard in index.shards[:-1]] == [3000] * (len(expected) // 3000)
    assert (index.tokens, index.documents, index.skipped) == (len(expected), 600, {})
    assert index.size + 600 * len(DOCUMENT_SEPARATOR) == count_bytes(together)
    assert sorted(path.name for path in whole.iterdir()) == sorted(
        ["index.json", "tokenizer.json", "lock", *(shard.name for shard in index.shards)]
    )
    assert (whole / "tokenizer.json").read_bytes() == (home / "t.json").read_bytes()


def test_shards_do_not_depend_on_workers_and_groups(
    home: Path, whole: Path, tmp_path: Path, small_groups: None
) -> None:
    encode(home, "a.txt b.txt", tmp_path / "two", workers=2)
    assert contents(tmp_path / "two") == contents(whole)


@pytest.mark.parametrize("size", [1 << 20, "exactly"])
def test_the_last_shard_may_be_the_only_one_or_hold_one_token(
    home: Path, whole: Path, tmp_path: Path, size: int | str
) -> None:
    count = len(tokens(whole)) - 1 if size == "exactly" else int(size)
    index = encode(home, "a.txt b.txt", tmp_path / "s", count)
    assert [shard.tokens for shard in index.shards][-1] == (
        1 if size == "exactly" else index.tokens
    )
    assert tokens(tmp_path / "s") == tokens(whole)


def as_lines(texts: list[str], key: str = "text") -> bytes:
    return "".join(
        json.dumps({"id": 1, key: text}, ensure_ascii=False) + "\n" for text in texts
    ).encode()


def test_compressed_texts_and_json_lines_are_the_same_documents(
    home: Path, whole: Path, tmp_path: Path
) -> None:
    plain, lines = (home / "a.txt").read_bytes(), as_lines(pieces(home / "b.txt"))
    (home / "a.txt.gz").write_bytes(gzip.compress(plain))
    (home / "a.jsonl").write_bytes(
        b"\xef\xbb\xbf" + as_lines(pieces(home / "a.txt")).replace(b"\n", b"\r\n\n")
    )
    (home / "b.jsonl").write_bytes(lines.removesuffix(b"\n"))
    (home / "b.jsonl.gz").write_bytes(gzip.compress(lines[:1000]) + gzip.compress(lines[1000:]))
    for number, names in enumerate(("a.txt.gz b.jsonl", "a.jsonl b.jsonl.gz")):
        encode(home, names, tmp_path / str(number))
        assert tokens(tmp_path / str(number)) == tokens(whole)


def test_bad_documents_are_counted_and_left_out(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "LONGEST", 200_000)  # what is said of it stays
    long = b"a" * 200_001
    lines = [
        *(
            b'{"body": "one"}',
            b"{",
            b'{"body": 1' + b"0" * 5000 + b"}",
            b"[" * 100_000,
        ),  # a document, three no JSON
        *(b'{"text": "x"}', b'["body"]', b'{"body": 7}', b'{"body": null}'),  # no text
        *(b'{"body": ""}', b'{"body": " \\n"}', b'{"body": "\xff"}', b'{"body": "' + long + b'"}'),
        *(b"", b"  ", b'{"body": "two \\ud800."}'),  # blank lines are nothing
    ]
    (tmp_path / "bad.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines), 1))
    paragraphs = b"three", b"\xc3", b"\xe3\x80\x80\x0b", b"four\nfour", long, b"f\xc3\xbcnf"
    (tmp_path / "bad.txt.gz").write_bytes(gzip.compress(b"\n\n".join(paragraphs), 1))
    options = ["--out", tmp_path / "s", "--text-key", "body", "--workers", "1"]
    names = (tmp_path / "bad.jsonl.gz", tmp_path / "bad.txt.gz")
    status, out, err = call(
        main.main, capsys, monkeypatch, "tokenizer", "encode", home / "t.json", *names, *options
    )
    assert (status, err) == (0, "")
    found = shards.open_shards(tmp_path / "s")
    assert found.index.skipped == {
        "not UTF-8": 2,
        "invalid JSON": 3,
        "no text under the key": 4,
        "empty": 2,
        "longer than 64 MB": 2,
    }
    expected = encode_documents(
        ["one", "two \ufffd.", "three", "four\nfour", "fünf"], found.tokenizer, tmp_path
    )
    assert tokens(tmp_path / "s") == expected.tolist()
    assert out == (
        f"{tmp_path / 's'}: {len(expected)} tokens in 1 shards, of 5 documents with 30 bytes; skipped 13: "
        "2 not UTF-8, 3 invalid JSON, 4 no text under the key, 2 empty, 2 longer than 64 MB\n"
    )


@pytest.mark.parametrize("content", [b"", b" \n\n \n", b"\xff\n\n\xfe"])
def test_a_text_without_documents_is_refused(home: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "none.txt").write_bytes(content)
    with pytest.raises(
        UserError,
        match=r"there is no document in .*none.txt" + "; skipped 2: 2 not" * (content > b" a"),
    ):
        encode(home, str(tmp_path / "none.txt"), tmp_path / "s")


SIGNS = "a", "é", "\n", "\n\n", "\r\n", "\r", " ", "\t", "\n \n", "\x0b", "\u3000", "\x85"


@settings(max_examples=400)
@given(st.lists(st.sampled_from(SIGNS), max_size=12).map("".join), st.integers(1, 6))
def test_paragraphs_are_those_of_a_text_in_memory_wherever_blocks_end(
    text: str, block: int
) -> None:
    expected = [piece for piece in _PARAGRAPH_BREAK.split(text.strip()) if piece.strip()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_BLOCK", block)
        patch.setattr(Path, "open", lambda *_: io.BytesIO(text.encode()))
        assert [
            piece and piece.decode() for piece in documents.read_raw(Path("text"), 1000)
        ] == expected


PARTS = b"ab", b"abcdef", b"abcdefgh", b"\n", b"\n\n", b"   "


@given(st.lists(st.sampled_from(PARTS), max_size=12), st.integers(1, 9))
def test_only_what_is_too_long_is_left_out(parts: list[bytes], block: int) -> None:
    text = b"x" + b"".join(parts) + b"z"
    expected = [piece for piece in re.split(rb"(?:\n *){2,}", text.strip()) if piece.strip()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_BLOCK", block)
        patch.setattr(Path, "open", lambda *_: io.BytesIO(text))
        found = list(documents.read_raw(Path("text"), 40))
        assert [piece for piece in found if piece] == [
            piece for piece in expected if len(piece) <= 40
        ]
        assert len(found) == len(expected)
        lines = list(documents.read_raw(Path("text.jsonl"), 8))
        kept = [
            line if len(line.removesuffix(b"\n")) <= 8 else None
            for line in text.splitlines(keepends=True)
        ]
        assert lines == [line for line in kept if line is None or line.strip()]


def test_of_a_document_that_is_too_long_little_is_held(tmp_path: Path) -> None:
    for name, sign in (("long.txt.gz", b"a"), ("blank.txt.gz", b" "), ("lines.jsonl.gz", b"a")):
        (tmp_path / name).write_bytes(gzip.compress(b"a" + 40_000_000 * sign, 1))
        tracemalloc.start()
        found = list(documents.read_raw(tmp_path / name, 1_000_000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found == ([b"a"] if sign == b" " else [None])
        assert peak < 25_000_000


# The real command, in a process that does something to itself when it is about to give a file its name.
DISTURBED = """
import os, signal, sys
from valyrian_jax import __main__ as main
from valyrian_jax.cli.options import run_command
from valyrian_jax.data import shard_writer

shard_writer._GROUP_BYTES = 4000
name, nth, signals, to = sys.argv.pop(1), int(sys.argv.pop(1)), sys.argv.pop(1), sys.argv.pop(1)
seen = 0

def watch(event, arguments):
    global seen
    if event == "os.rename" and os.path.basename(arguments[1]) == name:
        seen += 1
        if seen == nth:
            (os.killpg if to == "group" else os.kill)(os.getpid(), getattr(signal, signals))

sys.addaudithook(watch)
run_command(main.main)
"""


def disturbed(home: Path, out: Path, name: str, nth: int, signal: str, to: str) -> tuple[int, str]:
    """Status and standard error of the command; it returns when its workers have ended too, as they hold the pipe."""
    options = ["--out", str(out), "--shard-tokens", "3000", "--workers", "2"]
    arguments = ["tokenizer", "encode", "t.json", "a.txt", "b.txt", *options]
    ended = subprocess.run(
        [sys.executable, "-c", DISTURBED, name, str(nth), signal, to, *arguments],
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )
    return ended.returncode, ended.stderr


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """The shards that the index knows, and what changes when they are written anew."""
    stats = {shard.name: (out / shard.name).stat() for shard in shards.read_index(out).shards}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


@pytest.fixture(scope="module")
def whole_here(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as `whole`, of names as the command in `home` has them."""
    out = tmp_path_factory.mktemp("shards") / "whole"
    encode_in(home, out)
    return out


def encode_in(home: Path, out: Path) -> None:
    with contextlib.chdir(home):
        shard_writer.encode(
            Path("t.json"), [Path("a.txt"), Path("b.txt")], out, QUIET, shard_tokens=3000, workers=1
        )


def test_a_killed_command_goes_on_where_it_was_and_leaves_no_worker(
    home: Path, whole_here: Path, tmp_path: Path
) -> None:
    out, kept = tmp_path / "killed", dict[str, tuple[int, int]]()
    # with a shard that the index does not know, then in the middle of one
    kills = [("index.json", 2, 0), ("shard-00002.bin", 1, 2)]
    for name, nth, shards_then in kills:
        assert disturbed(home, out, name, nth, "SIGKILL", "self")[0] == -9
        now = finished(out)
        assert len(now) == shards_then
        assert kept.items() <= now.items()
        kept = now
    encode_in(home, out)
    assert kept.items() <= finished(out).items()
    assert contents(out) == contents(whole_here)


@pytest.mark.parametrize(
    ("status", "signal", "to"), [(130, "SIGINT", "group"), (143, "SIGTERM", "self")]
)
def test_a_stopped_command_keeps_what_is_finished_and_says_how_to_go_on(
    home: Path, whole_here: Path, tmp_path: Path, status: int, signal: str, to: str
) -> None:
    found, err = disturbed(home, tmp_path / "s", "shard-00001.bin", 1, signal, to)
    assert found == status
    lines = err.splitlines()
    assert lines[0] == "stopping once what has begun is done and saved; once more: at once"
    assert re.fullmatch(
        rf"stopped by {signal} after 2 shards, 6,000 tokens, .* the same command goes on", lines[1]
    )
    assert len(lines) == 2  # and nothing from the workers
    before = finished(tmp_path / "s")
    assert len(before) == 2
    encode_in(home, tmp_path / "s")
    assert before.items() <= finished(tmp_path / "s").items()
    assert contents(tmp_path / "s") == contents(whole_here)


@pytest.mark.parametrize(("documents_of_group", "last"), [(1, 1), (2, 3)])
def test_a_restart_at_the_end_of_a_document_group_and_file_leaves_nothing_out(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documents_of_group: int, last: int
) -> None:
    # Documents of equal length, two in a shard, three in a file; between them one that is empty.
    for name, letters in (("x.jsonl", "abc"), ("y.jsonl", "def")):
        (tmp_path / name).write_bytes(
            as_lines([text for letter in letters for text in (letter, "")])
        )
    names = f"{tmp_path / 'x.jsonl'} {tmp_path / 'y.jsonl'}"
    monkeypatch.setattr(shard_writer, "_GROUP_DOCUMENTS", documents_of_group)
    write_shard = shards.write_shard

    def failing(directory: Path, number: int, *rest: Any) -> shards.Shard:
        if number == last:
            raise RuntimeError
        return write_shard(directory, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_shard", failing)
        with pytest.raises(RuntimeError):
            encode(home, names, tmp_path / "s", shard_tokens=4)
    assert len(finished(tmp_path / "s")) == last
    index = encode(home, names, tmp_path / "s", shard_tokens=4)
    assert (
        tokens(tmp_path / "s")
        == encode_documents("abcdef", Tokenizer.load(home / "t.json"), tmp_path).tolist()
    )
    assert (index.documents, index.size, index.skipped) == (6, 6, {"empty": 6})


def test_a_killed_worker_is_told_in_one_line(home: Path) -> None:
    others = {*multiprocessing.active_children()}
    group = shard_workers.Group(np.zeros((1, 2), np.int64), [(b"text", None)])
    results = shard_workers.encoded([group] * 9, home / "t.json", 1, lambda: None)
    next(results)
    (worker,) = {*multiprocessing.active_children()} - others
    worker.kill()
    with pytest.raises(UserError, match="a worker process was killed.*the same command goes on"):
        list(results)


@contextlib.contextmanager
def swapped(file: Path) -> Iterator[None]:
    """A file with one other letter, as long as before."""
    content = file.read_bytes()
    file.write_bytes(content[:-2] + b"#" + content[-1:])
    yield
    file.write_bytes(content)


def test_a_beginning_without_a_shard_stands_in_nobodys_way(home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    with pytest.raises(UserError, match="there is no document in"):
        encode(home, str(tmp_path / "empty.txt"), tmp_path / "s")
    assert encode(home, "a.txt", tmp_path / "s").finished


def test_what_was_begun_is_not_mixed_with_something_else(
    home: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    shutil.copytree(whole, out)
    index = shards.read_index(out)
    before = contents(out)

    def refused(message: str, **options: Any) -> None:
        arguments = {
            "vocabulary": home / "t.json",
            "files": [home / "a.txt", home / "b.txt"],
            "shard_tokens": 3000,
        }
        with pytest.raises(UserError, match=message):
            shard_writer.encode(**arguments | options, out=out, console=QUIET, workers=1)
        assert contents(out) == before

    train_bpe(pieces(home / "b.txt"), 299).save(tmp_path / "other.json")
    for _ in range(2):  # finished, then unfinished
        refused(
            "begun with a tokenizer of SHA-256 .*, and this is", vocabulary=tmp_path / "other.json"
        )
        refused(
            "begun with --shard-tokens 3000, and this is 3001; give the same", shard_tokens=3001
        )
        refused("begun with --text-key text, and this is body", text_key="body")
        refused("begun with a number of files of 2, and this is 1", files=[home / "a.txt"])
        refused(
            r"begun with the file .*a.txt \([\d,]+ bytes, \w+\), and this is .*b.txt",
            files=[home / "b.txt"] * 2,
        )
        with swapped(home / "a.txt"):
            refused(r"begun with the file .*a.txt \(.*\), and this is .*a.txt")
        unfinished = dataclasses.replace(
            index, finished=False, shards=index.shards[:1], tokens=3000
        )
        (out / "index.json").write_text(json.dumps(dataclasses.asdict(unfinished)))
        before = contents(out)
    (out / "shard-00000.bin").write_bytes(b"")
    before = contents(out)
    refused("shard-00000.bin is not a shard")
    with lock_directory(out):
        refused("another process is encoding text in")
    (out / "index.json").unlink()
    before = contents(out)
    refused("is not empty and has no index.json; choose another --out")


def test_finished_shards_get_a_lost_tokenizer_back(home: Path, tmp_path: Path) -> None:
    encode(home, "a.txt", tmp_path / "s")
    before = contents(tmp_path / "s")
    (tmp_path / "s" / "tokenizer.json").unlink()
    encode(home, "a.txt", tmp_path / "s")
    assert contents(tmp_path / "s") == before


@pytest.mark.parametrize("name", ["A.JSONL", "a.ndjson", "a.ndjson.GZ"])
def test_json_lines_are_known_by_other_endings_too(home: Path, tmp_path: Path, name: str) -> None:
    lines = "".join(json.dumps({"text": piece}) + "\n" for piece in pieces(home / "a.txt")).encode()
    (tmp_path / name).write_bytes(gzip.compress(lines) if name.endswith("GZ") else lines)
    index, expected = (
        encode(home, str(path), tmp_path / f"{path.name}.shards")
        for path in (tmp_path / name, home / "a.txt")
    )
    assert (index.tokens, index.documents) == (expected.tokens, expected.documents)


def test_a_vocabulary_is_learnt_from_what_is_encoded(home: Path, tmp_path: Path) -> None:
    whole = pieces(home / "a.txt")
    lines = [json.dumps({"body": piece}).encode() for piece in whole]
    (tmp_path / "a.jsonl.gz").write_bytes(
        gzip.compress(b"\n".join([*lines, b"{", b'{"text": "Rytsas"}']))
    )
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress((home / "a.txt").read_bytes()))
    for arguments in (["a.jsonl.gz", "--text-key", "body"], ["a.txt.gz"]):
        files = [str(tmp_path / arguments[0]), *arguments[1:]]
        command = [
            "tokenizer",
            "train",
            *files,
            "--vocab-size",
            "300",
            "-o",
            str(tmp_path / "t.json"),
        ]
        assert CliRunner().invoke(main.main, command).exit_code == 0
        assert Tokenizer.load(tmp_path / "t.json") == train_bpe(whole, 300)


def test_a_file_of_which_nothing_is_taken_is_named(home: Path, tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text('{"body": "Rytsas"}\n{"body": "Valar"}\n\n')
    (tmp_path / "some.jsonl").write_text('{"text": "Rytsas"}\n{"body": "Valar"}\n')
    shown = io.StringIO()
    files = [
        tmp_path / "other.jsonl",
        home / "a.txt",
        tmp_path / "some.jsonl",
        tmp_path / "other.jsonl",
    ]
    shard_writer.encode(
        home / "t.json", files, tmp_path / "s", Console(file=shown, width=20), workers=1
    )
    line = f"note: nothing is taken of {tmp_path / 'other.jsonl'}: 2 no text under the key\n"
    assert shown.getvalue() == 2 * line


def test_a_file_that_was_begun_before_is_not_said_to_be_in_vain(
    home: Path, tmp_path: Path, small_groups: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = "".join(json.dumps({"text": piece}) + "\n" for piece in pieces(home / "a.txt"))
    (tmp_path / "half.jsonl").write_text(good + "{\n" * 9000)
    size = (
        encode(home, "a.txt", tmp_path / "a").tokens - 1
    )  # a shard that ends with the last good document
    write, shown = shards.write_shard, io.StringIO()

    def full(directory: Path, number: int, *rest: Any) -> Any:
        if number:
            raise OSError(28, "No space left on device")
        return write(directory, number, *rest)

    def again() -> shards.ShardIndex:
        files, console = [tmp_path / "half.jsonl"], Console(file=shown)
        return shard_writer.encode(
            home / "t.json", files, tmp_path / "s", console, shard_tokens=size, workers=1
        )

    with monkeypatch.context() as disk:
        disk.setattr(shards, "write_shard", full)
        with pytest.raises(OSError, match="No space"):
            again()
    shown.truncate(0)
    assert again().skipped == {documents.NOT_JSON: 9000}
    assert shown.getvalue() == ""


def test_a_full_disk_is_said_with_what_is_kept(home: Path, tmp_path: Path) -> None:
    command = f"ulimit -f 12; exec {shlex.quote(sys.executable)} -m valyrian_jax tokenizer encode t.json a.txt --out s"
    command += " --shard-tokens 8000 --workers 1"  # of 16,064 bytes; bash counts in 1,024
    (tmp_path / "t.json").write_bytes((home / "t.json").read_bytes())
    (tmp_path / "a.txt").write_bytes((home / "a.txt").read_bytes())
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    kept = "; finished shards are kept, and the same command goes on"
    assert done.stderr == f"error: cannot write s/shard-00000.bin: File too large{kept}\n"


def test_what_cannot_be_read_twice_is_refused(home: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(
            UserError, match=f"cannot read the text {path}: with --out it must be a file"
        ):
            encode(home, str(path), tmp_path / "s")


def test_files_that_cannot_be_read_are_named(home: Path, tmp_path: Path) -> None:
    whole = gzip.compress((home / "a.txt").read_bytes())
    damaged = {
        "cut.gz": whole[:-100],
        "plain.txt.gz": b"no gzip",
        "bits.jsonl.gz": whole[:500] + b"?" * 9 + whole[509:],
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
        (
            ["a.txt", "b.txt"],
            "expected one FILE, found 2; to write them as shards say --out DIRECTORY",
        ),
        (
            ["--workers", "2", "a.txt"],
            "--text-key, --shard-tokens and --workers go together with --out",
        ),
        (["--out", "s"], "--out takes one FILE or more, and no --show-tokens"),
        (
            ["--out", "s", "a.txt", "--show-tokens"],
            "--out takes one FILE or more, and no --show-tokens",
        ),
        (["none.txt"], "Invalid value for '[FILE]': 'none.txt': No such file or directory"),
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
    status, out, err = call(
        main.main, capsys, monkeypatch, "tokenizer", "encode", "t.json", *arguments
    )
    assert (status, out, err) == (2, "", f"error: {message}\n")


def test_a_terminal_shows_how_fast_it_is(home: Path, tmp_path: Path) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=100)
    shard_writer.encode(home / "t.json", [home / "a.txt"], tmp_path / "s", terminal, workers=1)
    assert re.search(r"[\d,]+ tokens, 0 MB of text, [\d,]+ tokens/s", shown.getvalue())
