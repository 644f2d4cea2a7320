"""Any amount of text to shards of tokens: documents as a stream, encoded by worker processes, cut to one size.

The shards depend on the text, the tokenizer and their size alone, not on the number of workers or on how often the work
was stopped. After every shard the index says where the next one begins, so that a killed run goes on from there.
"""

import contextlib
import hashlib
import itertools
import os
import stat
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from valyrian_jax.data import documents, shard_workers, shards
from valyrian_jax.data.shard_workers import Encoded, Group, Int64, Raw
from valyrian_jax.data.shards import InputFile, Position, ShardIndex
from valyrian_jax.errors import StoppedError, StopSignal, UserError
from valyrian_jax.files import lock_directory
from valyrian_jax.tokenizer import Tokenizer

SHARD_TOKENS = 1 << 26
_GROUP_BYTES, _GROUP_DOCUMENTS = (
    1 << 24,
    1 << 17,
)  # that one worker gets at a time: enough to pay for compiled code
_END_BYTES = 1 << 20  # of either end of a text, by which it is known again beside its size
_BEFORE_INDEX = {"lock", shards.TOKENIZER, f"{shards.TOKENIZER}.partial", f"{shards.INDEX}.partial"}


def encode(
    vocabulary: Path,
    files: Sequence[Path],
    out: Path,
    console: Console,
    text_key: str = "text",
    shard_tokens: int = SHARD_TOKENS,
    workers: int | None = None,
    stop_signal: StopSignal = lambda: None,
) -> ShardIndex:
    """Write the tokens of files as shards, or go on with it.

    Args:
        vocabulary: a tokenizer.json.
        files: texts, see `documents`.
        out: directory of the shards.
        console: where to show progress, if it is a terminal.
        text_key: of the text in JSON lines.
        shard_tokens: tokens of a shard, which are held in memory until it is written.
        workers: processes; None: one for each core.
        stop_signal: asked again and again whether to stop.

    Returns:
        The finished index; also if it was finished before.

    Raises:
        UserError: bad input, another text (by name, size and both its ends) or tokenizer than what was begun, or
            nowhere to write.
        StoppedError: a signal asked for it; the finished shards stay.
    """
    tokenizer = Tokenizer.load(vocabulary)
    wanted = _index(tokenizer, files, text_key, shard_tokens)
    end = np.array([tokenizer.end_of_text], shards.token_dtype(tokenizer.vocab_size))
    there = {file.name for file in out.iterdir()} if out.is_dir() else set()
    if shards.INDEX not in there and there - _BEFORE_INDEX:
        raise UserError(f"{out} is not empty and has no {shards.INDEX}; choose another --out")
    with lock_directory(out, "encoding text"):
        index = begun(out, wanted, tokenizer)
        if index.finished:
            console.print(
                f"{out} is finished already", markup=False, highlight=False, soft_wrap=True
            )
            return index
        start = index.position
        found = itertools.takewhile(
            lambda _: stop_signal() is None, _documents(files, text_key, start.file)
        )
        rest = itertools.dropwhile(
            lambda document: document[:2] < (start.file, start.document), found
        )
        encoded = shard_workers.encoded(
            _groups(rest), out / shards.TOKENIZER, workers or os.cpu_count() or 1, stop_signal
        )
        with contextlib.closing(encoded), contextlib.closing(_shown(encoded, console)) as shown:
            index, parts = _write(out, index, _noticed(shown, index, console, stop_signal))
        if stop := stop_signal():
            raise StoppedError(
                f"stopped by {stop.name} after {len(index.shards):,} shards, {index.tokens:,} tokens, which are kept; "
                "the same command goes on",
                stop,
            )
        return _finish(out, index, [*parts, end])


def _index(
    tokenizer: Tokenizer, files: Sequence[Path], text_key: str, shard_tokens: int
) -> ShardIndex:
    """The index of a directory in which there is no shard yet."""
    return ShardIndex(
        format=1,
        finished=False,
        tokenizer_sha256=tokenizer.sha256,
        vocab_size=tokenizer.vocab_size,
        shard_tokens=shard_tokens,
        text_key=text_key,
        inputs=tuple(map(_input, files)),
        tokens=0,
        documents=0,
        size=0,
        skipped={},
        position=Position(0, 0, 0),
        shards=(),
    )


