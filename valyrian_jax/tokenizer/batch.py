"""Whole texts: count their pieces, learn merges, encode.

A few megabytes go the readable way, through `split` and `bpe`. More go through their twins compiled with Numba, which
are ten times as fast but take a second to load; without Numba everything goes the readable way.
"""

import importlib.util
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

import numpy as np

from valyrian_jax.tokenizer import bpe
from valyrian_jax.tokenizer.hf_format import BYTE_ORDER
from valyrian_jax.tokenizer.pretokenizer import class_table, split_texts

_COMPILED_FROM = 1 << 22  # bytes of text
_BATCH = 1 << 23  # bytes of text looked at in one go

# For the tables of the compiled code: odd, and another in every process, so that nobody can write a text for which they
# are slow.
MIX = np.uint64(secrets.randbits(64) | 1)

_ID_OF_BYTE = np.argsort(np.array(BYTE_ORDER)).astype(np.int32)


def pays_to_compile(size: int) -> bool:
    """Whether `size` bytes of text are worth loading the compiled code, and it is there."""
    return size >= _COMPILED_FROM and importlib.util.find_spec("numba") is not None


def utf8(text: str) -> bytes:
    """UTF-8, with U+FFFD for a lone surrogate (a pair of surrogates is one character)."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def batches(texts: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Texts in groups of some 8 MB, so that no more than that is in memory (a longer text is a group of its own)."""
    group: list[bytes] = []
    size = 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size >= _BATCH:
            yield group
            group, size = [], 0
    if group:
        yield group


def count(texts: Iterable[bytes]) -> Counter[bytes]:
    """How often every piece occurs in texts, which are read once."""
    counts: Counter[bytes] = Counter()
    for group in batches(texts):
        data, ends = b"".join(group), np.cumsum([len(text) for text in group])
        if pays_to_compile(len(data)):
            from valyrian_jax.tokenizer import numba_pretokenizer

            found = numba_pretokenizer.count(
                np.frombuffer(data, np.uint8), ends, class_table(), MIX
            )
            for start, end, n in zip(*(column.tolist() for column in found), strict=True):
                counts[data[start:end]] += n
        else:
            counts.update(data[a:b] for a, b in pairwise(split_texts(group).tolist()))
    return counts


def learn(counts: Mapping[bytes, int], merges: int) -> list[bpe.Pair]:
    """Learn up to `merges` merges from pieces, where the ids of the 256 bytes are those of GPT-2."""
    pieces = b"".join(counts)
    if not pays_to_compile(
        len(pieces) * merges // 16
    ):  # what a merge does to a piece is less than cutting it
        ids = _ID_OF_BYTE.tolist()
        words = {tuple(ids[b] for b in piece): n for piece, n in counts.items()}
        return bpe.learn(words, 256, merges)
    from valyrian_jax.tokenizer import numba_bpe

    lengths = np.fromiter(map(len, counts), np.int64, len(counts))
    word_of = np.zeros(len(pieces) + len(counts) + 1, np.int32)
    symbols = np.full_like(word_of, -1)
    places = 1 + np.arange(len(pieces)) + np.repeat(np.arange(len(counts)), lengths)
    symbols[places] = _ID_OF_BYTE[np.frombuffer(pieces, np.uint8)]
    word_of[places] = np.repeat(np.arange(len(counts)), lengths)
    weights = np.fromiter(counts.values(), np.int64, len(counts))
    found = numba_bpe.learn(symbols, word_of, weights, 256, merges, MIX)
    return list(zip((found >> 32).tolist(), (found & 0xFFFFFFFF).tolist(), strict=True))
