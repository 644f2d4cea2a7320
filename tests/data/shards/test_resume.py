"""Interrupted encoding: the same command resumes it, and the shards are the same bytes."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.encoding import (
    QUIET,
    encode,
    encode_until,
    identify_shards,
    read_all_documents,
    read_all_tokens,
    read_contents,
    to_json_lines,
)
from valyrian_jax.data.shards import inputs, writer
from valyrian_jax.data.shards.index import read_index
from valyrian_jax.data.text import encode_documents
from valyrian_jax.errors import UserError
from valyrian_jax.files import lock_directory
from valyrian_jax.tokenizer import Tokenizer, train_bpe

ROOT = Path(__file__).parents[3]

# The real command, in a process that signals itself when it is about to rename a file.
INTERRUPTED = """
import os, signal, sys
from valyrian_jax.cli.main import main
from valyrian_jax.cli.entry_point import run_command
from valyrian_jax.data.shards import inputs, writer

inputs._GROUP_BYTES = 4000
name, nth, signals, to = sys.argv.pop(1), int(sys.argv.pop(1)), sys.argv.pop(1), sys.argv.pop(1)
seen = 0

def watch(event, arguments):
    global seen
    if event == "os.rename" and os.path.basename(arguments[1]) == name:
        seen += 1
        if seen == nth:
            (os.killpg if to == "group" else os.kill)(os.getpid(), getattr(signal, signals))

sys.addaudithook(watch)
run_command(main)
"""


def interrupt(home: Path, out: Path, name: str, nth: int, signal: str, to: str) -> tuple[int, str]:
    """Run the command and signal it at the nth renaming of a file.

    Returns:
        Exit status and standard error. The workers have ended too, because they hold the pipe.
    """
    options = ["--out", str(out), "--shard-tokens", "3000", "--workers", "2"]
    arguments = ["tokenizer", "encode", "t.json", "a.txt", "b.txt", *options]
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, name, str(nth), signal, to, *arguments],
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )
    return ended.returncode, ended.stderr


@pytest.mark.slow
def test_a_killed_command_resumes_and_leaves_no_worker(
    home: Path, whole: Path, tmp_path: Path
) -> None:
    out, before = tmp_path / "killed", dict[str, tuple[int, int]]()
    # First with a shard that is not in the index yet, then while a shard is written.
    for name, nth, shards in [("index.json", 2, 0), ("shard-00002.bin", 1, 2)]:
        assert interrupt(home, out, name, nth, "SIGKILL", "self")[0] == -9
        after = identify_shards(out)
        assert len(after) == shards
        assert before.items() <= after.items()
        before = after
    encode(home, "a.txt b.txt", out)
    assert before.items() <= identify_shards(out).items()
    assert read_contents(out) == read_contents(whole)


@pytest.mark.parametrize(
    ("status", "signal", "to"), [(130, "SIGINT", "group"), (143, "SIGTERM", "self")]
)
def test_a_stopped_command_keeps_finished_shards_and_says_how_to_resume(
    home: Path, whole: Path, tmp_path: Path, status: int, signal: str, to: str
) -> None:
    ended, err = interrupt(home, tmp_path / "s", "shard-00001.bin", 1, signal, to)
    assert ended == status
    first, second = err.splitlines()  # and nothing from the workers
    assert first == "finishing the current work and saving; press Ctrl-C again to quit now"
    assert re.fullmatch(
        rf"stopped after 2 shards, 6,000 tokens \({signal}\); .* run the same command again .*",
        second,
    )
    before = identify_shards(tmp_path / "s")
    assert len(before) == 2
    encode(home, "a.txt b.txt", tmp_path / "s")
    assert before.items() <= identify_shards(tmp_path / "s").items()
    assert read_contents(tmp_path / "s") == read_contents(whole)


@pytest.mark.parametrize(("group_documents", "last"), [(1, 1), (2, 3)])
def test_resuming_at_the_end_of_a_document_group_and_file_skips_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_documents: int, last: int
) -> None:
    # Documents of equal length, two in a shard, three in a file; an empty one after each.
    for name, letters in (("x.jsonl", "abc"), ("y.jsonl", "def")):
        texts = [text for letter in letters for text in (letter, "")]
        (tmp_path / name).write_bytes(to_json_lines(texts))
    names = f"{tmp_path / 'x.jsonl'} {tmp_path / 'y.jsonl'}"
    monkeypatch.setattr(inputs, "_GROUP_DOCUMENTS", group_documents)
    encode_until(last, home, names, tmp_path / "s", shard_tokens=4)
    index = encode(home, names, tmp_path / "s", shard_tokens=4)
    expected = encode_documents("abcdef", Tokenizer.load(home / "t.json"), tmp_path)
    assert read_all_tokens(tmp_path / "s") == expected.tolist()
    assert (index.documents, index.size, index.skipped) == (6, 6, {"empty": 6})


def test_a_directory_without_a_shard_can_be_used_for_another_text(
    home: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").touch()
    with pytest.raises(UserError, match="there is no document in"):
        encode(home, str(tmp_path / "empty.txt"), tmp_path / "s")
    assert encode(home, "a.txt", tmp_path / "s").finished


@contextlib.contextmanager
def changed_letter(file: Path) -> Iterator[None]:
    """A file of the same size with another letter."""
    content = file.read_bytes()
    file.write_bytes(content[:-2] + b"#" + content[-1:])
    yield
    file.write_bytes(content)


def test_shards_are_not_continued_with_other_input(home: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    shutil.copytree(whole, out)
    index = read_index(out)
    before = read_contents(out)

    def refuse(message: str, names: str = "a.txt b.txt", **options: Any) -> None:
        arguments = {"vocabulary": Path("t.json"), "shard_tokens": 3000} | options
        with contextlib.chdir(home), pytest.raises(UserError, match=message):
            writer.encode_files(
                files=[*map(Path, names.split())], out=out, console=QUIET, workers=1, **arguments
            )
        assert read_contents(out) == before

    train_bpe(read_all_documents(home / "b.txt"), 299).save(tmp_path / "other.json")
    for _ in range(2):  # finished, then unfinished
        refuse("started with a tokenizer of SHA-256 .*, found", vocabulary=tmp_path / "other.json")
        refuse("started with --shard-tokens 3000, found 3001; use the same", shard_tokens=3001)
        refuse("started with --text-key text, found body", text_key="body")
        refuse("started with this number of files: 2, found 1", "a.txt")
        refuse(r"started with the file a.txt \([\d,]+ bytes, \w+\), found b.txt", "b.txt b.txt")
        with changed_letter(home / "a.txt"):
            refuse(r"started with the file a.txt \(.*\), found a.txt")
        unfinished = dataclasses.replace(
            index, finished=False, shards=index.shards[:1], tokens=3000
        )
        (out / "index.json").write_text(json.dumps(dataclasses.asdict(unfinished)))
        before = read_contents(out)
    (out / "shard-00000.bin").write_bytes(b"")
    before = read_contents(out)
    refuse("shard-00000.bin is not a shard")
    with lock_directory(out):
        refuse("another process is encoding text in")
    (out / "index.json").unlink()
    before = read_contents(out)
    refuse("is not empty and has no index.json; choose another --out")


def test_a_lost_tokenizer_is_written_again(home: Path, tmp_path: Path) -> None:
    encode(home, "a.txt", tmp_path / "s")
    before = read_contents(tmp_path / "s")
    (tmp_path / "s" / "tokenizer.json").unlink()
    encode(home, "a.txt", tmp_path / "s")
    assert read_contents(tmp_path / "s") == before
