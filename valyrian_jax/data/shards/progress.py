"""Messages while text is encoded: a progress line, and a note for each file that is not used."""

from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from valyrian_jax.data.reading.documents import REASONS
from valyrian_jax.data.shards.index import Position, ShardIndex
from valyrian_jax.data.shards.tasks import EncodedGroup, Int64
from valyrian_jax.errors import escape
from valyrian_jax.tokenizer.display import format_size


class FileTally(NamedTuple):
    """Documents of one input file."""

    file: int  # index of the file
    counts: Int64  # int64[R]: number of documents for each of `documents.REASONS`
    is_complete: bool  # whether the tally began with the first document of the file


def start_tally(position: Position) -> FileTally:
    """Return the empty tally of the file in which encoding starts or resumes."""
    is_complete = (position.document, position.token) == (0, 0)
    return FileTally(position.file, np.zeros(len(REASONS), np.int64), is_complete)


def tally_group(tally: FileTally, group: EncodedGroup) -> list[FileTally]:
    """Count the documents of a group by file; `tally` is of the file of the previous group.

    Returns the tallies of the files that are finished, and last that of the group's last file.
    """
    finished: list[FileTally] = []
    files, starts = np.unique(group.positions[:, 0], return_index=True)
    by_file = np.split(group.reasons, starts[1:])
    for file, reasons in zip(files.tolist(), by_file, strict=True):
        if file != tally.file:
            finished.append(tally)
            tally = start_tally(Position(file, 0, 0))
        counts = tally.counts + np.bincount(reasons, minlength=len(REASONS))
        tally = tally._replace(counts=counts)
    return [*finished, tally]


def note_unused_file(tally: FileTally, index: ShardIndex, console: Console) -> None:
    """Print a note if a whole file was read and all of its documents were skipped."""
    is_used = tally.counts[0] > 0
    if tally.is_complete and tally.counts.any() and not is_used:
        reasons = ", ".join(
            f"{count:,} {reason}"
            for reason, count in zip(REASONS, tally.counts, strict=True)
            if count
        )
        print_line(
            console, f"note: no document of {index.inputs[tally.file].name} was used: {reasons}"
        )


def print_line(console: Console, line: str) -> None:
    """Print a line, never wrapped; control characters appear as escapes."""
    console.print(escape(line), markup=False, highlight=False, soft_wrap=True)


def make_progress_bar(console: Console, index: ShardIndex) -> Progress:
    """Return a progress line over the bytes of the input, which is shown on a terminal only."""
    left = TextColumn("left:"), TimeRemainingColumn()
    columns = TextColumn("{task.description}"), TimeElapsedColumn(), *left
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    sizes = [file.size for file in index.inputs]
    file = index.position.file
    bar.add_task(
        "encoding",
        total=sum(sizes) or None,  # None: pipes, which have no size
        completed=sum(sizes[:file]),
        tokens=0,
        size=0,
        file=file,
        size_in_file=0,
    )
    return bar


def update_progress_bar(bar: Progress, group: EncodedGroup, index: ShardIndex) -> None:
    """Add a group to the progress line."""
    (task,) = bar.tasks
    file = int(group.positions[-1, 0])
    tokens = task.fields["tokens"] + len(group.tokens)
    size = task.fields["size"] + int(group.sizes.sum())
    size_in_file = int(group.sizes[group.positions[:, 0] == file].sum())
    if file == task.fields["file"]:
        size_in_file += task.fields["size_in_file"]
    # Text that is longer than its file was compressed; its size says nothing about the position.
    read = size_in_file if size_in_file <= index.inputs[file].size else 0
    seconds = max(task.elapsed or 0.0, 1e-9)
    description = (
        f"{tokens:,} tokens, {format_size(size)} of text, {format_size(int(size / seconds))}/s"
    )
    bar.update(
        task.id,
        completed=sum(each.size for each in index.inputs[:file]) + read,
        description=description,
        tokens=tokens,
        size=size,
        file=file,
        size_in_file=size_in_file,
    )
