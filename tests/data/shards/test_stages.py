"""The stages of encoding, each on its own: read, group, encode in workers, write, index."""

import io
import multiprocessing
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.support.encoding import to_json_lines
from valyrian_jax.data.reading.documents import GOOD, NOT_JSON, REASONS, RawDocument
from valyrian_jax.data.shards import inputs
from valyrian_jax.data.shards.executors import open_workers
from valyrian_jax.data.shards.index import (
    InputFile,
    Position,
    ShardIndex,
    make_index,
    read_index,
)
from valyrian_jax.data.shards.inputs import (
    Document,
    group_documents,
    read_files,
    read_files_before,
)
from valyrian_jax.data.shards.progress import (
    FileTally,
    make_progress_bar,
    note_unused_file,
    start_tally,
    tally_group,
    update_progress_bar,
)
from valyrian_jax.data.shards.tasks import EncodedGroup, Group, encode_group, encode_groups
from valyrian_jax.data.shards.writer import (
    WriterState,
    count_documents,
    find_position,
    write_full_shards,
    write_last_shard,
)
from valyrian_jax.errors import StopSignal, UserError
from valyrian_jax.tokenizer import Tokenizer

EMPTY = REASONS.index("empty")


def make_group(file: int, first: int, ends: list[int], reasons: list[int]) -> EncodedGroup:
    """An encoded group whose tokens are 0, 1, 2, ..."""
    positions = np.array([(file, first + i) for i in range(len(ends))])
    sizes = np.diff(ends, prepend=0)
    tokens = np.arange(ends[-1], dtype=np.uint16)
    return EncodedGroup(positions, tokens, np.array(ends), sizes, np.array(reasons, np.uint8), [])


@pytest.fixture
def new_index(home: Path) -> ShardIndex:
    """An index without shards, for shards of 4 tokens."""
    return make_index(Tokenizer.load(home / "t.json"), [home / "a.txt"], "text", 4)


def test_reading_yields_all_documents_from_a_position_on(
    new_index: ShardIndex, tmp_path: Path
) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "1"}\n{"text": "2"}\n')
    (tmp_path / "y.txt").write_bytes(b"one\n\ntwo\n\nthree")
    files = [tmp_path / "x.jsonl", tmp_path / "y.txt"]

    def read_from(position: Position, stop_signal: StopSignal = lambda: None) -> list[Document]:
        index = replace(new_index, position=position)
        return [*read_files(files, index, stop_signal, lambda _: None)]

    read = read_from(Position(0, 1, 5))
    assert read == [
        Document(0, 1, RawDocument(b'{"text": "2"}\n', "text")),
        *(Document(1, i, RawDocument(text)) for i, text in enumerate((b"one", b"two", b"three"))),
    ]
    assert read_from(Position(1, 2, 0)) == read[-1:]
    assert read_from(Position(0, 0, 0), lambda: signal.SIGINT) == []


def test_reading_what_was_before_a_position_opens_no_other_file(
    new_index: ShardIndex, tmp_path: Path
) -> None:
    """One that is opened too early can be a pipe, which loses what was read."""
    (tmp_path / "x.txt").write_bytes(b"one\n\ntwo\n\nthree")
    files = [tmp_path / "x.txt", tmp_path / "none.txt"]

    def read_before(position: Position) -> list[bytes | None]:
        index = replace(new_index, position=position)
        return [raw.content for raw in read_files_before(files, index, lambda: None)]

    assert read_before(Position(0, 2, 1)) == [b"one", b"two"]
    assert read_before(Position(1, 0, 0)) == [b"one", b"two", b"three"]
    files[:] = files[1:]
    assert read_before(Position(0, 0, 0)) == []


