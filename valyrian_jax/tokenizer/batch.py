"""Whole texts: count their pieces and learn merges from the counts.

Small texts go through the readable modules, `pretokenizer` and `bpe`. Texts of many megabytes go
through their Numba twins, which are ten times as fast but take a second to load. Without Numba, all
texts go through the readable modules.
"""

import importlib.util
import secrets
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

import numpy as np

from valyrian_jax.errors import delay_interrupts
from valyrian_jax.tokenizer import bpe
from valyrian_jax.tokenizer.hf_format import BYTE_ORDER
from valyrian_jax.tokenizer.pretokenizer import load_class_table, split_texts

_MIN_COMPILED_BYTES = 1 << 22  # bytes of text
_GROUP_BYTES = 1 << 23  # bytes of text processed at once

# Multiplier of the hashes in the compiled code. It is odd and differs in every process, so nobody
# can write a text whose pieces all collide.
MIX = np.uint64(secrets.randbits(64) | 1)

_NO_MERGES = np.empty((0, 2), np.int64), np.empty(0, np.int64)
_ID_OF_BYTE = np.argsort(np.array(BYTE_ORDER)).astype(np.int32)


def is_worth_compiling(size: int) -> bool:
    """Return whether Numba is installed and `size` bytes are worth loading compiled code for."""
    return size >= _MIN_COMPILED_BYTES and importlib.util.find_spec("numba") is not None


def encode_utf8(text: str) -> bytes:
    """Return text as UTF-8: a pair of surrogates as one character, a lone one as U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def group_texts(texts: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield texts in groups of about 8 MB, which bounds memory; a longer text is its own group."""
    group: list[bytes] = []
    size = 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def count_pieces(texts: Iterable[bytes]) -> Counter[bytes]:
    """Return the number of occurrences of every piece; the texts are read once."""
    counts: Counter[bytes] = Counter()
    for group in group_texts(texts):
        data, ends = b"".join(group), np.cumsum([len(text) for text in group])
        if is_worth_compiling(len(data)):
            from valyrian_jax.tokenizer import numba_state, numba_trainer

            with delay_interrupts():
                state = numba_state.make_state(load_class_table(), _ID_OF_BYTE, *_NO_MERGES, MIX)
                rows = numba_trainer.count_pieces(data, ends, state)
            for start, end, n in rows.tolist():
                counts[data[start:end]] += n
        else:
            counts.update(data[a:b] for a, b in pairwise(split_texts(group).tolist()))
    return counts


def learn_merges(counts: Mapping[bytes, int], merge_count: int) -> list[bpe.Pair]:
    """Learn up to `merge_count` merges from counted pieces, with GPT-2's ids for the 256 bytes."""
    pieces = b"".join(counts)
    # A merge costs less per byte than splitting text does; count it as a sixteenth.
    is_worthwhile = is_worth_compiling(len(pieces) * merge_count // 16)
    if not is_worthwhile and "valyrian_jax.tokenizer.numba_trainer" not in sys.modules:
        ids = _ID_OF_BYTE.tolist()
        words = {tuple(ids[b] for b in piece): n for piece, n in counts.items()}
        return bpe.learn(words, 256, merge_count)
    from valyrian_jax.tokenizer import numba_trainer

    lengths = np.fromiter(map(len, counts), np.int64, len(counts))
    word_of = np.zeros(len(pieces) + len(counts) + 1, np.int32)
    symbols = np.full_like(word_of, -1)
    word_of_byte = np.repeat(np.arange(len(counts)), lengths)
    positions = 1 + np.arange(len(pieces)) + word_of_byte
    symbols[positions] = _ID_OF_BYTE[np.frombuffer(pieces, np.uint8)]
    word_of[positions] = word_of_byte
    frequencies = np.fromiter(counts.values(), np.int64, len(counts))
    with delay_interrupts():
        pairs = numba_trainer.learn(symbols, word_of, frequencies, 256, merge_count, MIX)
    return list(zip((pairs >> 32).tolist(), (pairs & 0xFFFFFFFF).tolist(), strict=True))