def begun(out: Path, wanted: ShardIndex, tokenizer: Tokenizer) -> ShardIndex:
    """What is in a directory already, or the beginning of it.

    Raises:
        UserError: what is there was made of something else.
    """
    index = shards.read_index(out) if (out / shards.INDEX).exists() else None
    if index is None or not index.shards:  # nothing would be lost
        tokenizer.save(out / shards.TOKENIZER)
        shards.write_index(out, wanted)
        return wanted
    for what, before, now in _told(index, wanted):
        if before != now:
            raise UserError(
                f"{out} was begun with {what} {before}, and this is {now}; give the same to go on, or choose another "
                "--out"
            )
    for number in range(len(index.shards)):
        shards.check(out, index, number)
    if not index.finished or not (out / shards.TOKENIZER).exists():
        tokenizer.save(out / shards.TOKENIZER)  # as it was; it may have been lost
    return index


def _told(before: ShardIndex, now: ShardIndex) -> Iterator[tuple[str, str | int, str | int]]:
    """What must stay the same for the shards to be the same, as a message names it."""
    yield "a tokenizer of SHA-256", before.tokenizer_sha256, now.tokenizer_sha256
    yield "--shard-tokens", before.shard_tokens, now.shard_tokens
    yield "--text-key", before.text_key, now.text_key
    yield "a number of files of", len(before.inputs), len(now.inputs)
    for one, other in zip(before.inputs, now.inputs, strict=True):
        yield "the file", _told_file(one), _told_file(other)


def _told_file(file: InputFile) -> str:
    return f"{file.name} ({file.size:,} bytes, {file.ends_sha256[:12]})"


def _input(path: Path) -> InputFile:
    """A file as the index names it; no JSON can hold a name that is not UTF-8 as it is."""
    digest = hashlib.sha256()
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(
                f"cannot read the text {path}: with --out it must be a file, which can be read again"
            )
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            for place in (0, max(size - _END_BYTES, 0)):
                file.seek(place)
                digest.update(file.read(_END_BYTES))
        return InputFile(
            os.fsencode(path).decode("utf-8", "backslashreplace"), size, digest.hexdigest()
        )
    except OSError as error:
        raise UserError(f"cannot read the text {path}: {error.strerror}") from error


def _documents(files: Sequence[Path], text_key: str, first: int) -> Iterator[tuple[int, int, Raw]]:
    """File, number and content of every document from a file on."""
    for file, path in itertools.islice(enumerate(files), first, None):
        key = text_key if documents.has_lines(path) else None
        for number, document in enumerate(documents.read_raw(path, documents.LONGEST)):
            yield file, number, (document, key)


def _groups(found: Iterable[tuple[int, int, Raw]]) -> Iterator[Group]:
    places: list[tuple[int, int]] = []
    group: list[Raw] = []
    size = 0
    for file, number, document in found:
        places.append((file, number))
        group.append(document)
        size += len(document[0] or b"")
        if size >= _GROUP_BYTES or len(group) >= _GROUP_DOCUMENTS:
            yield Group(np.array(places), group)
            places, group, size = [], [], 0
    if group:
        yield Group(np.array(places), group)


def _write(
    out: Path, index: ShardIndex, results: Iterable[tuple[Int64, Encoded]]
) -> tuple[ShardIndex, list[shards.Tokens]]:
    """Cut tokens into shards and write those that are full.

    Returns:
        The index, which counts all documents now, and the tokens after the last full shard.
    """
    parts: list[shards.Tokens] = []
    written, counted, begin = index, index, index.position.token
    for places, encoded in results:
        while begin < len(encoded.tokens):
            end = min(begin + index.shard_tokens - sum(map(len, parts)), len(encoded.tokens))
            parts.append(encoded.tokens[begin:end])
            begin = end
            if sum(map(len, parts)) == index.shard_tokens:
                shard = shards.write_shard(out, len(written.shards), parts, index.tokenizer_sha256)
                whole = int(
                    np.searchsorted(encoded.ends, end, "right")
                )  # documents that end here or before
                written = replace(
                    _counted(counted, encoded, whole),
                    position=_position(places, encoded.ends, whole, end),
                    tokens=written.tokens + shard.tokens,
                    shards=(*written.shards, shard),
                )
                shards.write_index(out, written)
                parts = []
        counted, begin = _counted(counted, encoded, len(encoded.ends)), 0
    return replace(
        written, documents=counted.documents, size=counted.size, skipped=counted.skipped
    ), parts


