"""Fuzzing targets for texts, shards and token ids."""

import functools
import gzip
import json
import random
import tempfile
from pathlib import Path

import numpy as np
import pyarrow
import zstandard
from pyarrow import parquet

from tests.support.fuzzing import Files, Target
from tests.support.mutating import damage_bytes, damage_json_text
from tests.support.targets import MODEL, make_damage, make_tokenizer
from valyrian_jax.cli.tokenizer_commands import parse_token_ids
from valyrian_jax.config import BLANK_LINE
from valyrian_jax.data.reading.documents import GOOD, decode_document, read_documents
from valyrian_jax.data.reading.text_loader import load_text
from valyrian_jax.data.shards import dataset as shard_dataset
from valyrian_jax.data.shards.index import InputFile, Position, ShardIndex, write_index
from valyrian_jax.data.shards.shard_set import write_shard
from valyrian_jax.data.shards.split import split_shards
from valyrian_jax.errors import UserError

# Shards and their index. Their tokenizer stays whole; it is a target of its own.


@functools.cache
def make_shard_files() -> Files:
    """Return the files of three shards of the smallest size."""
    tokenizer = make_tokenizer()
    tokens = np.arange(20, dtype=np.uint16)
    tokens[[0, 7, 12, 17, 19]] = tokenizer.end_of_text
    with tempfile.TemporaryDirectory() as name:
        tokenizer.save(Path(name) / "tokenizer.json")
        entries = tuple(
            write_shard(Path(name), number, [tokens[start : start + 8]], tokenizer.sha256)
            for number, start in enumerate((0, 8, 16))
        )
        index = ShardIndex(
            format=1,
            finished=True,
            tokenizer_sha256=tokenizer.sha256,
            vocab_size=MODEL.vocab_size,
            shard_tokens=8,
            text_key="text",
            inputs=(InputFile("text.txt", 40, "0" * 64),),
            tokens=20,
            documents=2,
            size=36,
            skipped={"empty": 1},
            position=Position(0, 1, 5),
            shards=entries,
        )
        write_index(Path(name), index)
        return {path.name: path.read_bytes() for path in sorted(Path(name).iterdir())}


def damage_shards(draw: random.Random, files: Files) -> Files:
    name = draw.choice(sorted(files.keys() - {"tokenizer.json"}))
    damage = damage_json_text if name.endswith(".json") else damage_bytes
    return files | {name: damage(draw, files[name])}


def read_shards(directory: Path) -> None:
    """Read all tokens as training and evaluation do."""
    tokenizer, split = make_tokenizer(), split_shards(directory, 0.2)
    assert shard_dataset.read_batch(split, 0, 0, 20, 1).max() < tokenizer.vocab_size
    assert shard_dataset.count_token_bytes(shard_dataset.read_held_out(split), tokenizer) > 0


def read_token_ids(directory: Path) -> None:
    make_tokenizer().decode_bytes(parse_token_ids((directory / "ids.txt").read_bytes()))


# Texts in every form, named by a form that they need not have.


@functools.cache
def make_texts() -> Files:
    """Return the same documents as plain text, JSON and Parquet, also compressed."""
    documents = ["Ēza zaldrīzes.", "a \0 b\x1b[m\n<|endoftext|>", "龍。"]
    plain = "\n\n".join(documents)
    records = [{"text": document} for document in documents]
    output = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table({"text": documents}), output)
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    return {
        "plain": plain.encode(),
        "utf-16": plain.encode("utf-16"),
        "utf-32": plain.encode("utf-32"),
        "gzip": gzip.compress(lines),
        "zstd": zstandard.compress(plain.encode("utf-16")),
        "lines": lines,
        "array": json.dumps(records, indent=1, ensure_ascii=False).encode(),
        "parquet": output.getvalue().to_pybytes(),
    }


def damage_text(draw: random.Random, files: Files) -> Files:
    """Keep one of the texts, damaged."""
    name = draw.choice(sorted(make_texts()))
    damage = damage_json_text if name == "array" else damage_bytes
    return {"text": damage(draw, make_texts()[name])}


def read_any_text(directory: Path) -> None:
    """Read a text into memory and as a stream, at two separators."""
    path = directory / "text"
    for separator in (BLANK_LINE, "re:<.*?>"):
        try:
            text = load_text(path, separator=separator)
        except UserError:
            for document in read_documents(path, separator=separator):
                decode_document(document)
            raise
        decoded = map(decode_document, read_documents(path, separator=separator))
        assert [d.text for d in decoded if d.reason == GOOD] == [
            document for document in text.documents if document.strip()
        ]


TARGETS = {
    "text": Target(lambda: {"text": make_texts()["plain"]}, damage_text, read_any_text),
    "shards": Target(make_shard_files, damage_shards, read_shards, share=0.3),
    "token ids": Target(
        lambda: {"ids.txt": b"97 98 256 257 258 259\n1 2 3\n"},
        make_damage(("ids.txt",), damage_bytes),
        read_token_ids,
    ),
}
