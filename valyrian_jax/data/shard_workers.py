"""Documents to tokens by worker processes, as many ahead as there are workers, in the order of the documents."""

import collections
import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.data import shards
from valyrian_jax.data.documents import GOOD, REASONS, decode
from valyrian_jax.errors import StopSignal, UserError
from valyrian_jax.tokenizer import Tokenizer, batch

Int64 = npt.NDArray[np.int64]
Raw = tuple[
    bytes | None, str | None
]  # a document as it stands in its file, and the key of the text in it


class Group(NamedTuple):
    """Documents to encode in one go, and where each stands: [D, 2], its file and its number there."""

    places: Int64
    documents: list[Raw]


class Encoded(NamedTuple):
    """What a worker gives back of D documents.

    Attributes:
        tokens: of those that are good, <|endoftext|> before each.
        ends: int64[D], where those of each document end; where the one before ends if it has none.
        sizes: int64[D], bytes of UTF-8.
        reasons: uint8[D], index into `documents.REASONS`.
    """

    tokens: shards.Tokens
    ends: Int64
    sizes: Int64
    reasons: npt.NDArray[np.uint8]


def encoded(
    groups: Iterable[Group], tokenizer: Path, workers: int, stop_signal: StopSignal
) -> Generator[tuple[Int64, Encoded]]:
    """Groups through worker processes, in order, some of them ahead of what is asked for: (places, encoded)."""
    waiting: collections.deque[tuple[Int64, Future[Encoded]]] = collections.deque()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _end_with_parent) as pool:
        try:
            for places, group in groups:
                if stop_signal() is not None:
                    break
                with (
                    _interrupts_withheld()
                ):  # the processes that this starts leave Ctrl-C to this one
                    waiting.append((places, pool.submit(encode_group, tokenizer, group)))
                if len(waiting) > 2 * workers:
                    yield _result(waiting.popleft())
            while waiting and stop_signal() is None:
                yield _result(waiting.popleft())
        except BrokenProcessPool as error:
            if stop_signal() is None:
                raise UserError(
                    "a worker process was killed, as systems do where memory is short; finished shards are kept: the "
                    "same command goes on, with fewer --workers if need be"
                ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _result(waiting: tuple[Int64, Future[Encoded]]) -> tuple[Int64, Encoded]:
    return waiting[0], waiting[1].result()


@contextlib.contextmanager
def _interrupts_withheld() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """In a worker: end when the process that started it has, however that was."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@functools.cache
def _loaded(tokenizer: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer)  # once in every worker


def encode_group(tokenizer: Path, group: Sequence[Raw]) -> Encoded:
    """The tokens of documents, as `data.tokenize` gives them but for the last <|endoftext|>."""
    loaded = _loaded(tokenizer)
    found = [decode(*document) for document in group]
    good = np.array([reason == GOOD for _, reason in found])
    kept = [text for text, reason in found if reason == GOOD]
    ids, ends = loaded.encode_documents(kept)
    dtype = shards.token_dtype(loaded.vocab_size)
    tokens = np.insert(
        ids.astype(dtype), np.concatenate([[0], ends])[: len(kept)], dtype.type(loaded.end_of_text)
    )
    counts, sizes = np.zeros(len(group), np.int64), np.zeros(len(group), np.int64)
    counts[good] = np.diff(ends, prepend=0) + 1
    sizes[good] = [len(batch.utf8(text)) for text in kept]
    reasons = np.array([REASONS.index(reason) for _, reason in found], np.uint8)
    return Encoded(tokens, np.cumsum(counts), sizes, reasons)
