"""The decoder of a vocabulary; it uses compiled code for many ids, if that is already loaded."""

import sys
from array import array
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from valyrian_jax.errors import UserError, delay_interrupts

_MIN_COMPILED_IDS = 256
_SLACK = 8  # bytes that the compiled code may read or write after the last one


class Decoder:
    """Turns token ids into bytes."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        """Keep the bytes of every token, by id."""
        self._tokens = tokens
        # A sequence would accept negative ids.
        self._find_token = dict(enumerate(tokens)).__getitem__

    def decode(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of token ids.

        Raises:
            UserError: An id is outside the vocabulary.
        """
        ids = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        if len(ids) >= _MIN_COMPILED_IDS and "valyrian_jax.tokenizer.numba_bpe" in sys.modules:
            data = self._decode_compiled(ids)
            if data is not None:
                return data
        try:
            return b"".join(map(self._find_token, ids))
        except KeyError as error:
            raise UserError(
                f"token id {error.args[0]} is outside the vocabulary; expected an id from 0 to "
                f"{len(self._tokens) - 1}"
            ) from error

    def _decode_compiled(self, ids: Sequence[int]) -> bytes | None:
        """Return the bytes of token ids, or None if one of them is outside the vocabulary."""
        from valyrian_jax.tokenizer import numba_bpe

        try:
            id_array = np.frombuffer(array("q", ids), np.int64)
        except (OverflowError, TypeError):
            return None
        offsets, data = self._tables
        size = numba_bpe.count_bytes(id_array, offsets)
        if size < 0:
            return None
        out = np.empty(size + _SLACK, np.uint8)
        numba_bpe.decode(id_array, offsets, data, out)
        return out[:size].tobytes()

    @cached_property
    def _tables(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """Where the bytes of each token begin, with the end of the last one, and all bytes."""
        from valyrian_jax.tokenizer import numba_bpe

        offsets = np.cumsum([0, *map(len, self._tokens)], dtype=np.int64)
        data = np.frombuffer(b"".join(self._tokens) + bytes(_SLACK), np.uint8)
        with delay_interrupts():  # the first calls compile
            numba_bpe.count_bytes(np.empty(0, np.int64), offsets)
            numba_bpe.decode(np.empty(0, np.int64), offsets, data, np.empty(0, np.uint8))
        return offsets, data
