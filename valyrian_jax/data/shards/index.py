"""The index of a directory of shards: what the shards contain, and where encoding resumes."""

import contextlib
import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from valyrian_jax.config import BLANK_LINE
from valyrian_jax.data.reading.documents import describe_skipped
from valyrian_jax.errors import UserError
from valyrian_jax.files import is_temporary, is_url, open_url, read_text, write_atomically
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tokenizer.display import count_noun

INDEX_NAME, TOKENIZER_NAME = "index.json", "tokenizer.json"
_BEFORE_INDEX = {"lock", TOKENIZER_NAME}
_END_BYTES = 1 << 20  # bytes of each end of an input file that are hashed

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
    """An input file."""

    name: str
    size: _Count  # bytes
    ends_sha256: _Sha256  # of the first and the last MB


@dataclass(frozen=True, config=_STRICT)
class Position:
    """The first token after the last finished shard: its file, document and token number."""

    file: _Count
    document: _Count
    token: _Count


@dataclass(frozen=True, config=_STRICT)
class ShardIndex:
    """The contents of a directory of shards."""

    format: Literal[1, 2]  # 2; 1 had neither a separator nor documents in pieces
    finished: bool  # whether the shards hold all input
    tokenizer_sha256: _Sha256
    vocab_size: Annotated[int, Field(ge=257, lt=2**31)]
    shard_tokens: Annotated[int, Field(ge=1, lt=2**62)]  # tokens of every shard but the last
    text_key: str  # key of the text in JSON and Parquet
    inputs: tuple[InputFile, ...]
    tokens: _Count
    documents: _Count  # number of documents that end in the finished shards
    size: _Count  # bytes of these documents, in UTF-8
    skipped: dict[str, _Count]  # reason -> number of documents that were skipped for it
    position: Position  # where encoding resumes
    shards: tuple[Shard, ...]
    separator: str = BLANK_LINE  # what separates the documents of plain text
    deduplicate: bool = False  # whether a document whose text came before is skipped

    @model_validator(mode="after")
    def _check_shards(self) -> "ShardIndex":
        for number, shard in enumerate(self.shards):
            is_full = shard.tokens == self.shard_tokens
            is_last = self.finished and number == len(self.shards) - 1
            may_be_short = is_last and shard.tokens < self.shard_tokens
            if shard.name != shard_name(number) or not (is_full or may_be_short):
                raise ValueError(
                    f"shard {number} is {shard.name} with {shard.tokens} tokens, expected "
                    f"{shard_name(number)}"
                )
        if self.tokens != sum(shard.tokens for shard in self.shards):
            raise ValueError(f"tokens = {self.tokens} is not the sum over the shards")
        return self


_INDEX = TypeAdapter(ShardIndex)


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05}.bin"


def make_index(
    tokenizer: Tokenizer,
    files: Sequence[str | Path],
    text_key: str,
    shard_tokens: int,
    separator: str = BLANK_LINE,
    deduplicate: bool = False,
) -> ShardIndex:
    """Return the index of a directory that has no shards yet."""
    return ShardIndex(
        format=2,
        finished=False,
        tokenizer_sha256=tokenizer.sha256,
        vocab_size=tokenizer.vocab_size,
        shard_tokens=shard_tokens,
        text_key=text_key,
        inputs=tuple(map(identify_file, files)),
        tokens=0,
        documents=0,
        size=0,
        skipped={},
        position=Position(0, 0, 0),
        shards=(),
        separator=separator,
        deduplicate=deduplicate,
    )


def identify_file(path: str | Path) -> InputFile:
    """Return the facts by which a resumed encoding recognises an input file."""
    digest, size = hashlib.sha256(), 0
    try:
        if not is_pipe(path):
            with _open_regular_or_url(path) as file:
                size = file.seek(0, os.SEEK_END)
                for start in (0, max(size - _END_BYTES, 0)):
                    file.seek(start)
                    digest.update(file.read(_END_BYTES))
    except OSError as error:
        raise UserError(
            f"cannot read the text {path}: {error.strerror}; expected a file or a pipe that can be "
            "read: check the path"
        ) from error
    name = os.fsencode(path).decode("utf-8", "backslashreplace")  # JSON cannot hold other bytes
    return InputFile(name, size, digest.hexdigest())