def test_groups_end_at_a_number_of_bytes_or_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_GROUP_BYTES", 6)
    monkeypatch.setattr(inputs, "_GROUP_DOCUMENTS", 3)
    contents = [b"abc", b"def", b"", None, b"a", b"b"]
    documents = [Document(0, i, RawDocument(content)) for i, content in enumerate(contents)]
    groups = [*group_documents(documents)]
    assert [[document.content for document in group.documents] for group in groups] == [
        [b"abc", b"def"],
        [b"", None, b"a"],
        [b"b"],
    ]
    positions = np.concatenate([group.positions for group in groups])
    assert positions.tolist() == [[0, i] for i in range(6)]
    assert [*group_documents([])] == []


def test_a_group_is_encoded_with_end_of_text_before_each_good_document(home: Path) -> None:
    tokenizer = Tokenizer.load(home / "t.json")
    raw = [
        RawDocument(b"Rytsas"),
        RawDocument(b"{", "text"),
        RawDocument(to_json_lines(["daor"]), "text"),
        RawDocument(b" "),
    ]
    group = encode_group(
        (home / "t.json").read_text(), False, Group(np.zeros((4, 2), np.int64), raw)
    )
    first, second = ([tokenizer.end_of_text, *tokenizer.encode(t)] for t in ("Rytsas", "daor"))
    assert group.tokens.tolist() == first + second
    last = len(first) + len(second)
    assert group.ends.tolist() == [len(first), len(first), last, last]
    assert group.sizes.tolist() == [6, 0, 4, 0]
    assert [REASONS[reason] for reason in group.reasons] == [GOOD, NOT_JSON, GOOD, "empty"]


def test_workers_return_groups_in_order_and_stop_at_a_signal(home: Path) -> None:
    groups = [Group(np.array([(0, i)]), [RawDocument(b"text")]) for i in range(12)]
    content = (home / "t.json").read_text()
    with open_workers(2) as workers:
        encoded = [*encode_groups(groups, content, False, workers, lambda: None)]
        assert [group.positions.tolist() for group in encoded] == [[[0, i]] for i in range(12)]
        assert [*encode_groups(groups, content, False, workers, lambda: signal.SIGTERM)] == []


def test_a_killed_worker_is_reported_in_one_line(home: Path) -> None:
    others = {*multiprocessing.active_children()}
    group = Group(np.zeros((1, 2), np.int64), [RawDocument(b"text")])

    def encode_and_kill() -> None:
        with open_workers(1) as workers:
            tokenizer = (home / "t.json").read_text()
            encoded = encode_groups([group] * 9, tokenizer, False, workers, lambda: None)
            next(encoded)
            (worker,) = {*multiprocessing.active_children()} - others
            worker.kill()
            list(encoded)

    with pytest.raises(UserError, match="a worker process was killed.*run the same command again"):
        encode_and_kill()


def test_full_shards_are_written_and_the_rest_stays_pending(
    new_index: ShardIndex, tmp_path: Path
) -> None:
    state = WriterState(new_index, [], skip=1)  # token 0 is in a shard already
    state = write_full_shards(tmp_path, state, make_group(0, 0, [3, 3, 7], [0, EMPTY, 0]))
    assert [shard.tokens for shard in state.index.shards] == [4]
    assert [tokens.tolist() for tokens in state.pending] == [[5, 6]]
    assert (state.index.documents, state.index.skipped) == (2, {"empty": 1})
    on_disk = read_index(tmp_path)  # counts only documents before the position
    assert (on_disk.documents, on_disk.skipped) == (1, {"empty": 1})
    assert on_disk.position == state.index.position == Position(0, 2, 2)

    state = write_full_shards(tmp_path, state, make_group(1, 0, [2, 12], [0, 0]))
    assert [shard.tokens for shard in state.index.shards] == [4, 4, 4, 4]
    assert [tokens.tolist() for tokens in state.pending] == [[10, 11]]
    assert read_index(tmp_path).position == Position(1, 1, 8)


