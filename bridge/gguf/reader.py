"""Read a GGUF file from any source; every count, size, offset and type is checked before its use.

`gguf.GGUFReader` maps the file and trusts it. A mapped file that someone shortens would also kill
the process with SIGBUS.
"""

import contextlib
import io
import os
import struct
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as StorageType
from gguf import GGUFValueType as ValueType

from bridge.gguf.layout import STORAGE_TYPES, count_bytes, decode
from valyrian_jax.errors import UserError, escape, shorten
from valyrian_jax.files import open_regular

MAX_HEADER = 1 << 26  # bytes; a vocabulary of 260,000 tokens needs a sixth
_MAX_ENTRIES = 1 << 14  # of metadata, and of tensors: a model of 1,024 blocks has 12,293
_MAX_STRINGS = 1 << 20  # in a list; the largest vocabularies have 260,000 tokens
_MAX_NAME = 1 << 10  # bytes of a key or of the name of a tensor
_MAX_ALIGNMENT = 1 << 16
_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_NUMBERS: dict[int, np.dtype[Any]] = {
    ValueType.UINT8: np.dtype("<u1"),
    ValueType.INT8: np.dtype("<i1"),
    ValueType.UINT16: np.dtype("<u2"),
    ValueType.INT16: np.dtype("<i2"),
    ValueType.UINT32: np.dtype("<u4"),
    ValueType.INT32: np.dtype("<i4"),
    ValueType.UINT64: np.dtype("<u8"),
    ValueType.INT64: np.dtype("<i8"),
    ValueType.FLOAT32: np.dtype("<f4"),
    ValueType.FLOAT64: np.dtype("<f8"),
    ValueType.BOOL: np.dtype("?"),
}


class TensorInfo(NamedTuple):
    """The place of a tensor in a file, and its shape and type.

    Attributes:
        shape: Its shape in NumPy's order.
        storage: Type of its numbers.
        offset: Position of its first byte in the file.
        size: Its bytes.
    """

    shape: tuple[int, ...]
    storage: StorageType
    offset: int
    size: int


class Header(NamedTuple):
    """The content of a file before the data of its tensors.

    Attributes:
        metadata: Values by key: numbers, booleans, strings, lists of strings, and arrays.
        tensors: Where each tensor is, by llama.cpp's name.
    """

    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]


class _DamagedError(Exception):
    """What is wrong with a file."""


def is_gguf(path: Path) -> bool:
    """Return whether a path is a regular file that begins as GGUF files do."""
    with contextlib.suppress(OSError, UserError), open_regular(path) as file:
        return file.read(len(_MAGIC)) == _MAGIC
    return False


def read_header(path: Path) -> Header:
    """Read the metadata of a GGUF file, and where its tensors are.

    Raises:
        UserError: The file cannot be read, is damaged, or has an unsupported version or type.
    """
    try:
        with open_regular(path) as file:
            return _HeaderReader(file, os.fstat(file.fileno()).st_size).read()
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; expected a GGUF file; check the path"
        ) from error
    except _DamagedError as error:
        raise UserError(f"{path} is not a supported GGUF file: {error}") from error


