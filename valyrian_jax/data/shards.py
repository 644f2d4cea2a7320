"""Tokens in files of one size, for texts that do not fit into memory.

A directory holds `tokenizer.json`, `index.json` and `shard-00000.bin`, `shard-00001.bin`, ... Each shard is 64 bytes of
header (magic, version, bytes of a token, number of tokens, SHA-256 of the tokenizer; little-endian) and then its
tokens, uint16 where the vocabulary allows it, else uint32. All shards but the last hold the same number of tokens, so
that a place in the whole is found without a search. Opening looks at sizes and headers; the SHA-256 of every file is
in the index for whoever wants to look at all bytes (`sha256sum`).
"""

import dataclasses
import functools
import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from valyrian_jax.errors import UserError
from valyrian_jax.files import read_text, rename_durably
from valyrian_jax.tokenizer import Tokenizer

Tokens = npt.NDArray[np.unsignedinteger]

INDEX, TOKENIZER = "index.json", "tokenizer.json"
MAGIC, VERSION = b"VALSHARD", 1
HEADER = struct.Struct("<8sIIQ32s8x")
_MAPPED = 256  # shards that are mapped at a time: each holds a file open, of which a process may have about a thousand

_STRICT = ConfigDict(extra="forbid", strict=True)
_Count = Annotated[int, Field(ge=0, lt=2**62)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, config=_STRICT)
class Shard:
    """A finished shard."""

    name: str
    tokens: Annotated[int, Field(ge=1, lt=2**62)]
    sha256: _Sha256


@dataclass(frozen=True, config=_STRICT)
class InputFile:
    """A file of text."""

    name: str
    size: _Count  # bytes
    ends_sha256: _Sha256  # of the first and the last MB


@dataclass(frozen=True, config=_STRICT)
class Position:
    """Where the first token after the last finished shard comes from."""

    file: _Count
    document: _Count
    token: _Count


@dataclass(frozen=True, config=_STRICT)
class ShardIndex:
    """What a directory of shards says of itself.

    Attributes:
        finished: whether all text is in the shards.
        shard_tokens: of every shard but the last.
        text_key: of the text in JSON lines.
        documents: whole documents in the finished shards.
        size: bytes of these documents, in UTF-8.
        skipped: a reason -> how many documents are left out for it.
        position: where to go on.
    """

    format: Literal[1]
    finished: bool
    tokenizer_sha256: _Sha256
    vocab_size: Annotated[int, Field(ge=257, lt=2**31)]
    shard_tokens: Annotated[int, Field(ge=1, lt=2**62)]
    text_key: str
    inputs: tuple[InputFile, ...]
    tokens: _Count
    documents: _Count
    size: _Count
    skipped: dict[str, _Count]
    position: Position
    shards: tuple[Shard, ...]

    @model_validator(mode="after")
    def _shards_agree(self) -> "ShardIndex":
        for number, shard in enumerate(self.shards):
            full = shard.tokens == self.shard_tokens
            last = (
                self.finished
                and number == len(self.shards) - 1
                and shard.tokens < self.shard_tokens
            )
            if shard.name != shard_name(number) or not (full or last):
                raise ValueError(
                    f"shard {number} is {shard.name} with {shard.tokens} tokens, expected {shard_name(number)}"
                )
        if self.tokens != sum(shard.tokens for shard in self.shards):
            raise ValueError(f"tokens = {self.tokens} is not the sum of those of the shards")
        return self


_INDEX = TypeAdapter(ShardIndex)


@dataclasses.dataclass(frozen=True)
class ShardSet:
    """Finished shards, opened.

    Attributes:
        piece: the number of a shard -> its tokens, mapped into memory.
    """

    directory: Path
    index: ShardIndex
    tokenizer: Tokenizer
    piece: Callable[[int], Tokens]


def shard_name(number: int) -> str:
    """The name of a shard's file."""
    return f"shard-{number:05}.bin"


def token_dtype(vocab_size: int) -> np.dtype[np.unsignedinteger]:
    """The type of tokens in memory and, little-endian, in a shard: uint16 up to a vocabulary of 65,536, else uint32."""
    return np.min_scalar_type(vocab_size - 1).newbyteorder("<")


def is_shard_directory(path: str | Path) -> bool:
    """Whether a path is a directory, which as a text can only be one of shards."""
    try:
        return Path(path).is_dir()
    except OSError:  # a name that is too long, say; whoever opens it tells
        return False


def write_shard(directory: Path, number: int, parts: Sequence[Tokens], sha256: str) -> Shard:
    """Write one shard, whole or not at all, also in a loss of power.

    Args:
        directory: of the shards.
        number: of this one.
        parts: its tokens, one behind the other, all of the type that `dtype` gives.
        sha256: of the tokenizer.

    Returns:
        Its entry in the index.
    """
    path = directory / shard_name(number)
    partial = path.with_name(path.name + ".partial")
    tokens = sum(map(len, parts))
    header = HEADER.pack(MAGIC, VERSION, parts[0].itemsize, tokens, bytes.fromhex(sha256))
    digest = hashlib.sha256(header)
    try:
        with partial.open("wb") as file:
            file.write(header)
            for part in parts:
                data = np.ascontiguousarray(part).data.cast("B")
                file.write(data)
                digest.update(data)
        rename_durably(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)  # it may be large, and the disk full
        raise _cannot_write(path, error) from error
    return Shard(path.name, tokens, digest.hexdigest())


