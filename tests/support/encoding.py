"""Encode texts as shards, and read the result."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from rich.console import Console

from valyrian_jax.data.reading.text_loader import load_text
from valyrian_jax.data.shards import writer
from valyrian_jax.data.shards.index import (
    InputFile,
    Position,
    Shard,
    ShardIndex,
    read_index,
    write_index,
)
from valyrian_jax.data.shards.shard_set import open_shards, read_tokens, token_dtype, write_shard
from valyrian_jax.data.shards.writer import encode_files
from valyrian_jax.tokenizer import Tokenizer, train_bpe

QUIET = Console(quiet=True)


def read_all_documents(path: Path) -> list[str]:
    """Return the documents of a text."""
    return load_text(path).documents


def to_json_lines(texts: list[str], key: str = "text") -> bytes:
    """Return a line of JSON for each text."""
    records = ({"id": 1, key: text} for text in texts)
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def to_parquet(columns: Mapping[str, Sequence[object]]) -> bytes:
    """Return a table as Parquet, in several row groups."""
    output = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(columns), output, row_group_size=2)
    return output.getvalue().to_pybytes()


def encode(home: Path, names: str, out: Path, **options: Any) -> ShardIndex:
    """Encode files with home/t.json; relative names are files in `home`."""
    settings: dict[str, Any] = {"console": QUIET, "shard_tokens": 3000, "workers": 1}
    with contextlib.chdir(home):
        return encode_files(Path("t.json"), [*map(Path, names.split())], out, **settings | options)


def encode_until(number: int, home: Path, names: str, out: Path, **options: Any) -> None:
    """Encode files, and fail before shard `number` is written."""
    write = writer.write_shard

    def fail(directory: Path, shard: int, *rest: Any) -> Shard:
        if shard == number:
            raise RuntimeError
        return write(directory, shard, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "write_shard", fail)
        with pytest.raises(RuntimeError):
            encode(home, names, out, **options)
    assert len(identify_shards(out)) == number


def read_all_tokens(out: Path) -> list[int]:
    """Return all tokens of the shards in a directory."""
    shards = open_shards(out)
    return read_tokens(shards, 0, shards.index.tokens).tolist()


def read_contents(out: Path) -> dict[str, bytes]:
    """Return the contents of the files in a directory."""
    return {path.name: path.read_bytes() for path in out.iterdir()}


def identify_shards(out: Path) -> dict[str, tuple[int, int]]:
    """Return, for each shard in the index, values that change if it is written again."""
    stats = {shard.name: (out / shard.name).stat() for shard in read_index(out).shards}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def write_tokens(
    directory: Path, shards: list[np.ndarray[Any, np.dtype[Any]]], vocab_size: int = 280
) -> None:
    """Write shards of some tokens, and a tokenizer with `vocab_size` tokens."""
    directory.mkdir()
    smallest = train_bpe("aaab" * 3, 257)
    extra_tokens = (b"a%d" % i for i in range(vocab_size - 257))
    tokens = (*smallest.tokens[:-1], *extra_tokens, smallest.tokens[-1])
    tokenizer = Tokenizer(tokens, (), {"<|endoftext|>": vocab_size - 1})
    tokenizer.save(directory / "tokenizer.json")
    dtype = token_dtype(vocab_size)
    entries = tuple(
        write_shard(directory, number, [tokens.astype(dtype)], tokenizer.sha256)
        for number, tokens in enumerate(shards)
    )
    index = ShardIndex(
        format=1,
        finished=True,
        tokenizer_sha256=tokenizer.sha256,
        vocab_size=vocab_size,
        shard_tokens=len(shards[0]),
        text_key="text",
        inputs=(InputFile("a", 1, "0" * 64),),
        tokens=sum(map(len, shards)),
        documents=1,
        size=1,
        skipped={},
        position=Position(0, 0, 0),
        shards=entries,
    )
    write_index(directory, index)