def test_the_last_shard_ends_with_end_of_text(
    new_index: ShardIndex, home: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.load(home / "t.json")
    with pytest.raises(UserError, match=r"there is no document in .*a.txt"):
        write_last_shard(tmp_path, WriterState(new_index, [], 0), tokenizer)
    state = write_full_shards(tmp_path, WriterState(new_index, [], 0), make_group(0, 0, [6], [0]))
    index = write_last_shard(tmp_path, state, tokenizer)
    assert (index.finished, [shard.tokens for shard in index.shards]) == (True, [4, 3])
    assert read_index(tmp_path) == index
    last = np.frombuffer((tmp_path / index.shards[-1].name).read_bytes()[64:], "<u2")
    assert last.tolist() == [4, 5, tokenizer.end_of_text]


def test_a_position_is_that_of_the_next_token_to_write() -> None:
    group = make_group(3, 5, [3, 3, 7], [0, EMPTY, 0])
    for stop, complete, expected in [
        (2, 0, Position(3, 5, 2)),
        (3, 2, Position(3, 7, 0)),
        (5, 2, Position(3, 7, 2)),
        (7, 3, Position(3, 8, 0)),
    ]:
        assert find_position(group, complete, stop) == expected


def test_counts_are_of_complete_documents(new_index: ShardIndex) -> None:
    group = make_group(0, 0, [3, 3, 7], [0, EMPTY, 0])
    once = count_documents(new_index, group, 2)
    assert (once.documents, once.size, once.skipped) == (1, 3, {"empty": 1})
    twice = count_documents(once, group, 3)
    assert (twice.documents, twice.size, twice.skipped) == (3, 10, {"empty": 2})


def test_a_tally_finds_whole_files_without_a_good_document(new_index: ShardIndex) -> None:
    positions = np.array([(0, 4), (0, 5), (1, 0), (2, 0)])
    reasons = np.array([EMPTY, EMPTY, 0, EMPTY], np.uint8)
    group = make_group(0, 0, [1, 2, 3, 4], [0] * 4)._replace(positions=positions, reasons=reasons)
    *finished, last = tally_group(start_tally(Position(0, 4, 0)), group)
    assert [(tally.file, tally.is_complete) for tally in finished] == [(0, False), (1, True)]
    assert last.counts[EMPTY] == 1
    positions[:, 0] += 2
    *finished, last = tally_group(last, group)
    assert (finished[0].file, finished[0].counts[EMPTY], last.file) == (2, 3, 4)

    output = io.StringIO()
    for is_complete in (False, True):
        tally = FileTally(0, finished[0].counts, is_complete)
        note_unused_file(tally, new_index, Console(file=output))
    name = new_index.inputs[0].name
    assert output.getvalue() == f"note: no document of {name} was used: 3 empty\n"


def test_progress_counts_the_bytes_of_the_files_that_were_read(new_index: ShardIndex) -> None:
    """Text that is longer than its file was compressed, and counts once the file is read."""
    files = tuple(
        InputFile(name, size, "0" * 64) for name, size in (("a", 100), ("b", 10), ("c", 9))
    )
    bar = make_progress_bar(Console(file=io.StringIO()), replace(new_index, inputs=files))
    (task,) = bar.tasks
    assert (task.completed, task.total) == (0, 119)
    completed = []
    for file, first, ends in ((0, 0, [10, 30]), (0, 2, [5]), (1, 0, [8]), (1, 1, [8]), (2, 0, [3])):
        group = make_group(file, first, ends, [0] * len(ends))
        update_progress_bar(bar, group, replace(new_index, inputs=files))
        completed.append(task.completed)
    assert completed == [30, 35, 108, 100, 113]
    assert task.fields["size"] == task.fields["tokens"] == 54


def test_progress_of_a_resumed_command_begins_where_it_resumes(new_index: ShardIndex) -> None:
    files = InputFile("a", 100, "0" * 64), InputFile("pipe", 0, "0" * 64)
    resumed = replace(new_index, inputs=files, position=Position(1, 2, 3))
    (task,) = make_progress_bar(Console(file=io.StringIO()), resumed).tasks
    assert (task.completed, task.total) == (100, 100)
    (task,) = make_progress_bar(
        Console(file=io.StringIO()), replace(new_index, inputs=files[1:])
    ).tasks
    assert task.total is None
