"""Shards: what is read is what was written, and a run on them is a run on the text."""

import dataclasses
import io
import json
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.conftest import WORDS
from tests.support.tiny import TINY
from valyrian_jax.bundle.bundle import load_bundle, save_bundle
from valyrian_jax.config import Config, load_config
from valyrian_jax.data import shard_dataset, shard_split, shard_writer, shards
from valyrian_jax.data.dataset import open_dataset
from valyrian_jax.data.shard_split import split_shards
from valyrian_jax.data.shards import InputFile, Position, ShardIndex
from valyrian_jax.data.text import (
    DataSplit,
    count_bytes,
    encode_documents,
    read_corpus,
    split_documents,
)
from valyrian_jax.data.text_dataset import TextDataset
from valyrian_jax.errors import StoppedError, UserError
from valyrian_jax.evaluation.evaluate import evaluate, make_eval_step
from valyrian_jax.evaluation.report import evaluate_run, make_report
from valyrian_jax.model.parameters import from_tensors
from valyrian_jax.run_directory import load_run_config, read_metrics, save_config
from valyrian_jax.tokenizer import Tokenizer, train_bpe
from valyrian_jax.training.resume import load_resume_config
from valyrian_jax.training.run import TrainResult, train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of the small text, many of them."""
    directory = tmp_path_factory.mktemp("place")
    train_bpe(read_corpus(small_text), 280).save(directory / "t.json")
    out, quiet = directory / "shards", Console(quiet=True)
    shard_writer.encode(directory / "t.json", [small_text], out, quiet, shard_tokens=333, workers=1)
    return out


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place, tmp_path / "copy"))


def documents_of(text: Path) -> list[str]:
    parts = split_documents(read_corpus(text), 0.1)
    return parts.train + parts.held_out


def test_reading_goes_across_the_borders_of_shards(
    place: Path, small_text: Path, tmp_path: Path
) -> None:
    found = shards.open_shards(place)
    whole = encode_documents(documents_of(small_text), found.tokenizer, tmp_path)
    assert len(found.index.shards) > 9
    draw = np.random.default_rng(0)
    for start, count in [
        (0, len(whole)),
        (0, 333),
        (333, 333),
        (332, 2),
        (len(whole) - 1, 5),
        (len(whole), 5),
        (7, 0),
    ]:
        np.testing.assert_array_equal(
            shards.read(found, start, count), whole[start : start + count]
        )
    for start, count in zip(
        draw.integers(0, len(whole), 300), draw.integers(0, 1200, 300), strict=True
    ):
        part = shards.read(found, int(start), int(count))
        np.testing.assert_array_equal(part, whole[start : start + count])
        assert part.dtype == np.uint16


@pytest.mark.parametrize("name", ["index.json", "tokenizer.json"])
def test_a_file_beside_the_shards_is_no_text(place: Path, tmp_path: Path, name: str) -> None:
    settings = load_config(ROOT / "configs" / "tiny.toml", {"data.path": str(place / name)})
    with pytest.raises(
        UserError, match=f"{name} is a part of shards; give their directory, {place}"
    ):
        open_dataset(settings, None, tmp_path)


def written(
    directory: Path, parts: list[np.ndarray[Any, np.dtype[Any]]], vocab_size: int = 280
) -> None:
    """Shards of any tokens."""
    directory.mkdir()
    tokenizer = train_bpe("aaab" * 3, 257)
    tokens = (
        *tokenizer.tokens[:-1],
        *(b"a%d" % i for i in range(vocab_size - 257)),
        tokenizer.tokens[-1],
    )
    tokenizer = Tokenizer(tokens, (), {"<|endoftext|>": vocab_size - 1})
    tokenizer.save(directory / "tokenizer.json")
    dtype = shards.token_dtype(vocab_size)
    done = [
        shards.write_shard(directory, number, [part.astype(dtype)], tokenizer.sha256)
        for number, part in enumerate(parts)
    ]
    common = (tokenizer.sha256, vocab_size, len(parts[0]), "text", (InputFile("a", 1, "0" * 64),))
    index = ShardIndex(
        1, True, *common, sum(map(len, parts)), 1, 1, {}, Position(0, 0, 0), tuple(done)
    )
    shards.write_index(directory, index)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65536, np.uint16), (65537, np.uint32)])
def test_tokens_are_as_small_as_the_vocabulary_allows(
    tmp_path: Path, vocab_size: int, dtype: type
) -> None:
    tokens = np.arange(vocab_size - 5, vocab_size)
    written(tmp_path / "s", [tokens], vocab_size)
    found = shards.open_shards(tmp_path / "s")
    assert shards.read(found, 0, 5).dtype == dtype
    assert shards.read(found, 0, 5).tolist() == tokens.tolist()
    content = (tmp_path / "s" / "shard-00000.bin").read_bytes()
    assert content[:8] == b"VALSHARD"
    assert content[64:] == tokens.astype(np.dtype(dtype).newbyteorder("<")).tobytes()


def test_thousands_of_shards_do_not_need_thousands_of_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shards, "rename_durably", lambda partial, path: partial.replace(path)
    )  # no need to outlive a power cut
    written(tmp_path / "s", list(np.arange(6000).reshape(2000, 3) % 280))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (600, before[1]))
    try:
        found = shards.open_shards(tmp_path / "s")
        assert shards.read(found, 0, 6000).tolist() == [i % 280 for i in range(6000)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def change(offset: int, content: bytes) -> Callable[[Path], None]:
    """Write over bytes of the second shard."""

    def damage(directory: Path) -> None:
        with (directory / "shard-00001.bin").open("rb+") as file:
            file.seek(offset)
            file.write(content)

    return damage


def edit(**changes: Any) -> Callable[[Path], None]:
    """Change the index."""

    def damage(directory: Path) -> None:
        path = directory / "index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            change(0, b"GPT2TOKS"),
            r"shard-00001.bin is not a shard: it begins with b'GPT2TOKS', expected b'VALSHARD'",
        ),
        (change(8, b"\2"), "shard-00001.bin has format version 2, expected 1"),
        (change(12, b"\4"), "shard-00001.bin has bytes of a token 4, expected 2"),
        (change(16, b"\0"), "shard-00001.bin has number of tokens 256, expected 333"),
        (
            change(30, b"\1\2\3\4"),
            "shard-00001.bin has SHA-256 of the tokenizer .*, expected .*; copy it again",
        ),
        (change(64 + 666, b"more"), "shard-00001.bin has 734 bytes, expected 730; copy it again"),
        (lambda d: (d / "shard-00001.bin").write_bytes(b"VALS"), "shard-00001.bin is not a shard"),
        (
            lambda d: (d / "shard-00001.bin").unlink(),
            "cannot read the shard .*00001.bin: No such file",
        ),
        (
            lambda d: (d / "tokenizer.json").unlink(),
            "cannot read the tokenizer .*tokenizer.json: No such file",
        ),
        (
            lambda d: train_bpe(WORDS + " the the", 280).save(d / "tokenizer.json"),
            "has SHA-256 .* were made with .* put the file",
        ),
        (
            lambda d: (d / "index.json").unlink(),
            "Is a directory without index.json; expected a UTF-8 text file, or",
        ),
        (
            lambda d: (d / "index.json").write_text("{"),
            "index.json is not an index of shards: .*; copy it again, or encode the text into another --out",
        ),
        (edit(finished=False), "are not an index|index.json is not an index of shards"),
        (
            edit(finished=False, shards=[], tokens=0),
            "are not finished: 0 tokens so far; go on with",
        ),
        (edit(tokens=5), "tokens = 5 is not the sum"),
        (edit(shard_tokens=332), "shard 0 is shard-00000.bin with 333 tokens"),
        (edit(format=2), "index.json is not an index of shards: format"),
        (edit(more=1), "index.json is not an index of shards: more"),
    ],
)
def test_damaged_and_foreign_shards_are_refused(
    damage: Callable[[Path], object], message: str, copy: Path
) -> None:
    damage(copy)
    with pytest.raises(UserError, match=message) as refused:
        shards.open_shards(copy)
    assert "\n" not in str(refused.value)


def test_the_held_out_part_is_that_of_the_text(
    place: Path, small_text: Path, tmp_path: Path
) -> None:
    documents = documents_of(small_text)
    tokenizer = shards.open_shards(place).tokenizer
    whole = encode_documents(documents, tokenizer, tmp_path)
    for share in (0.001, 0.03, 0.1, 0.5, 0.9):
        split = split_shards(place, share)
        tokens = shard_dataset.read_held_out(split)
        kept = int((tokens[:-1] == tokenizer.end_of_text).sum())
        assert split.cut == next(
            (i for i in np.flatnonzero(whole[:-1] == whole[0]) if i >= len(whole) * (1 - share)),
            split.cut,
        )
        assert tokens.tolist() == encode_documents(documents[-kept:], tokenizer, tmp_path).tolist()
        assert shard_dataset.count_token_bytes(tokens, tokenizer) == count_bytes(documents[-kept:])
        training = encode_documents(documents[:-kept], tokenizer, tmp_path)
        np.testing.assert_array_equal(shards.read(split.shards, 0, split.training_tokens), training)
    assert kept > 50


def test_what_cannot_be_held_out_is_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "one", [np.array([279, 1, 2, 3, 279])])
    with pytest.raises(UserError, match="hold one document, expected two or more"):
        split_shards(tmp_path / "one", 0.5)
    monkeypatch.setattr(shard_split, "MAX_HELD_OUT", 50)
    with pytest.raises(
        UserError,
        match=r"the last document in .* has 102 tokens, more than .*, 50; encode the text",
    ):
        split_shards(place, 0.001)
    monkeypatch.setattr(shard_split, "MAX_HELD_OUT", 150)
    with pytest.raises(
        UserError, match=r"data.held_out = 0.5 .* set --data.held_out 0.0\d+$"
    ) as refused:
        split_shards(place, 0.5)
    assert split_shards(place, float(str(refused.value).split()[-1])).held_out_tokens > 0


def test_every_window_is_seen_once_an_epoch(place: Path) -> None:
    split, length, rows = split_shards(place, 0.1), 16, 12
    training = shards.read(split.shards, 0, split.training_tokens)
    windows = (len(training) - 1) // length
    assert windows % rows  # so that some steps stand across the end of an epoch
    steps = 3 * windows // rows + 1
    seen = np.concatenate(
        [shard_dataset.read_batch(split, 5, step, rows, length) for step in range(steps)]
    )
    assert seen.dtype == np.int32
    every = np.stack([training[i * length : (i + 1) * length + 1] for i in range(windows)]).astype(
        np.int32
    )
    epochs = [seen[i * windows : (i + 1) * windows] for i in range(3)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == sorted(every.tolist())
        assert (epoch == every).all(axis=1).mean() < 0.05
    assert (epochs[0] == epochs[1]).all(axis=1).mean() < 0.05
    other = np.concatenate(
        [shard_dataset.read_batch(split, 6, step, rows, length) for step in range(windows // rows)]
    )
    assert (other == seen[: len(other)]).all(axis=1).mean() < 0.05


def test_rows_of_a_batch_do_not_depend_on_who_makes_them(place: Path) -> None:
    split = split_shards(place, 0.1)
    windows = (split.training_tokens - 1) // 16
    for step in (0, windows // 8, 10**12):  # the second one stands across the end of an epoch
        whole = shard_dataset.read_batch(split, 0, step, 8, 16)
        some = [
            shard_dataset.read_batch(split, 0, step, 8, 16, slice(first, first + 2))
            for first in range(0, 8, 2)
        ]
        np.testing.assert_array_equal(np.concatenate(some), whole)
    with pytest.raises(UserError, match="at least 100001 tokens for model.n_positions = 100000"):
        shard_dataset.read_batch(split, 0, 0, 1, 100_000)


def test_a_token_outside_the_vocabulary_is_noticed_where_it_is_read(copy: Path) -> None:
    split = split_shards(copy, 0.1)
    for number in (0, len(split.shards.index.shards) - 1):
        with (copy / shards.shard_name(number)).open("rb+") as file:
            file.seek(64 + 20)
            file.write(b"\xff\xff")
    with pytest.raises(
        UserError, match="are damaged: expected token ids below 280, found 65535; compare"
    ):
        shard_dataset.read_batch(split, 0, 0, (split.training_tokens - 1) // 16, 16)  # an epoch
    with pytest.raises(UserError, match="are damaged: .* found 65535"):
        shard_dataset.read_held_out(split)


def tiny(path: Path, **changes: Any) -> Config:
    return load_config(
        ROOT / "configs" / "tiny.toml",
        TINY | {"data.path": str(path), "train.sample_every": 0} | changes,
    )


def quiet() -> Console:
    return Console(file=io.StringIO(), width=400)


def numbers(run: Path) -> list[dict[str, float]]:
    return [
        {k: v for k, v in r.items() if k != "train/tokens_per_second"} for r in read_metrics(run)
    ]


@pytest.fixture(scope="module")
def finished(place: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, str]:
    """A run on the shards, and what it printed."""
    console = quiet()
    result = train(tiny(place), tmp_path_factory.mktemp("runs") / "finished", console=console)
    assert isinstance(console.file, io.StringIO)
    return result, console.file.getvalue()


def test_a_run_on_shards_learns_and_eval_says_the_same(
    finished: tuple[TrainResult, str], place: Path
) -> None:
    result, printed = finished
    losses = [
        record["train/loss"] for record in numbers(result.directory) if "train/loss" in record
    ]
    assert losses[-1] < 0.8 * losses[0]
    best = result.progress.best_loss, result.progress.best_bits_per_byte
    assert evaluate_run(result.directory) == pytest.approx(best, rel=1e-6)
    lines = make_report(result.directory, 10)
    assert [*lines] == ["model"]
    assert lines["model"][:2] == pytest.approx(best, rel=1e-6)
    assert lines["model"][2:] == (None, None)
    index = shards.open_shards(place).index
    assert f"{index.size:,} bytes in 60 documents and {len(index.shards)} shards; " in printed
    assert "whether held-out sentences also stand in the training part is not measured" in printed
    assert load_bundle(result.directory / "bundle").manifest["corpus_sha256"] == shards.sha256(
        index
    )
    assert (result.directory / "tokenizer.json").read_bytes() == (
        place / "tokenizer.json"
    ).read_bytes()


def test_bits_per_byte_are_those_of_the_same_held_out_text(
    finished: tuple[TrainResult, str], small_text: Path
) -> None:
    result, _ = finished
    documents = documents_of(small_text)
    settings, best = load_run_config(result.directory), load_bundle(result.directory / "bundle")
    held_out = shard_dataset.read_held_out(
        split_shards(Path(settings.data.path), settings.data.held_out)
    )
    kept = int((held_out == best.tokenizer.end_of_text).sum()) - 1
    parts = DataSplit(documents[:-kept], documents[-kept:])
    of_text = TextDataset(settings, parts, 0, "", best.tokenizer, None, result.directory)
    found = evaluate(make_eval_step(best.model), from_tensors(best.tensors), of_text.eval_set)
    assert found == evaluate_run(result.directory)


def test_a_stopped_run_on_shards_goes_on_as_if_it_had_not_been(
    finished: tuple[TrainResult, str],
    copy: Path,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, batch = tmp_path / "run", shard_dataset.read_batch

    def stopping(parts: Any, seed: int, step: int, *rest: Any) -> Any:
        if step == 25:  # made while the device takes the steps up to 20
            signal.raise_signal(signal.SIGTERM)
        return batch(parts, seed, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(shard_dataset, "read_batch", stopping)
        with pytest.raises(StoppedError, match="stopped at step 20"):
            train(tiny(place), run, console=quiet())
    settings = load_resume_config(run, {"data.path": str(copy)})  # shards may move
    assert train(settings, resume=run, console=quiet()).steps == 60
    whole = finished[0].directory
    assert numbers(run) == numbers(whole)
    weights = "bundle/model.safetensors"
    assert (run / weights).read_bytes() == (whole / weights).read_bytes()


def test_other_shards_and_other_tokenizers_are_refused(
    finished: tuple[TrainResult, str], place: Path, copy: Path, small_text: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished[0].directory, tmp_path / "run"))
    found = shards.open_shards(copy)
    other = dataclasses.replace(found.index.shards[0], sha256="0" * 64)
    shards.write_index(
        copy, dataclasses.replace(found.index, shards=(other, *found.index.shards[1:]))
    )
    with pytest.raises(UserError, match="copy has changed since"):
        train(load_resume_config(run, {"data.path": str(copy)}), resume=run, console=quiet())
    save_config(run, tiny(copy))
    with pytest.raises(UserError, match="copy has changed since .* was trained on it"):
        evaluate_run(run)

    train_bpe("the red dragon sleeps " * 9 + read_corpus(small_text)[:2000], 280).save(
        tmp_path / "other.json"
    )
    with pytest.raises(
        UserError,
        match=r"tokenizer mismatch: expected .*shards/tokenizer.json \(SHA-256 .*, found .*other.json \(",
    ):
        train(
            tiny(place, **{"data.tokenizer": str(tmp_path / "other.json")}),
            tmp_path / "new",
            console=quiet(),
        )
    foreign = dataclasses.replace(
        load_bundle(finished[0].directory / "bundle"),
        tokenizer=Tokenizer.load(tmp_path / "other.json"),
    )
    save_bundle(foreign, tmp_path / "foreign")
    with pytest.raises(
        UserError,
        match=r"tokenizer mismatch: expected .*, found that of the run or bundle to continue \(",
    ):
        train(tiny(place), tmp_path / "new", init=tmp_path / "foreign", console=quiet())
    with pytest.raises(
        UserError, match="has 280 tokens, but model.vocab_size = 300; set --model.vocab_size 280"
    ):
        train(tiny(place, **{"model.vocab_size": 300}), tmp_path / "new", console=quiet())
    with pytest.raises(
        UserError, match=r"cannot read the text .*: Is a directory without index.json"
    ):
        train(tiny(tmp_path), tmp_path / "new", console=quiet())
    assert not (tmp_path / "new").exists()
