"""Read the documents of all input files, before or after a position, and group them for workers."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from valyrian_jax.data.reading.documents import (
    MAX_DOCUMENT_BYTES,
    RawDocument,
    ignore_note,
    read_documents,
)
from valyrian_jax.data.reading.text_form import Note
from valyrian_jax.data.shards.index import ShardIndex
from valyrian_jax.data.shards.tasks import Group
from valyrian_jax.errors import StopSignal

# The size of a group: large enough that compiled code pays off in a worker.
_GROUP_BYTES, _GROUP_DOCUMENTS = 1 << 24, 1 << 17


class Document(NamedTuple):
    """A document of the input: its file, its number in the file, and what to decode."""

    file: int
    number: int
    raw: RawDocument


def read_files(
    files: Sequence[str | Path], index: ShardIndex, stop_signal: StopSignal, note: Note
) -> Iterator[Document]:
    """Yield the documents of all files from the index's position on, until a signal stops it."""
    start = index.position
    for document in read_all_files(files, index, start.file, stop_signal, note):
        if (document.file, document.number) >= (start.file, start.document):
            yield document


def read_files_before(
    files: Sequence[str | Path], index: ShardIndex, stop_signal: StopSignal
) -> Iterator[RawDocument]:
    """Yield the documents of all files before the index's position, until a signal stops it."""
    stop = index.position
    opened = files[: stop.file + bool(stop.document)]  # A pipe can be read only once.
    for document in read_all_files(opened, index, 0, stop_signal, ignore_note):
        if (document.file, document.number) >= (stop.file, stop.document):
            return
        yield document.raw


def read_all_files(
    files: Sequence[str | Path], index: ShardIndex, first: int, stop_signal: StopSignal, note: Note
) -> Iterator[Document]:
    """Yield the documents of the files from number `first` on, until a signal stops it."""
    for file, path in itertools.islice(enumerate(files), first, None):
        documents = read_documents(path, index.text_key, index.separator, MAX_DOCUMENT_BYTES, note)
        for number, document in enumerate(documents):
            if stop_signal() is not None:
                return
            yield Document(file, number, document)


def group_documents(documents: Iterable[Document]) -> Iterator[Group]:
    """Yield documents in groups for the workers."""
    positions: list[tuple[int, int]] = []
    raw: list[RawDocument] = []
    size = 0
    for document in documents:
        positions.append((document.file, document.number))
        raw.append(document.raw)
        size += len(document.raw.content or b"")
        if size >= _GROUP_BYTES or len(raw) >= _GROUP_DOCUMENTS:
            yield Group(np.array(positions), raw)
            positions, raw, size = [], [], 0
    if raw:
        yield Group(np.array(positions), raw)
