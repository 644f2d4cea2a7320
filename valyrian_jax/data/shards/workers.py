"""Encode groups of documents in worker processes, ahead of their use and in order."""

import collections
import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.data.reading.documents import (
    CONTINUATION,
    GOOD,
    REASONS,
    RawDocument,
    decode_document,
)
from valyrian_jax.data.shards.shard_set import token_dtype
from valyrian_jax.data.text import Tokens
from valyrian_jax.errors import StopSignal, UserError
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tokenizer.batch import encode_utf8

Int64 = npt.NDArray[np.int64]


class Group(NamedTuple):
    """D documents that a worker encodes in one go."""

    positions: Int64  # int64[D, 2]: the file of each document, and its number in the file
    documents: list[RawDocument]


class EncodedGroup(NamedTuple):
    """The tokens of a group of D documents."""

    positions: Int64  # int64[D, 2]: the file of each document, and its number in the file
    tokens: Tokens
    """Tokens of the good documents, with <|endoftext|> before each; none before a piece that
    continues a document."""
    ends: Int64  # int64[D]: where the tokens of each document end; a skipped document has none
    sizes: Int64  # int64[D]: bytes of each text, in UTF-8
    reasons: npt.NDArray[np.uint8]  # uint8[D]: index into `documents.REASONS`


def encode_groups(
    groups: Iterable[Group], tokenizer: Path, workers: int, stop_signal: StopSignal
) -> Generator[EncodedGroup]:
    """Yield encoded groups in order, while so many workers encode the next ones.

    Every worker loads the tokenizer.json once. `stop_signal` is checked before each group.
    """
    pending: collections.deque[Future[EncodedGroup]] = collections.deque()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _exit_with_parent) as pool:
        try:
            for group in groups:
                if stop_signal() is not None:
                    break
                with _block_interrupts():  # submitting starts workers, which inherit the block
                    pending.append(pool.submit(encode_group, tokenizer, group))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending and stop_signal() is None:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            if stop_signal() is None:
                raise UserError(
                    "a worker process was killed, perhaps because memory is short; finished shards "
                    "are kept: run the same command again to resume, with fewer --workers if needed"
                ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def encode_group(tokenizer: Path, group: Group) -> EncodedGroup:
    """Encode documents as `text.encode_documents` does, without the last <|endoftext|>."""
    loaded = _load_tokenizer(tokenizer)
    decoded = [*map(decode_document, group.documents)]
    is_first = np.array([reason == GOOD for _, reason in decoded])
    is_used = is_first | np.array([reason == CONTINUATION for _, reason in decoded])
    texts = [text for text, reason in decoded if reason in (GOOD, CONTINUATION)]
    ids, ends = loaded.encode_documents(texts)
    dtype = token_dtype(loaded.vocab_size)
    starts = np.concatenate([[0], ends])[: len(texts)][is_first[is_used]]
    tokens = np.insert(ids.astype(dtype), starts, dtype.type(loaded.end_of_text))
    counts, sizes = np.zeros(len(decoded), np.int64), np.zeros(len(decoded), np.int64)
    counts[is_used] = np.diff(ends, prepend=0)
    counts += is_first
    sizes[is_used] = [len(encode_utf8(text)) for text in texts]
    reasons = np.array([REASONS.index(reason) for _, reason in decoded], np.uint8)
    return EncodedGroup(group.positions, tokens, np.cumsum(counts), sizes, reasons)


@functools.cache
def _load_tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.load(path)


@contextlib.contextmanager
def _block_interrupts() -> Iterator[None]:
    """Block what a terminal sends to all processes; workers leave it to their parent."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _exit_with_parent() -> None:
    """Start a thread that ends this worker when its parent ends, even if that is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
