"""Shards: tokens in files of equal size, for texts that do not fit into memory.

A directory holds `tokenizer.json`, `index.json` and `shard-00000.bin`, `shard-00001.bin`, ... Each
shard is a header of 64 bytes (magic, version, bytes of a token, number of tokens, SHA-256 of the
tokenizer; little-endian) and then its tokens, uint16 if the vocabulary allows it, else uint32. All
shards but the last hold the same number of tokens, so a division finds the shard of a token.
Opening checks sizes and headers. The index has the SHA-256 of every file for a complete check with
`sha256sum`.
"""

import dataclasses
import functools
import hashlib
import os
import struct
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from valyrian_jax.data.shards.index import (
    TOKENIZER_NAME,
    Shard,
    ShardIndex,
    make_write_error,
    read_index,
    shard_name,
)
from valyrian_jax.data.text import Tokens
from valyrian_jax.errors import UserError
from valyrian_jax.files import (
    is_remote_directory,
    is_url,
    open_regular,
    remove_temporaries,
    replace_file,
)
from valyrian_jax.tokenizer import Tokenizer

MAGIC, VERSION = b"VALSHARD", 1
HEADER = struct.Struct("<8sIIQ32s8x")
_HEADER_FIELDS = (
    "magic",
    "format version",
    "bytes of a token",
    "number of tokens",
    "SHA-256 of the tokenizer",
)
_MAX_OPEN = 256  # shards; a process may have about a thousand open files
_REMEDY = "copy it again, or encode the text into another --out"


@dataclasses.dataclass(frozen=True)
class ShardSet:
    """Open, finished shards."""

    directory: Path
    index: ShardIndex
    tokenizer: Tokenizer
    open_shard: Callable[[int], "OpenShard"]  # returns the open file of a shard by its number


def token_dtype(vocab_size: int) -> np.dtype[np.unsignedinteger]:
    """Return the little-endian type of tokens: uint16 up to a vocabulary of 65,536, else uint32."""
    return np.min_scalar_type(vocab_size - 1).newbyteorder("<")


def is_shard_directory(path: str | Path) -> bool:
    """Return whether a text is a directory; only shards can be one."""
    if is_url(path):
        return is_remote_directory(path)
    try:
        return Path(path).is_dir()
    except OSError:  # for example a name that is too long; opening the file reports it
        return False


def write_shard(
    directory: Path, number: int, arrays: Sequence[Tokens], tokenizer_sha256: str
) -> Shard:
    """Write one shard of arrays of `token_dtype` atomically; return its entry for the index.

    The caller has locked the directory.
    """
    path = directory / shard_name(number)
    tokens = sum(map(len, arrays))
    sha256 = bytes.fromhex(tokenizer_sha256)
    header = HEADER.pack(MAGIC, VERSION, arrays[0].itemsize, tokens, sha256)
    digest = hashlib.sha256(header)
    try:
        remove_temporaries(path)
        with replace_file(path) as temporary, temporary.open("wb") as file:
            file.write(header)
            for array in arrays:
                data = np.ascontiguousarray(array).data.cast("B")
                file.write(data)
                digest.update(data)
    except OSError as error:
        raise make_write_error(path, error) from error
    return Shard(path.name, tokens, digest.hexdigest())


def open_shards(directory: Path) -> ShardSet:
    """Open finished shards and check every header and size, but no token."""
    index = read_index(directory)
    if not index.finished:
        raise UserError(
            f"the shards in {directory} are not finished: {index.tokens:,} tokens so far; run the "
            "same `tokenizer encode` command again to resume"
        )
    tokenizer = Tokenizer.load(directory / TOKENIZER_NAME)
    if tokenizer.sha256 != index.tokenizer_sha256 or tokenizer.vocab_size != index.vocab_size:
        raise UserError(
            f"{directory / TOKENIZER_NAME} has SHA-256 {tokenizer.sha256[:12]}, but the shards "
            f"beside it were made with {index.tokenizer_sha256[:12]}; put that tokenizer back, or "
            "encode the text into another --out"
        )
    for number in range(len(index.shards)):
        check_shard(directory, index, number)
    open_shard = functools.lru_cache(_MAX_OPEN)(functools.partial(OpenShard, directory))
    return ShardSet(directory, index, tokenizer, open_shard)


def check_shard(directory: Path, index: ShardIndex, number: int) -> None:
    """Check the header and the size of a shard against the index."""
    path, tokens = directory / shard_name(number), index.shards[number].tokens
    itemsize = token_dtype(index.vocab_size).itemsize
    expected = (MAGIC, VERSION, itemsize, tokens, bytes.fromhex(index.tokenizer_sha256))
    try:
        with open_regular(path, "the shard") as file:
            header = file.read(HEADER.size)
            size = file.seek(0, 2)
    except OSError as error:
        raise _make_read_error(path, error) from error
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise UserError(
            f"{path} is not a shard: it begins with {header[:8]!r}, expected {MAGIC!r}; {_REMEDY}"
        )
    for field, value, wanted in zip(_HEADER_FIELDS, HEADER.unpack(header), expected, strict=True):
        if value != wanted:
            shown, wanted_shown = (
                v.hex()[:12] if isinstance(v, bytes) else v for v in (value, wanted)
            )
            raise UserError(
                f"the shard {path} has {field} {shown}, expected {wanted_shown}; {_REMEDY}"
            )
    if size != (expected_size := HEADER.size + itemsize * tokens):
        raise UserError(
            f"the shard {path} has {size:,} bytes, expected {expected_size:,}; {_REMEDY}"
        )


def read_tokens(shards: ShardSet, start: int, count: int) -> Tokens:
    """Read `count` tokens from position `start` on, across shards; fewer at the end."""
    index, stop = shards.index, min(start + count, shards.index.tokens)
    tokens = np.empty(max(stop - start, 0), token_dtype(index.vocab_size))
    done = 0
    while done < len(tokens):
        number, offset = divmod(start + done, index.shard_tokens)
        run = tokens[done : done + index.shards[number].tokens - offset]
        shards.open_shard(number).read_into(run, offset)
        done += len(run)
    return tokens


class OpenShard:
    """The open file of a shard.

    It is read, not mapped: a mapped file that someone shortens would kill the process (SIGBUS).
    """

    def __init__(self, directory: Path, number: int) -> None:
        self.path = directory / shard_name(number)
        try:
            with open_regular(self.path, "the shard") as file:
                self._descriptor = os.dup(file.fileno())
        except OSError as error:
            raise _make_read_error(self.path, error) from error
        weakref.finalize(self, os.close, self._descriptor)

    def read_into(self, tokens: Tokens, offset: int) -> None:
        """Fill an array with the tokens from position `offset` of the shard on."""
        data, start = tokens.view(np.uint8).data, HEADER.size + tokens.itemsize * offset
        done = 0
        while done < len(data):
            try:
                size = os.preadv(self._descriptor, [data[done:]], start + done)
            except OSError as error:
                raise _make_read_error(self.path, error) from error
            if not size:
                raise UserError(
                    f"the shard {self.path} has become shorter while it was in use: expected at "
                    f"least {start + len(data):,} bytes, found "
                    f"{os.fstat(self._descriptor).st_size:,}; {_REMEDY}"
                )
            done += size


def _make_read_error(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot read the shard {path}: {error.strerror}; {_REMEDY}")