def _counted(index: ShardIndex, encoded: Encoded, whole: int) -> ShardIndex:
    """An index with the first documents of a group counted."""
    reasons = np.bincount(encoded.reasons[:whole], minlength=len(documents.REASONS)).tolist()
    skipped = {
        reason: index.skipped.get(reason, 0) + n
        for reason, n in zip(documents.REASONS, reasons, strict=True)
    }
    return replace(
        index,
        documents=index.documents + reasons[0],
        size=index.size + int(encoded.sizes[:whole].sum()),
        skipped={reason: n for reason, n in skipped.items() if n and reason != documents.GOOD},
    )


def _position(places: Int64, ends: Int64, whole: int, end: int) -> Position:
    """Where to go on after token `end` of a group, in which so many documents end."""
    if whole == len(ends):
        return Position(int(places[-1, 0]), int(places[-1, 1]) + 1, 0)
    file, number = places[whole].tolist()
    return Position(file, number, end - int(ends[whole - 1] if whole else 0))


def _finish(out: Path, index: ShardIndex, parts: Sequence[shards.Tokens]) -> ShardIndex:
    """Write the last shard, and an index that says that it is the last."""
    if not index.documents:
        shown = describe_skipped(index)
        raise UserError(
            f"there is no document in {', '.join(file.name for file in index.inputs)}{shown}"
        )
    shard = shards.write_shard(out, len(index.shards), parts, index.tokenizer_sha256)
    index = replace(
        index, finished=True, tokens=index.tokens + shard.tokens, shards=(*index.shards, shard)
    )
    shards.write_index(out, index)
    return index


def describe(index: ShardIndex) -> str:
    """What is in finished shards, in one line."""
    return (
        f"{index.tokens:,} tokens in {len(index.shards):,} shards, of {index.documents:,} documents with "
        f"{index.size:,} bytes{describe_skipped(index)}"
    )


def describe_skipped(index: ShardIndex) -> str:
    """How many documents are not in the shards, and why."""
    if not index.skipped:
        return ""
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in index.skipped.items())
    return f"; skipped {sum(index.skipped.values()):,}: {reasons}"


def _noticed(
    results: Iterable[tuple[Int64, Encoded]],
    index: ShardIndex,
    console: Console,
    stop_signal: StopSignal,
) -> Iterator[tuple[Int64, Encoded]]:
    """The same results, with a line for every file, read from its beginning to its end, of which nothing is taken."""
    start, none = index.position, np.zeros(len(documents.REASONS), np.int64)
    current, counts = start.file, none
    is_whole = (start.document, start.token) == (0, 0)

    def note() -> None:
        if is_whole and counts.any() and not counts[0]:
            reasons = ", ".join(
                f"{n:,} {reason}" for reason, n in zip(documents.REASONS, counts, strict=True) if n
            )
            line = f"note: nothing is taken of {index.inputs[current].name}: {reasons}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    for places, encoded in results:
        yield places, encoded
        files, firsts = np.unique(places[:, 0], return_index=True)
        for file, reasons in zip(
            files.tolist(), np.split(encoded.reasons, firsts[1:]), strict=True
        ):
            if file != current:
                note()
                current, counts, is_whole = file, none, True
            counts = counts + np.bincount(reasons, minlength=len(none))
    if stop_signal() is None:
        note()


def _shown(
    results: Iterable[tuple[Int64, Encoded]], console: Console
) -> Generator[tuple[Int64, Encoded]]:
    """The same results, with a line that tells how far they are."""
    columns = TextColumn("{task.description}"), TimeElapsedColumn()
    began, done, size = time.perf_counter(), 0, 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("encoding", total=None)
        for places, encoded in results:
            yield places, encoded
            done, size = done + len(encoded.tokens), size + int(encoded.sizes.sum())
            speed = done / (time.perf_counter() - began)
            bar.update(
                task,
                description=f"{done:,} tokens, {size / 1e6:,.0f} MB of text, {speed:,.0f} tokens/s",
            )