def _open_regular_or_url(path: str | Path) -> contextlib.AbstractContextManager[BinaryIO]:
    if is_url(path):
        return open_url(path)
    if not Path(path).is_file():
        raise UserError(f"cannot read the text {path}: expected a regular file or a pipe; name one")
    return Path(path).open("rb")


def is_pipe(path: str | Path) -> bool:
    """Return whether a file is a pipe, which can be read only once."""
    return not is_url(path) and stat.S_ISFIFO(Path(path).stat().st_mode)


def find_difference(old: ShardIndex, new: ShardIndex) -> str:
    """Describe the first difference that would change the shards; empty if there is none."""
    facts = [
        ("a tokenizer of SHA-256", old.tokenizer_sha256, new.tokenizer_sha256),
        ("--shard-tokens", old.shard_tokens, new.shard_tokens),
        ("--text-key", old.text_key, new.text_key),
        ("--separator", old.separator, new.separator),
        ("--deduplicate", old.deduplicate, new.deduplicate),
        ("this number of files:", len(old.inputs), len(new.inputs)),
        *(
            ("the file", _describe_file(old_file), _describe_file(new_file))
            for old_file, new_file in zip(old.inputs, new.inputs, strict=False)
        ),
    ]
    if not old.finished:
        facts.append(("index format", old.format, new.format))
    for name, old_value, new_value in facts:
        if old_value != new_value:
            return f"{name} {old_value}, found {new_value}"
    return ""


def _describe_file(file: InputFile) -> str:
    return f"{file.name} ({file.size:,} bytes, {file.ends_sha256[:12]})"


def check_shard_directory(out: Path) -> None:
    """Check that a directory holds shards, or that shards may be written there."""
    files = out.iterdir() if out.is_dir() else ()
    names = {file.name for file in files if not is_temporary(file.name)}
    if INDEX_NAME not in names and names - _BEFORE_INDEX:
        raise UserError(f"{out} is not empty and has no {INDEX_NAME}; choose another --out")


def read_index(directory: Path) -> ShardIndex:
    """Read the index of a directory of shards, finished or not."""
    path = directory / INDEX_NAME
    if not path.exists():
        raise UserError(
            f"cannot read the text {directory}: Is a directory without {INDEX_NAME}; expected a "
            "UTF-8 text file, or a directory of shards from `python -m valyrian_jax tokenizer "
            "encode --out`"
        )
    try:
        return _INDEX.validate_json(read_text(path, "the index of shards"))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"])) or "the index"
        raise UserError(
            f"{path} is not an index of shards: {key}: {problem['msg']}; copy it again, or encode "
            "the text into another --out"
        ) from error


def write_index(directory: Path, index: ShardIndex) -> None:
    """Write the index atomically."""
    path = directory / INDEX_NAME
    content = json.dumps(dataclasses.asdict(index), indent=1) + "\n"
    try:
        write_atomically(path, content)
    except OSError as error:
        raise make_write_error(path, error) from error


def make_write_error(path: Path, error: OSError) -> UserError:
    """Return the error for a file that cannot be written while text is encoded."""
    return UserError(
        f"cannot write {path}: {error.strerror or error}; finished shards are kept: run the same "
        "command again to resume"
    )


def hash_index(index: ShardIndex) -> str:
    """Return the SHA-256 of the contents: the tokenizer, and the size and SHA-256 of each shard."""
    content = [index.tokenizer_sha256, [(shard.tokens, shard.sha256) for shard in index.shards]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def describe_index(index: ShardIndex) -> str:
    """Describe finished shards in one line."""
    return (
        f"{count_noun(index.tokens, 'token')} in {count_noun(len(index.shards), 'shard')}, from "
        f"{count_noun(index.documents, 'document')} with {count_noun(index.size, 'byte')}"
        f"{describe_skipped(index.skipped)}"
    )
