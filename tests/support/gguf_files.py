"""Take GGUF files apart and put them together again, also wrongly."""

import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
from gguf import GGUFValueType as ValueType

ALIGNMENT = 32


@dataclass
class GgufParts:
    """A file, part by part; nothing has to fit.

    Attributes:
        entries: Type and bytes of each value, by key.
        tensors: Name, dimensions as in the file, type and offset of each tensor.
        data: What follows the header.
        version: Of the format.
        counts: Of tensors and of entries; None: the true ones.
    """

    entries: dict[str, tuple[int, bytes]]
    tensors: list[tuple[str, Sequence[int], int, int]]
    data: bytes
    version: int = 3
    counts: tuple[int, int] | None = None

    def set(self, key: str, value: Any) -> None:
        self.entries[key] = encode_value(value)


def encode_string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def encode_value(value: Any) -> tuple[int, bytes]:
    """Return the type and the bytes of a value; an int is a UINT32, and an INT32 in a list."""
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            code, items = ValueType.STRING, b"".join(map(encode_string, value))
        else:
            code, items = ValueType.INT32, struct.pack(f"<{len(value)}i", *value)
        return ValueType.ARRAY, struct.pack("<IQ", code, len(value)) + items
    if isinstance(value, bool):
        return ValueType.BOOL, bytes([value])
    if isinstance(value, int):
        return ValueType.UINT32, struct.pack("<I", value)
    if isinstance(value, float):
        return ValueType.FLOAT32, struct.pack("<f", value)
    return ValueType.STRING, encode_string(value)


def unpack(content: bytes) -> GgufParts:
    """Take an undamaged file apart, with the reader of the `gguf` package."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        reader = gguf.GGUFReader(file.name)
        entries = {
            key: (int(field.types[0]), b"".join(part.tobytes() for part in field.parts[3:]))
            for key, field in reader.fields.items()
            if not key.startswith("GGUF.")
        }
        tensors = [
            (
                tensor.name,
                tensor.shape.tolist(),
                int(tensor.tensor_type),
                tensor.data_offset - reader.data_offset,
            )
            for tensor in reader.tensors
        ]
        return GgufParts(entries, tensors, content[reader.data_offset :])


def pack(parts: GgufParts) -> bytes:
    """Put a file together."""
    counts = parts.counts or (len(parts.tensors), len(parts.entries))
    header = struct.pack("<4sIQQ", b"GGUF", parts.version, *counts)
    for key, (code, value) in parts.entries.items():
        header += encode_string(key) + struct.pack("<I", code) + value
    for name, dimensions, code, offset in parts.tensors:
        header += encode_string(name) + struct.pack("<I", len(dimensions))
        header += struct.pack(f"<{len(dimensions)}QIQ", *dimensions, code, offset)
    return header + bytes(-len(header) % ALIGNMENT) + parts.data
