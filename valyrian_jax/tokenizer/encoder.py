"""The encoder of a vocabulary: readable code first, compiled code as soon as it pays off.

The readable code is in `pretokenizer` and `bpe`. The compiled code, `numba_bpe`, is many times as
fast, but loading it takes about a second. It is loaded when one text, or all texts so far, take the
readable code about a second, and it encodes every text from then on. Without Numba, the readable
code encodes all texts. Both cache the pieces that they have merged.
"""

import importlib.util
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from valyrian_jax.errors import delay_interrupts
from valyrian_jax.tokenizer import batch, bpe
from valyrian_jax.tokenizer.pretokenizer import load_class_table, split_texts

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_READABLE_SECONDS = 1.0  # spent before the compiled code is loaded
_READABLE_SPEED = 8e6  # bytes per second
_MAX_CACHED_PIECES = 1 << 18
_MAX_CACHED_LENGTH = 64  # bytes of a piece
_SLACK = 8  # ids that the compiled code may write after the last one
_MAX_SHORT_BYTES = 1 << 12
_SHORT_LIST = 128  # ids; for fewer, creating integers is as fast as looking up shared ones


class Encoder:
    """Turns bytes into token ids; threads may share it."""

    def __init__(
        self, byte_ids: Sequence[int], merge_table: Mapping[bpe.Pair, tuple[int, int]]
    ) -> None:
        """Start with empty caches.

        Args:
            byte_ids: Token id of each of the 256 bytes.
            merge_table: Rank of each pair in the merges, and id of the token that it becomes.
        """
        self._byte_ids = byte_ids
        self._merge_table = merge_table
        self._cache: dict[bytes, list[int]] = {}
        self._seconds = 0.0  # spent in the readable code
        self._compiled: Any = None  # the module numba_bpe
        # Working memory that no thread is using: a state of numba_state, and room for ids.
        self._workspaces: list[tuple[Any, Int32]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the caches."""
        return Encoder, (self._byte_ids, self._merge_table)

    def encode(self, data: bytes) -> list[int]:
        """Return the ids of any bytes."""
        if self._compiled is None and not self._can_compile(len(data)):
            return list(chain.from_iterable(self._encode_pieces(data, split_texts([data]))))
        state, ids = workspace = self._take_workspace()
        if len(data) > _MAX_SHORT_BYTES:
            ids = np.empty(len(data) + _SLACK, np.int32)
        count = self._compiled.encode(data, state, ids)
        ids = ids[:count]
        result = ids.tolist() if count < _SHORT_LIST else self._integers.take(ids).tolist()
        self._workspaces.append(workspace)
        return result

    def encode_array(self, data: bytes) -> Int32:
        """Return the ids of any bytes."""
        if self._compiled is None and not self._can_compile(len(data)):
            return np.array(self.encode(data), np.int32)
        workspace = self._take_workspace()
        ids = np.empty(len(data) + _SLACK, np.int32)
        count = self._compiled.encode(data, workspace[0], ids)
        self._workspaces.append(workspace)
        return ids[:count].copy()

    def encode_all(self, texts: Sequence[bytes]) -> tuple[Int32, Int64]:
        """Return the ids of all texts, concatenated, and the end of each text in them."""
        data, ends = b"".join(texts), np.cumsum([len(text) for text in texts], dtype=np.int64)
        if self._compiled is None and not self._can_compile(len(data)):
            offsets = split_texts(texts)
            pieces = self._encode_pieces(data, offsets)
            piece_ends = np.cumsum([0, *map(len, pieces)])
            ids = np.fromiter(chain.from_iterable(pieces), np.int32, piece_ends[-1])
            return ids, piece_ends[np.searchsorted(offsets, ends, "right") - 1]
        workspace = self._take_workspace()
        ids = np.empty(len(data) + _SLACK, np.int32)
        count = self._compiled.encode_all(data, ends, workspace[0], ids)
        self._workspaces.append(workspace)
        return ids[:count].copy(), ends

    def compile(self) -> None:
        """Load the compiled code now.

        Raises:
            ImportError: Numba is not installed.
        """
        if self._compiled is not None:
            return
        with delay_interrupts():
            from valyrian_jax.tokenizer import numba_bpe

            state, ids = self._make_workspace()
            numba_bpe.encode(b"", state, ids)  # compiles
            numba_bpe.encode_all(b"", np.zeros(1, np.int64), state, ids)
            self._workspaces.append((state, ids))
            self._compiled = numba_bpe

    def _can_compile(self, size: int) -> bool:
        """Load the compiled code if `size` more bytes justify it; return whether it is loaded."""
        is_worth_loading = (
            "valyrian_jax.tokenizer.numba_bpe" in sys.modules
            or self._seconds + size / _READABLE_SPEED > _READABLE_SECONDS
        )
        if is_worth_loading and self._has_numba:
            self.compile()
        return self._compiled is not None

    @cached_property
    def _has_numba(self) -> bool:
        # The compiled code reads the bytes of a text as words.
        return sys.byteorder == "little" and importlib.util.find_spec("numba") is not None

    @cached_property
    def _integers(self) -> npt.NDArray[np.object_]:
        """All ids as Python integers, which lists of ids share."""
        largest = max(*self._byte_ids, *(merged for _, merged in self._merge_table.values()))
        return np.array(range(largest + 1), object)

    def _take_workspace(self) -> tuple[Any, Int32]:
        try:
            return self._workspaces.pop()
        except IndexError:  # other threads are using all of them
            return self._make_workspace()

    def _make_workspace(self) -> tuple[Any, Int32]:
        from valyrian_jax.tokenizer import numba_state

        pairs = np.array(list(self._merge_table), np.int64).reshape(-1, 2)
        merged_ids = np.array([merged for _, merged in self._merge_table.values()], np.int64)
        byte_ids = np.array(self._byte_ids, np.int32)
        state = numba_state.make_state(load_class_table(), byte_ids, pairs, merged_ids, batch.MIX)
        return state, np.empty(_MAX_SHORT_BYTES + _SLACK, np.int32)

    def _encode_pieces(self, data: bytes, offsets: Int64) -> list[list[int]]:
        """Return the ids of every piece, using the readable code."""
        start = time.perf_counter()
        pieces = [self._encode_piece(data[a:b]) for a, b in pairwise(offsets.tolist())]
        self._seconds += time.perf_counter() - start
        return pieces

    def _encode_piece(self, piece: bytes) -> list[int]:
        ids = self._cache.get(piece)
        if ids is None:
            ids = bpe.apply([self._byte_ids[b] for b in piece], self._merge_table)
            if len(piece) <= _MAX_CACHED_LENGTH:
                if len(self._cache) >= _MAX_CACHED_PIECES:
                    self._cache.clear()
                self._cache[piece] = ids
        return ids
