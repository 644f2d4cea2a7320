"""Encode any amount of text as shards, in stages: read, group, encode in workers, write, index.

The shards depend only on the text, the tokenizer and the shard size, not on the number of workers
or on interruptions: the index is written after every shard and says where the next one begins, so a
killed run resumes there.
"""

import contextlib
import functools
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from valyrian_jax.config import BLANK_LINE
from valyrian_jax.data.reading.documents import (
    CONTINUATION,
    GOOD,
    REASONS,
    describe_skipped,
)
from valyrian_jax.data.reading.text_form import Note, check_texts
from valyrian_jax.data.shards.duplicates import hash_documents
from valyrian_jax.data.shards.executors import Workers, open_workers
from valyrian_jax.data.shards.index import (
    INDEX_NAME,
    TOKENIZER_NAME,
    Position,
    ShardIndex,
    check_shard_directory,
    find_difference,
    is_pipe,
    make_index,
    read_index,
    write_index,
)
from valyrian_jax.data.shards.inputs import group_documents, read_files, read_files_before
from valyrian_jax.data.shards.progress import (
    make_progress_bar,
    note_unused_file,
    print_line,
    start_tally,
    tally_group,
    update_progress_bar,
)
from valyrian_jax.data.shards.shard_set import check_shard, token_dtype, write_shard
from valyrian_jax.data.shards.tasks import EncodedGroup, drop_duplicates, encode_groups
from valyrian_jax.data.text import Tokens
from valyrian_jax.errors import StoppedError, StopSignal, UserError
from valyrian_jax.files import lock_directory, read_text, remove_temporaries
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tokenizer.display import count_noun

SHARD_TOKENS = 1 << 26


@dataclass(frozen=True)
class WriterState:
    """The state of the writer between two groups."""

    index: ShardIndex
    """Index of all shards so far. It counts the documents of all groups; the index on disk counts
    only those that end before its `position`."""
    pending: list[Tokens]  # tokens after the last full shard
    skip: int  # number of tokens of the next group that are in shards already


def encode_files(
    vocabulary: Path,
    files: Sequence[str | Path],
    out: Path,
    console: Console,
    text_key: str = "text",
    shard_tokens: int = SHARD_TOKENS,
    workers: int | None = None,
    separator: str = BLANK_LINE,
    stop_signal: StopSignal = lambda: None,
    scheduler: str | None = None,
    deduplicate: bool = False,
) -> ShardIndex:
    """Write the tokens of files as shards, or resume writing them.

    Args:
        vocabulary: A tokenizer.json.
        files: Texts; see `valyrian_jax.data.reading.documents`.
        out: Directory of the shards.
        console: Where to print notes, and progress if it is a terminal.
        text_key: Key of the text in JSON, or its column in Parquet; empty: JSON is plain text.
        shard_tokens: Tokens of a shard; they are held in memory until it is written.
        workers: Number of processes; None: one for each core.
        separator: What separates the documents of plain text.
        stop_signal: Function that is called before each document and group; a signal ends the work.
        scheduler: Address of a Dask scheduler whose workers encode; None: processes of this
            machine.
        deduplicate: Whether to skip documents whose whole text came before. The hashes of all
            texts take about 90 bytes each, and a resumed run reads the finished part for them.

    Returns:
        The finished index, even if it was finished before.

    Raises:
        UserError: An input is bad, differs from that of the unfinished shards, or `out` cannot be
            written.
        StoppedError: A signal asked to stop; finished shards are kept.
    """
    tokenizer = Tokenizer.load(vocabulary)
    new_index = make_index(tokenizer, files, text_key, shard_tokens, separator, deduplicate)
    # Print each line only once, though many files may cause it.
    note = functools.cache(lambda line: print_line(console, f"note: {line}"))
    check_texts(files, text_key, separator, note)
    check_shard_directory(out)
    with lock_directory(out, "encoding text"):
        remove_temporaries(out / INDEX_NAME, out / TOKENIZER_NAME)
        index = open_index(out, new_index, tokenizer)
        _check_files_can_be_read_again(out, index, files)
        if index.finished:
            print_line(console, f"{out} is finished already")
            return index
        with open_workers(workers or os.cpu_count() or 1, scheduler) as opened:
            state = write_groups(out, index, files, console, opened, stop_signal, note)
        if stop := stop_signal():
            raise _make_stop(state.index, stop)
        return write_last_shard(out, state, tokenizer)


def _make_stop(index: ShardIndex, stop: signal.Signals) -> StoppedError:
    return StoppedError(
        f"stopped after {count_noun(len(index.shards), 'shard')}, "
        f"{count_noun(index.tokens, 'token')} ({stop.name}); they are saved: run the same command "
        "again to resume",
        stop,
    )


