"""Shard files: the tokens that were written are read, and damaged files are refused."""

import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.encoding import read_all_documents, write_tokens
from tests.support.tiny import WORDS
from valyrian_jax.data.shards.shard_set import open_shards, read_tokens
from valyrian_jax.data.text import encode_documents
from valyrian_jax.errors import UserError
from valyrian_jax.files import writing
from valyrian_jax.tokenizer import train_bpe


def test_tokens_are_read_across_the_borders_of_shards(
    small_shards: Path, small_text: Path, tmp_path: Path
) -> None:
    opened = open_shards(small_shards)
    whole = encode_documents(read_all_documents(small_text), opened.tokenizer, tmp_path)
    assert len(opened.index.shards) > 9
    size, draw = len(whole), np.random.default_rng(0)
    spans = [(0, size), (0, 333), (333, 333), (332, 2), (size - 1, 5), (size, 5), (7, 0)]
    spans += zip(draw.integers(0, size, 300), draw.integers(0, 1200, 300), strict=True)
    for start, count in spans:
        tokens = read_tokens(opened, int(start), int(count))
        np.testing.assert_array_equal(tokens, whole[start : start + count])
        assert tokens.dtype == np.uint16


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65536, np.uint16), (65537, np.uint32)])
def test_tokens_are_as_small_as_the_vocabulary_allows(
    tmp_path: Path, vocab_size: int, dtype: type
) -> None:
    tokens = np.arange(vocab_size - 5, vocab_size)
    write_tokens(tmp_path / "s", [tokens], vocab_size)
    opened = open_shards(tmp_path / "s")
    assert read_tokens(opened, 0, 5).dtype == dtype
    assert read_tokens(opened, 0, 5).tolist() == tokens.tolist()
    content = (tmp_path / "s" / "shard-00000.bin").read_bytes()
    assert content[:8] == b"VALSHARD"
    assert content[64:] == tokens.astype(np.dtype(dtype).newbyteorder("<")).tobytes()


@pytest.mark.slow
def test_thousands_of_shards_need_few_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The files need not survive a power failure.
    monkeypatch.setattr(writing, "sync_to_disk", lambda *_: None)
    write_tokens(tmp_path / "s", list(np.arange(6000).reshape(2000, 3) % 280))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (600, limits[1]))
    try:
        opened = open_shards(tmp_path / "s")
        assert read_tokens(opened, 0, 6000).tolist() == [i % 280 for i in range(6000)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("size", [0, 64, 100])
def test_a_shard_that_is_shortened_while_it_is_used_is_an_error(size: int, tmp_path: Path) -> None:
    write_tokens(tmp_path / "s", [np.arange(200) % 280, np.arange(200) % 280])
    opened = open_shards(tmp_path / "s")
    assert len(read_tokens(opened, 190, 20)) == 20  # opens both; mapped, the next would be SIGBUS
    os.truncate(tmp_path / "s" / "shard-00001.bin", size)
    assert len(read_tokens(opened, 0, 200)) == 200
    with pytest.raises(UserError, match=f"shard-00001.bin has become shorter .* found {size:,}"):
        read_tokens(opened, 190, 100)


def test_a_shard_that_is_lost_or_replaced_by_a_fifo_is_an_error(tmp_path: Path) -> None:
    write_tokens(tmp_path / "s", [np.arange(200) % 280] * 3)
    opened = open_shards(tmp_path / "s")
    (tmp_path / "s" / "shard-00000.bin").unlink()
    (tmp_path / "s" / "shard-00001.bin").unlink()
    os.mkfifo(tmp_path / "s" / "shard-00001.bin")
    with pytest.raises(UserError, match="shard-00000.bin: No such file"):
        read_tokens(opened, 0, 2)
    with pytest.raises(UserError, match="expected a regular file, found a FIFO"):
        read_tokens(opened, 200, 2)


def overwrite(offset: int, content: bytes) -> Callable[[Path], None]:
    """Overwrite bytes of the second shard."""

    def damage(directory: Path) -> None:
        with (directory / "shard-00001.bin").open("rb+") as file:
            file.seek(offset)
            file.write(content)

    return damage


def edit_index(**changes: Any) -> Callable[[Path], None]:
    """Change values of the index."""

    def damage(directory: Path) -> None:
        path = directory / "index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            overwrite(0, b"GPT2TOKS"),
            r"shard-00001.bin is not a shard: it begins with b'GPT2TOKS', expected b'VALSHARD'",
        ),
        (overwrite(8, b"\2"), "shard-00001.bin has format version 2, expected 1"),
        (overwrite(12, b"\4"), "shard-00001.bin has bytes of a token 4, expected 2"),
        (overwrite(16, b"\0"), "shard-00001.bin has number of tokens 256, expected 333"),
        (
            overwrite(30, b"\1\2\3\4"),
            "shard-00001.bin has SHA-256 of the tokenizer .*, expected .*; copy it again",
        ),
        (
            overwrite(64 + 666, b"more"),
            "shard-00001.bin has 734 bytes, expected 730; copy it again",
        ),
        (lambda d: (d / "shard-00001.bin").write_bytes(b"VALS"), "shard-00001.bin is not a shard"),
        (
            lambda d: (d / "shard-00001.bin").unlink(),
            "cannot read the shard .*00001.bin: No such file",
        ),
        (
            lambda d: (d / "tokenizer.json").unlink(),
            "cannot read the tokenizer .*tokenizer.json: No such file",
        ),
        (
            lambda d: train_bpe(WORDS + " the the", 280).save(d / "tokenizer.json"),
            "has SHA-256 .* were made with .* put that tokenizer back",
        ),
        (
            lambda d: (d / "index.json").unlink(),
            "Is a directory without index.json; expected a UTF-8 text file, or",
        ),
        (
            lambda d: (d / "index.json").write_text("{"),
            "index.json is not an index of shards: .*; copy it again, or encode the text into "
            "another --out",
        ),
        (edit_index(finished=False), "are not an index|index.json is not an index of shards"),
        (
            edit_index(finished=False, shards=[], tokens=0),
            "are not finished: 0 tokens so far; run the same `tokenizer encode` command again",
        ),
        (edit_index(tokens=5), "tokens = 5 is not the sum"),
        (edit_index(shard_tokens=332), "shard 0 is shard-00000.bin with 333 tokens"),
        (edit_index(format=3), "index.json is not an index of shards: format"),
        (edit_index(more=1), "index.json is not an index of shards: more"),
    ],
)
def test_damaged_and_foreign_shards_are_refused(
    damage: Callable[[Path], object], message: str, small_shards: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(small_shards, tmp_path / "copy"))
    damage(copy)
    with pytest.raises(UserError, match=message) as caught:
        open_shards(copy)
    assert "\n" not in str(caught.value)
