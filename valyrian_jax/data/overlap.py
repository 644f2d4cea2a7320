"""The overlap of a split: how much of the held-out part also occurs in the training part."""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.data.split import DataSplit
from valyrian_jax.tokenizer.batch import encode_utf8

_SENTENCE_BREAK = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n+")
_SENTENCE_ENDS = tuple(".!?。！？")
_LONG_UNIT = 1000  # characters; units that are longer on average say little about repetitions
_WINDOW = 32  # bytes, the mean length of a sentence of the shipped corpus
_BLOCK = 1 << 22  # bytes of the training part searched at a time


class Overlap(NamedTuple):
    """The share of held-out units that occur in the training part."""

    share: float  # 0: nothing leaks
    unit: str  # what was counted: "sentences", "lines", "documents" or "32-byte windows"


def find_sentences(documents: Iterable[str]) -> list[str]:
    """Return the sentences of documents: cut at line ends and after . ! or ?, Chinese ones too."""
    sentences = (s.strip() for document in documents for s in _SENTENCE_BREAK.split(document))
    return [sentence for sentence in sentences if sentence]


def measure_overlap(split: DataSplit, training: Collection[str] | None = None) -> Overlap:
    """Return the share of held-out sentences that occur in the training part.

    In a text without sentence ends, lines or documents are compared. If these are long, or there is
    only one, as in a text without white space, windows of 32 bytes are compared: consecutive ones
    of the held-out part with those at every position of the training part.

    Args:
        split: The two parts.
        training: The sentences of the training part, if the caller has found them; else None.
    """
    units = find_sentences(split.held_out)
    length = sum(map(len, units))
    if length > _LONG_UNIT * len(units) or (len(units) == 1 and length > 2 * _WINDOW):
        windows = _find_windows(split.train, split.held_out)
        return Overlap(float(windows.mean()), f"{_WINDOW}-byte windows")
    training = set(find_sentences(split.train)) if training is None else training
    share = sum(unit in training for unit in units) / max(len(units), 1)
    return Overlap(share, _name_units(units, split.held_out))


def _name_units(units: list[str], documents: list[str]) -> str:
    lines = [line for document in documents for line in document.split("\n") if line.strip()]
    ended = sum(unit.endswith(_SENTENCE_ENDS) for unit in units)
    if len(units) > len(lines) or 2 * ended >= len(units):
        return "sentences"
    return "lines" if len(lines) > len(documents) else "documents"


def _find_windows(train: Iterable[str], held_out: Iterable[str]) -> npt.NDArray[np.bool_]:
    """Return for each held-out window, one after another, whether the training part has it."""
    windows = np.concatenate(
        [_hash_windows(encode_utf8(document))[::_WINDOW] for document in held_out]
    )
    is_found = np.zeros(len(windows), bool)
    for document in map(encode_utf8, train):
        for start in range(0, len(document) - _WINDOW + 1, _BLOCK):
            hashes = np.sort(_hash_windows(document[start : start + _BLOCK + _WINDOW - 1]))
            positions = np.minimum(np.searchsorted(hashes, windows), len(hashes) - 1)
            is_found |= hashes[positions] == windows
    return is_found


def _hash_windows(data: bytes) -> npt.NDArray[np.uint64]:
    """Return a hash of the window at every position, uint64[len(data) - 31].

    Each pass combines the hashes of two neighbouring windows into that of a window twice as wide,
    so windows of 32 bytes take five passes.
    """
    hashes = np.frombuffer(data, np.uint8).astype(np.uint64)
    width = 1
    while width < _WINDOW:
        left, right = hashes[:-width], hashes[width:]
        hashes = (left * np.uint64(0x9E3779B97F4A7C15) + right) * np.uint64(0xD6E8FEB86659FD93)
        hashes ^= hashes >> np.uint64(32)
        width *= 2
    return hashes