def write_index(directory: Path, index: ShardIndex) -> None:
    """Write the index, whole or not at all, also in a loss of power."""
    partial = directory / f"{INDEX}.partial"
    try:
        partial.write_text(json.dumps(dataclasses.asdict(index), indent=1) + "\n", encoding="utf-8")
        rename_durably(partial, directory / INDEX)
    except OSError as error:
        raise _cannot_write(directory / INDEX, error) from error


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write {path}: {error.strerror or error}; finished shards are kept, and the same command goes on"
    )


def read_index(directory: Path) -> ShardIndex:
    """The index of a directory of shards, finished or not.

    Raises:
        UserError: it is missing or damaged.
    """
    path = directory / INDEX
    if not path.exists():
        raise UserError(
            f"cannot read the text {directory}: Is a directory without {INDEX}; expected a UTF-8 text file, or a "
            "directory of shards as `python -m valyrian_jax tokenizer encode --out` writes them"
        )
    try:
        return _INDEX.validate_json(read_text(path, "the index of shards"))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"])) or "it"
        raise UserError(
            f"{path} is not an index of shards: {place}: {problem['msg']}; copy it again, or encode the text into "
            "another --out"
        ) from error


def open_shards(directory: Path) -> ShardSet:
    """Open finished shards; every header and size is looked at, no token.

    Raises:
        UserError: something is missing, unfinished, damaged or does not belong to the rest.
    """
    index = read_index(directory)
    if not index.finished:
        raise UserError(
            f"the shards in {directory} are not finished: {index.tokens:,} tokens so far; go on with the "
            "`tokenizer encode` command that began them"
        )
    tokenizer = Tokenizer.load(directory / TOKENIZER)
    if tokenizer.sha256 != index.tokenizer_sha256 or tokenizer.vocab_size != index.vocab_size:
        raise UserError(
            f"{directory / TOKENIZER} has SHA-256 {tokenizer.sha256[:12]}, but the shards beside it were made with "
            f"{index.tokenizer_sha256[:12]}; put the file of that tokenizer back, or encode the text into another --out"
        )
    for number in range(len(index.shards)):
        check(directory, index, number)
    return ShardSet(
        directory,
        index,
        tokenizer,
        functools.lru_cache(_MAPPED)(functools.partial(_map, directory, index)),
    )


def check(directory: Path, index: ShardIndex, number: int) -> None:
    """Hold the header and the size of a shard to what the index says.

    Raises:
        UserError: they are not the same.
    """
    path, tokens = directory / shard_name(number), index.shards[number].tokens
    expected = (
        MAGIC,
        VERSION,
        token_dtype(index.vocab_size).itemsize,
        tokens,
        bytes.fromhex(index.tokenizer_sha256),
    )
    again = "copy it again, or encode the text into another --out"
    try:
        with path.open("rb") as file:
            header = file.read(HEADER.size)
            size = file.seek(0, 2)
    except OSError as error:
        raise UserError(f"cannot read the shard {path}: {error.strerror}; {again}") from error
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise UserError(
            f"{path} is not a shard: it begins with {header[:8]!r}, expected {MAGIC!r}; {again}"
        )
    fields = (
        "magic",
        "format version",
        "bytes of a token",
        "number of tokens",
        "SHA-256 of the tokenizer",
    )
    for field, found, wanted in zip(fields, HEADER.unpack(header), expected, strict=True):
        if found != wanted:
            shown = [
                value.hex()[:12] if isinstance(value, bytes) else value for value in (found, wanted)
            ]
            raise UserError(
                f"the shard {path} has {field} {shown[0]}, expected {shown[1]}; {again}"
            )
    if size != (whole := HEADER.size + expected[2] * expected[3]):
        raise UserError(f"the shard {path} has {size:,} bytes, expected {whole:,}; {again}")


def _map(directory: Path, index: ShardIndex, number: int) -> Tokens:
    """The tokens of one shard, mapped."""
    shard = index.shards[number]
    return np.asarray(
        np.memmap(
            directory / shard.name, token_dtype(index.vocab_size), "r", HEADER.size, (shard.tokens,)
        )
    )


def read(shards: ShardSet, start: int, count: int) -> Tokens:
    """Tokens from a place in the whole on, across the borders of shards; fewer at the end of the whole."""
    size, end = shards.index.shard_tokens, min(start + count, shards.index.tokens)
    tokens = np.empty(max(end - start, 0), token_dtype(shards.index.vocab_size))
    done = 0
    while done < len(
        tokens
    ):  # copied at once, so that no more shards stay mapped than `piece` keeps
        number, place = divmod(start + done, size)
        part = shards.piece(number)[place : place + len(tokens) - done]
        tokens[done : done + len(part)] = part
        done += len(part)
    return tokens


def sha256(index: ShardIndex) -> str:
    """The SHA-256 of what is in the shards: of their tokenizer, their sizes and the SHA-256 of each one."""
    content = [index.tokenizer_sha256, [(shard.tokens, shard.sha256) for shard in index.shards]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
