"""Encode groups of documents as tasks, ahead of their use and in order."""

import collections
import functools
import json
from collections.abc import Generator, Iterable
from concurrent.futures import BrokenExecutor, Future
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.data.reading.documents import (
    CONTINUATION,
    DUPLICATE,
    GOOD,
    REASONS,
    RawDocument,
    decode_document,
)
from valyrian_jax.data.shards.duplicates import find_duplicates, hash_document
from valyrian_jax.data.shards.executors import Workers
from valyrian_jax.data.shards.index import TOKENIZER_NAME
from valyrian_jax.data.shards.shard_set import token_dtype
from valyrian_jax.data.text import Tokens
from valyrian_jax.errors import StopSignal
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tokenizer.batch import encode_utf8

Int64 = npt.NDArray[np.int64]


class Group(NamedTuple):
    """D documents that a worker encodes together."""

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
    hashes: list[bytes]  # D hashes of `duplicates`, or none if duplicates are kept


def encode_groups(
    groups: Iterable[Group],
    tokenizer: str,
    deduplicate: bool,
    workers: Workers,
    stop_signal: StopSignal,
) -> Generator[EncodedGroup]:
    """Yield encoded groups in order, while the workers encode the next ones.

    Args:
        groups: Groups of documents.
        tokenizer: Content of a tokenizer.json; a worker on another machine cannot read the file.
        deduplicate: Whether the groups get the hashes of their documents.
        workers: Workers that encode the groups.
        stop_signal: Function that is called before each group; a signal ends the work.
    """
    pending: collections.deque[Future[EncodedGroup]] = collections.deque()
    try:
        for group in groups:
            if stop_signal() is not None:
                break
            pending.append(workers.submit(encode_group, tokenizer, deduplicate, group))
            if len(pending) > 2 * workers.slots:
                yield pending.popleft().result()
        while pending and stop_signal() is None:
            yield pending.popleft().result()
    except BrokenExecutor:
        if stop_signal() is None:  # Otherwise the signal has ended the workers, too.
            raise


def encode_group(tokenizer: str, deduplicate: bool, group: Group) -> EncodedGroup:
    """Encode documents as `text.encode_documents` does, without the last <|endoftext|>.

    The result depends on the arguments only, so it is the same on any worker and after a retry.
    """
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
    hashes = [*map(hash_document, group.documents, decoded)] if deduplicate else []
    return EncodedGroup(group.positions, tokens, np.cumsum(counts), sizes, reasons, hashes)


def drop_duplicates(group: EncodedGroup, seen: set[bytes]) -> EncodedGroup:
    """Drop the documents of a group whose hash is in `seen`, and add the other hashes to `seen`.

    A dropped document stays in the group as a skipped one.
    """
    is_duplicate = find_duplicates(group.hashes, seen)
    if not is_duplicate.any():
        return group
    counts = np.diff(group.ends, prepend=0)
    return group._replace(
        tokens=group.tokens[np.repeat(~is_duplicate, counts)],
        ends=np.cumsum(np.where(is_duplicate, 0, counts)),
        sizes=np.where(is_duplicate, 0, group.sizes),
        reasons=np.where(is_duplicate, np.uint8(REASONS.index(DUPLICATE)), group.reasons),
    )


@functools.lru_cache(maxsize=1)
def _load_tokenizer(content: str) -> Tokenizer:
    return Tokenizer.from_json(json.loads(content), TOKENIZER_NAME)