def _check_files_can_be_read_again(
    out: Path, index: ShardIndex, files: Sequence[str | Path]
) -> None:
    if index.shards and (pipe := next(filter(is_pipe, files), None)):
        raise UserError(
            f"{out} has shards already, but the pipe {pipe} cannot be read again; expected "
            "regular files to resume: choose another --out"
        )


def open_index(out: Path, new_index: ShardIndex, tokenizer: Tokenizer) -> ShardIndex:
    """Return the index to resume from; write a new one if there is no shard yet."""
    index = read_index(out) if (out / INDEX_NAME).exists() else None
    if index is None or not index.shards:
        tokenizer.save(out / TOKENIZER_NAME)
        write_index(out, new_index)
        return new_index
    if difference := find_difference(index, new_index):
        raise UserError(
            f"{out} was started with {difference}; use the same to resume, or choose another --out"
        )
    for number in range(len(index.shards)):
        check_shard(out, index, number)
    if not index.finished or not (out / TOKENIZER_NAME).exists():
        tokenizer.save(out / TOKENIZER_NAME)  # The same one, in case the file was lost.
    return index


def write_groups(
    out: Path,
    index: ShardIndex,
    files: Sequence[str | Path],
    console: Console,
    workers: Workers,
    stop_signal: StopSignal,
    note: Note,
) -> WriterState:
    """Run all stages from `index.position` on, to the end of the files or until a signal."""
    state, tally = WriterState(index, [], index.position.token), start_tally(index.position)
    documents = read_files(files, index, stop_signal, note)
    tokenizer = read_text(out / TOKENIZER_NAME)
    before = read_files_before(files, index, stop_signal) if index.deduplicate else ()
    seen = hash_documents(before)
    groups = encode_groups(
        group_documents(documents), tokenizer, index.deduplicate, workers, stop_signal
    )
    with contextlib.closing(groups), make_progress_bar(console, index) as bar:
        for encoded in groups:
            group = drop_duplicates(encoded, seen)
            state = write_full_shards(out, state, group)
            *finished, tally = tally_group(tally, group)
            for finished_tally in finished:
                note_unused_file(finished_tally, index, console)
            update_progress_bar(bar, group, index)
    if stop_signal() is None:
        note_unused_file(tally, index, console)
    return state


def write_full_shards(out: Path, state: WriterState, group: EncodedGroup) -> WriterState:
    """Write the shards that a group fills, each with its index; keep the tokens after them."""
    index, pending, start = state.index, list(state.pending), state.skip
    while start < len(group.tokens):
        missing = index.shard_tokens - sum(map(len, pending))
        stop = min(start + missing, len(group.tokens))
        pending.append(group.tokens[start:stop])
        if stop - start == missing:
            shard = write_shard(out, len(index.shards), pending, index.tokenizer_sha256)
            complete = int(np.searchsorted(group.ends, stop, "right"))
            index = replace(
                index,
                position=find_position(group, complete, stop),
                tokens=index.tokens + shard.tokens,
                shards=(*index.shards, shard),
            )
            write_index(out, count_documents(index, group, complete))
            pending = []
        start = stop
    return WriterState(count_documents(index, group, len(group.ends)), pending, 0)


def write_last_shard(out: Path, state: WriterState, tokenizer: Tokenizer) -> ShardIndex:
    """Write the pending tokens with a last <|endoftext|>, and the finished index."""
    index = state.index
    if not index.documents:
        names = ", ".join(file.name for file in index.inputs)
        raise UserError(
            f"there is no document in {names}{describe_skipped(index.skipped)}; expected at least "
            "one with text: name another text, or another --text-key"
        )
    end = np.array([tokenizer.end_of_text], token_dtype(tokenizer.vocab_size))
    shard = write_shard(out, len(index.shards), [*state.pending, end], index.tokenizer_sha256)
    index = replace(
        index, finished=True, tokens=index.tokens + shard.tokens, shards=(*index.shards, shard)
    )
    write_index(out, index)
    return index


def count_documents(index: ShardIndex, group: EncodedGroup, complete: int) -> ShardIndex:
    """Return the index with the first `complete` documents of a group counted."""
    counts = np.bincount(group.reasons[:complete], minlength=len(REASONS)).tolist()
    skipped = {
        reason: index.skipped.get(reason, 0) + count
        for reason, count in zip(REASONS, counts, strict=True)
        if reason not in (GOOD, CONTINUATION)
    }
    return replace(
        index,
        documents=index.documents + counts[0],
        size=index.size + int(group.sizes[:complete].sum()),
        skipped={reason: count for reason, count in skipped.items() if count},
    )


def find_position(group: EncodedGroup, complete: int, stop: int) -> Position:
    """Return the position of token `stop` of a group, before which `complete` documents end."""
    if complete == len(group.ends):
        file, number = group.positions[-1].tolist()
        return Position(file, number + 1, 0)
    file, number = group.positions[complete].tolist()
    return Position(file, number, stop - int(group.ends[complete - 1] if complete else 0))