def read_tensors(path: Path, tensors: Mapping[str, TensorInfo]) -> dict[str, npt.NDArray[Any]]:
    """Return tensors of a file as float32, by name.

    Args:
        path: The file.
        tensors: From `read_header`.

    Raises:
        UserError: The file has changed since then, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            return {name: _read_tensor(file, info) for name, info in tensors.items()}
    except (OSError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"cannot read {path}: {reason}; copy it again") from error


def _read_tensor(file: BinaryIO, info: TensorInfo) -> npt.NDArray[Any]:
    file.seek(info.offset)
    data = file.read(info.size)
    if len(data) < info.size:
        raise EOFError("it became shorter while it was read")
    rows = np.frombuffer(data, np.uint8).reshape(*info.shape[:-1], -1)
    return decode(rows, info.storage)


class _HeaderReader:
    """A reader of the header; it reads neither past the end nor more than `MAX_HEADER` bytes."""

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        self.file, self.size = file, size
        self.left = min(size, MAX_HEADER)

    def read(self) -> Header:
        if self.take(len(_MAGIC)) != _MAGIC:
            raise _DamagedError("expected it to begin with GGUF; check that it is the right file")
        if (version := self.number("I")) not in _VERSIONS:
            if version == int.from_bytes(struct.pack(">I", _VERSIONS[-1]), "little"):
                raise _DamagedError("it is big-endian, expected little-endian; convert it")
            raise _DamagedError(
                f"expected version {_VERSIONS[0]} or {_VERSIONS[-1]}, found {version}; convert it"
            )
        tensor_count, entry_count = self.count("tensors"), self.count("entries")
        metadata: dict[str, Any] = {}
        for _ in range(entry_count):
            key = self.name("key")
            if key in metadata:
                raise _DamagedError(f"the key {shorten(key)} occurs twice; copy it again")
            metadata[key] = self.value(key)
        infos: dict[str, tuple[tuple[int, ...], StorageType, int]] = {}
        for _ in range(tensor_count):
            name = self.name("tensor")
            if name in infos:
                raise _DamagedError(f"the tensor {shorten(name)} occurs twice; copy it again")
            infos[name] = self.tensor_info(name)
        start = self.file.tell()
        start += -start % _read_alignment(metadata)
        return Header(metadata, _place_tensors(infos, start, self.size, _read_alignment(metadata)))

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise _DamagedError(
                f"its header has more than {min(self.size, MAX_HEADER):,} bytes, or the file is "
                "cut off; copy it again"
            )
        self.left -= size
        data = self.file.read(size)
        if len(data) < size:
            raise _DamagedError("it became shorter while it was read; copy it again")
        return data

    def number(self, code: str) -> int:
        number: int = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]
        return number

    def count(self, things: str) -> int:
        if (count := self.number("Q")) > _MAX_ENTRIES:
            raise _DamagedError(
                f"expected at most {_MAX_ENTRIES:,} {things}, found {count:,}; copy it again"
            )
        return count

    def string(self) -> str:
        data = self.take(self.number("Q"))
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise _DamagedError(
                f"a string in it is not UTF-8: {escape(str(error))}; convert the model again"
            ) from error

    def name(self, kind: str) -> str:
        if len(name := self.string()) > _MAX_NAME:
            raise _DamagedError(f"the name of a {kind} has {len(name):,} characters; copy it again")
        return name

    def value(self, key: str) -> Any:
        value_type = self.number("I")
        if value_type == ValueType.ARRAY:
            return self.array(key)
        if value_type == ValueType.STRING:
            return self.string()
        return self.numbers(key, value_type, 1)[0].item()

    def array(self, key: str) -> npt.NDArray[Any] | list[str]:
        value_type, count = self.number("I"), self.number("Q")
        if value_type == ValueType.STRING:
            if count > _MAX_STRINGS:
                raise _DamagedError(
                    f"{shorten(key)} has {count:,} strings, expected at most {_MAX_STRINGS:,}; "
                    "copy it again"
                )
            return [self.string() for _ in range(count)]
        return self.numbers(key, value_type, count)

    def numbers(self, key: str, value_type: int, count: int) -> npt.NDArray[Any]:
        dtype = _NUMBERS.get(value_type)
        if dtype is None:
            raise _DamagedError(
                f"{shorten(key)} has a value of type {value_type}, expected a number, a string, or "
                "a list of them; copy it again"
            )
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def tensor_info(self, name: str) -> tuple[tuple[int, ...], StorageType, int]:
        if not 1 <= (dimensions := self.number("I")) <= 4:
            raise _DamagedError(
                f"{shorten(name)} has {dimensions:,} axes, expected 1 to 4; copy it again"
            )
        shape = tuple(self.number("Q") for _ in range(dimensions))[::-1]
        number = self.number("I")
        storage = next((known for known in STORAGE_TYPES if known == number), None)
        if storage is None:
            names = {known.value: known.name for known in StorageType}
            raise _DamagedError(
                f"{shorten(name)} has the type {names.get(number, number)}, expected one of "
                f"{', '.join(known.name for known in STORAGE_TYPES)}; convert the model to one"
            )
        return shape, storage, self.number("Q")


def _read_alignment(metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT)
    if (
        type(alignment) is not int
        or not 8 <= alignment <= _MAX_ALIGNMENT
        or alignment & (alignment - 1)
    ):
        raise _DamagedError(
            f"general.alignment is {shorten(str(alignment))}, expected a power of two from 8 to "
            f"{_MAX_ALIGNMENT:,}; copy it again"
        )
    return alignment


def _place_tensors(
    infos: Mapping[str, tuple[tuple[int, ...], StorageType, int]],
    start: int,
    size: int,
    alignment: int,
) -> dict[str, TensorInfo]:
    """Return where each tensor is; all lie within the file, and no two share a byte."""
    tensors = {}
    for name, (shape, storage, offset) in infos.items():
        block_size = gguf.GGML_QUANT_SIZES[storage][0]
        if min(shape) < 1 or shape[-1] % block_size:
            raise _DamagedError(
                f"{shorten(name)} has shape {shape}, expected positive sizes, and rows of a "
                f"multiple of {block_size} for {storage.name}; copy it again"
            )
        tensors[name] = TensorInfo(shape, storage, start + offset, count_bytes(shape, storage))
        if offset % alignment or start + offset + tensors[name].size > size:
            raise _DamagedError(
                f"{shorten(name)} has {tensors[name].size:,} bytes from byte {start + offset:,} on,"
                f" expected a multiple of {alignment} within its {size:,} bytes; copy it again"
            )
    ordered = sorted(tensors.items(), key=lambda item: item[1].offset)
    for (name, info), (other, next_info) in pairwise(ordered):
        if info.offset + info.size > next_info.offset:
            raise _DamagedError(f"{shorten(name)} and {shorten(other)} share bytes; copy it again")
    return tensors
