"""The C interface of the runner from Python, by ctypes: no package but the standard library.

g++ -std=c++17 -O2 -shared -fPIC bridge/cpp/native/valyrian.cpp -o libvalyrian.so
python bridge/cpp/native/example.py ./libvalyrian.so valyrian.gguf "Valar morghūlis"
"""

import ctypes
import sys
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


class Settings(ctypes.Structure):
    """`valyrian_settings` of valyrian.h."""

    _fields_ = (
        ("max_new_tokens", ctypes.c_int64),
        ("temperature", ctypes.c_double),
        ("top_k", ctypes.c_int64),
        ("top_p", ctypes.c_double),
        ("min_p", ctypes.c_double),
        ("repetition_penalty", ctypes.c_double),
        ("min_new_tokens", ctypes.c_int64),
        ("seed", ctypes.c_int64),
        ("stop", ctypes.POINTER(ctypes.c_char_p)),
        ("stop_count", ctypes.c_size_t),
    )


class Model:
    """A model; `library` is the shared library, and `file` a GGUF file or its bytes."""

    def __init__(self, library: Path, file: Path | bytes, instructions: str | None = None) -> None:
        self._library = ctypes.CDLL(str(library.absolute()))
        for name, result in (
            ("error", ctypes.c_char_p),
            ("load", ctypes.c_void_p),
            ("load_bytes", ctypes.c_void_p),
            ("start", ctypes.c_void_p),
            ("defaults", Settings),
            ("vocabulary", ctypes.c_size_t),
            ("positions", ctypes.c_size_t),
            ("encode", ctypes.c_int64),
            ("decode", ctypes.c_int64),
        ):
            getattr(self._library, f"valyrian_{name}").restype = result
        chosen = instructions.encode() if instructions else None
        if isinstance(file, bytes):
            size = ctypes.c_size_t(len(file))
            handle = self._library.valyrian_load_bytes(file, size, chosen)
        else:
            handle = self._library.valyrian_load(str(file).encode(), chosen)
        self._handle = ctypes.c_void_p(self._check(handle))
        self.vocabulary: int = self._library.valyrian_vocabulary(self._handle)
        self.positions: int = self._library.valyrian_positions(self._handle)

    def close(self) -> None:
        """Free the memory of the model."""
        self._library.valyrian_free(self._handle)
        self._handle = ctypes.c_void_p()

    def settings(self, stop: Sequence[str] = (), **changes: float) -> Settings:
        """Return the settings in the file with some changed."""
        settings: Settings = self._library.valyrian_defaults(self._handle)
        for name, value in changes.items():
            setattr(settings, name, value)
        if stop:
            settings.stop = (ctypes.c_char_p * len(stop))(*(text.encode() for text in stop))
            settings.stop_count = len(stop)
        return settings

    def stream(self, prompt: str, settings: Settings) -> Iterator[str]:
        """Yield the continuation of a prompt in whole characters, perhaps empty strings."""
        data = prompt.encode("utf-8", "replace")
        start = self._library.valyrian_start(
            self._handle, data, ctypes.c_size_t(len(data)), ctypes.byref(settings)
        )
        text = ctypes.c_void_p(self._check(start))
        piece, size = ctypes.c_void_p(), ctypes.c_size_t()
        try:
            while self._check(
                self._library.valyrian_next(text, ctypes.byref(piece), ctypes.byref(size))
            ):
                yield ctypes.string_at(piece.value or 0, size.value).decode()
        finally:
            self._library.valyrian_end(text)

    def encode(self, text: bytes) -> list[int]:
        """Return the tokens of any bytes; there are at most as many as bytes."""
        ids = (ctypes.c_int32 * len(text))()
        size = ctypes.c_size_t(len(text))
        return ids[
            : self._check(self._library.valyrian_encode(self._handle, text, size, ids, size))
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, with U+FFFD for malformed parts."""
        numbers, count = (ctypes.c_int32 * len(ids))(*ids), ctypes.c_size_t(len(ids))
        call = self._library.valyrian_decode
        size = self._check(call(self._handle, numbers, count, None, ctypes.c_size_t(0)))
        text = ctypes.create_string_buffer(max(size, 1))
        self._check(call(self._handle, numbers, count, text, ctypes.c_size_t(size)))
        return text.raw[:size].decode()

    def logits(self, ids: Sequence[int]) -> "array[float]":
        """Return the logits after each token, vocabulary after vocabulary."""
        numbers, count = (ctypes.c_int32 * len(ids))(*ids), ctypes.c_size_t(len(ids))
        logits = array("f", bytes(4 * len(ids) * self.vocabulary))
        out = ctypes.c_void_p(logits.buffer_info()[0])
        self._check(self._library.valyrian_logits(self._handle, numbers, count, out))
        return logits

    def _check(self, result: Any) -> Any:
        if result is None or result == -1:
            raise ValueError(self._library.valyrian_error().decode("utf-8", "replace"))
        return result


if __name__ == "__main__":
    model = Model(Path(sys.argv[1]), Path(sys.argv[2]))
    print(sys.argv[3], end="", flush=True)
    for piece in model.stream(sys.argv[3], model.settings(seed=9)):
        print(piece, end="", flush=True)
    print()
