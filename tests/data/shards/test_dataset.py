"""Datasets of shards: a run on shards sees the same text as a run on the text itself."""

import dataclasses
import io
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.support.encoding import encode, read_all_documents, write_tokens
from tests.support.tiny import TINY
from valyrian_jax.bundle.bundle import load_bundle, save_bundle
from valyrian_jax.config import Config, load_config
from valyrian_jax.data.dataset import open_dataset
from valyrian_jax.data.shards import dataset as shard_dataset
from valyrian_jax.data.shards import split as shard_split
from valyrian_jax.data.shards.index import hash_index, shard_name, write_index
from valyrian_jax.data.shards.shard_set import open_shards, read_tokens
from valyrian_jax.data.shards.split import split_shards
from valyrian_jax.data.text import count_bytes, encode_documents
from valyrian_jax.data.text_dataset import make_eval_set
from valyrian_jax.errors import StoppedError, UserError
from valyrian_jax.evaluation.evaluate import evaluate, make_eval_step
from valyrian_jax.evaluation.report import evaluate_run, make_report
from valyrian_jax.model.parameters import from_tensors
from valyrian_jax.run_directory import load_run_config, read_metrics, save_config
from valyrian_jax.tokenizer import train_bpe
from valyrian_jax.training.run import TrainResult, train
from valyrian_jax.training.start_options import load_resume_config

ROOT = Path(__file__).parents[3]


@pytest.fixture
def copy(small_shards: Path, tmp_path: Path) -> Path:
    """A copy of the shards, to be changed."""
    return Path(shutil.copytree(small_shards, tmp_path / "copy"))


@pytest.mark.parametrize("name", ["index.json", "tokenizer.json"])
def test_a_file_beside_the_shards_is_refused_as_a_text(
    small_shards: Path, tmp_path: Path, name: str
) -> None:
    config = make_config(small_shards / name)
    message = f"{name} is a file of a shard directory; set --data.path {small_shards}"
    with pytest.raises(UserError, match=message):
        open_dataset(config, None, tmp_path)


def test_the_held_out_part_is_that_of_the_text(
    small_shards: Path, small_text: Path, tmp_path: Path
) -> None:
    documents = read_all_documents(small_text)
    tokenizer = open_shards(small_shards).tokenizer
    whole = encode_documents(documents, tokenizer, tmp_path)
    for share in (0.02, 0.03, 0.1, 0.5, 0.9):
        split = split_shards(small_shards, share)
        tokens = shard_dataset.read_held_out(split)
        count = int((tokens[:-1] == tokenizer.end_of_text).sum())
        assert split.cut == next(
            (i for i in np.flatnonzero(whole[:-1] == whole[0]) if i >= len(whole) * (1 - share)),
            split.cut,
        )
        held_out = documents[-count:]
        assert tokens.tolist() == encode_documents(held_out, tokenizer, tmp_path).tolist()
        assert shard_dataset.count_token_bytes(tokens, tokenizer) == count_bytes(held_out)
        training = encode_documents(documents[:-count], tokenizer, tmp_path)
        np.testing.assert_array_equal(read_tokens(split.shards, 0, split.training_tokens), training)
    assert count > 50


def test_a_long_document_in_shards_is_cut_at_the_best_boundary(
    small_shards: Path, tmp_path: Path
) -> None:
    split = split_shards(small_shards, 0.007)  # The last document is longer than this.
    assert "document is longer than the held-out part: cut at a sentence; " in split.description
    tokens, tokenizer = shard_dataset.read_held_out(split), split.shards.tokenizer
    assert tokenizer.tokens[tokens[0]].endswith(b".")
    assert 0.0035 <= split.held_out_tokens / split.shards.index.tokens <= 0.014
    lengths = [len(tokenizer.tokens[token]) for token in tokens[1:-1]]
    assert shard_dataset.count_token_bytes(tokens, tokenizer) == sum(lengths) + 2
    described = open_dataset(make_config(small_shards, **{"data.held_out": 0.007}), None, tmp_path)
    assert described.describe().endswith(split.description)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 30, 3000]), min_size=1, max_size=12), st.floats(0.01, 0.95))
@example([20] * 25 + [100_000], 0.05)
@example([100_000] + [20] * 25, 0.05)
@example([5000], 0.05)
def test_both_parts_of_shards_are_within_a_factor_of_two_of_their_shares(
    lengths: list[int], held_out: float
) -> None:
    tokens = np.concatenate([[279], *([*np.arange(n) % 279, 279] for n in lengths)])
    if len(tokens) * min(held_out, 1 - held_out) < 3:
        return
    with tempfile.TemporaryDirectory() as directory:
        write_tokens(Path(directory) / "shards", [tokens])
        split = split_shards(Path(directory) / "shards", held_out)
    slack = 1 / len(tokens)
    assert held_out / 2 - slack <= split.held_out_tokens / len(tokens) <= 2 * held_out + slack
    train = 1 - held_out
    assert train / 2 - slack <= split.training_tokens / len(tokens) <= 2 * train + 2 * slack
    assert bool(split.description) == (tokens[split.cut] != 279)


def test_shards_without_two_parts_of_bounded_size_are_refused(
    small_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tokens(tmp_path / "one", [np.array([279, 1, 2, 3, 279])])
    assert split_shards(tmp_path / "one", 0.5).held_out_tokens == 2
    write_tokens(tmp_path / "letter", [np.array([279, 1, 279])])
    with pytest.raises(UserError, match="hold 3 tokens, expected at least 4; encode more text"):
        split_shards(tmp_path / "letter", 0.5)
    monkeypatch.setattr(shard_split, "MAX_HELD_OUT", 150)
    with pytest.raises(
        UserError, match=r"data.held_out = 0.5 .* set --data.held_out 0.0\d+$"
    ) as caught:
        split_shards(small_shards, 0.5)
    share = float(str(caught.value).split()[-1])
    assert 0 < split_shards(small_shards, share).held_out_tokens <= 150


def test_every_window_is_seen_once_an_epoch(small_shards: Path) -> None:
    split, length, rows = split_shards(small_shards, 0.1), 16, 12
    training = read_tokens(split.shards, 0, split.training_tokens)
    windows = (len(training) - 1) // length
    assert windows % rows  # so that some steps cross the end of an epoch
    steps = 3 * windows // rows + 1
    seen = np.concatenate(
        [shard_dataset.read_batch(split, 5, step, rows, length) for step in range(steps)]
    )
    assert seen.dtype == np.int32
    in_order = [training[i * length : (i + 1) * length + 1] for i in range(windows)]
    expected = np.stack(in_order).astype(np.int32)
    epochs = [seen[i * windows : (i + 1) * windows] for i in range(3)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == sorted(expected.tolist())
        assert (epoch == expected).all(axis=1).mean() < 0.05
    assert (epochs[0] == epochs[1]).all(axis=1).mean() < 0.05
    other = np.concatenate(
        [shard_dataset.read_batch(split, 6, step, rows, length) for step in range(windows // rows)]
    )
    assert (other == seen[: len(other)]).all(axis=1).mean() < 0.05


def test_rows_of_a_batch_can_be_read_separately(small_shards: Path) -> None:
    split = split_shards(small_shards, 0.1)
    windows = (split.training_tokens - 1) // 16
    for step in (0, windows // 8, 10**12):  # the second one crosses the end of an epoch
        whole = shard_dataset.read_batch(split, 0, step, 8, 16)
        rows = [
            shard_dataset.read_batch(split, 0, step, 8, 16, slice(first, first + 2))
            for first in range(0, 8, 2)
        ]
        np.testing.assert_array_equal(np.concatenate(rows), whole)


def test_a_token_id_outside_the_vocabulary_is_refused(copy: Path) -> None:
    split = split_shards(copy, 0.1)
    for number in (0, len(split.shards.index.shards) - 1):
        with (copy / shard_name(number)).open("rb+") as file:
            file.seek(64 + 20)
            file.write(b"\xff\xff")
    with pytest.raises(
        UserError, match="are damaged: expected token ids below 280, found 65535; compare"
    ):
        shard_dataset.read_batch(split, 0, 0, (split.training_tokens - 1) // 16, 16)  # an epoch
    with pytest.raises(UserError, match="are damaged: .* found 65535"):
        shard_dataset.read_held_out(split)


def make_config(path: Path, **changes: Any) -> Config:
    return load_config(
        ROOT / "configs" / "tiny.toml",
        TINY | {"data.path": str(path), "train.sample_every": 0} | changes,
    )


def make_console() -> Console:
    return Console(file=io.StringIO(), width=400)


def read_numbers(run: Path) -> list[dict[str, float]]:
    return [
        {k: v for k, v in r.items() if k != "train/tokens_per_second"} for r in read_metrics(run)
    ]


@pytest.fixture(scope="module")
def finished(
    small_shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainResult, str]:
    """A run on the shards, and its output."""
    console = make_console()
    result = train(
        make_config(small_shards), tmp_path_factory.mktemp("runs") / "finished", console=console
    )
    assert isinstance(console.file, io.StringIO)
    return result, console.file.getvalue()


def test_a_run_on_shards_learns_and_eval_gives_the_same_loss(
    finished: tuple[TrainResult, str], small_shards: Path
) -> None:
    result, output = finished
    records = read_numbers(result.directory)
    losses = [record["train/loss"] for record in records if "train/loss" in record]
    assert losses[-1] < 0.8 * losses[0]
    best = result.progress.best_loss, result.progress.best_bits_per_byte
    assert evaluate_run(result.directory) == pytest.approx(best, rel=1e-6)
    lines = make_report(result.directory, 10).rows
    assert [*lines] == ["model"]
    assert lines["model"][:2] == pytest.approx(best, rel=1e-6)
    assert lines["model"][2:] == (None, None)
    index = open_shards(small_shards).index
    assert f"{index.size:,} bytes in 60 documents and {len(index.shards)} shards; " in output
    assert "the overlap of the two parts is not measured" in output
    manifest = load_bundle(result.directory / "bundle").manifest
    assert manifest["corpus_sha256"] == hash_index(index)
    tokenizer = (result.directory / "tokenizer.json").read_bytes()
    assert tokenizer == (small_shards / "tokenizer.json").read_bytes()


def test_bits_per_byte_are_those_of_the_same_held_out_text(
    finished: tuple[TrainResult, str], small_text: Path
) -> None:
    result, _ = finished
    documents = read_all_documents(small_text)
    settings, best = load_run_config(result.directory), load_bundle(result.directory / "bundle")
    held_out = shard_dataset.read_held_out(
        split_shards(Path(settings.data.path), settings.data.held_out)
    )
    count = int((held_out == best.tokenizer.end_of_text).sum()) - 1
    eval_set = make_eval_set(documents[-count:], best.tokenizer, settings, result.directory)
    evaluation = evaluate(make_eval_step(best.model), from_tensors(best.tensors), eval_set)
    assert evaluation == evaluate_run(result.directory)


def test_resuming_a_stopped_run_on_shards_gives_the_same_weights(
    finished: tuple[TrainResult, str],
    copy: Path,
    small_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, read_batch = tmp_path / "run", shard_dataset.read_batch

    def read_and_stop(split: Any, seed: int, step: int, *rest: Any) -> Any:
        if step == 25:  # read while the device computes the steps up to 20
            signal.raise_signal(signal.SIGTERM)
        return read_batch(split, seed, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(shard_dataset, "read_batch", read_and_stop)
        with pytest.raises(StoppedError, match="stopped at step 20"):
            train(make_config(small_shards), run, console=make_console())
    settings = load_resume_config(run, {"data.path": str(copy)})  # shards may move
    assert train(settings, resume=run, console=make_console()).steps == 60
    whole = finished[0].directory
    assert read_numbers(run) == read_numbers(whole)
    weights = "bundle/model.safetensors"
    assert (run / weights).read_bytes() == (whole / weights).read_bytes()


def test_a_run_refuses_changed_shards(
    finished: tuple[TrainResult, str], copy: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished[0].directory, tmp_path / "run"))
    index = open_shards(copy).index
    changed = dataclasses.replace(index.shards[0], sha256="0" * 64)
    write_index(copy, dataclasses.replace(index, shards=(changed, *index.shards[1:])))
    with pytest.raises(UserError, match="copy has changed since"):
        train(load_resume_config(run, {"data.path": str(copy)}), resume=run, console=make_console())
    save_config(run, make_config(copy))
    with pytest.raises(
        UserError, match=r"copy have changed since .*run was trained on them: .*put"
    ):
        evaluate_run(run)


def test_shards_refuse_another_tokenizer(
    finished: tuple[TrainResult, str], small_shards: Path, small_text: Path, tmp_path: Path
) -> None:
    def refuse(message: str, config: Config, **options: Any) -> None:
        with pytest.raises(UserError, match=message):
            train(config, tmp_path / "new", console=make_console(), **options)
        assert not (tmp_path / "new").exists()

    text = small_text.read_text(encoding="utf-8")
    other = train_bpe("the red dragon sleeps " * 9 + text[:2000], 280)
    other.save(tmp_path / "other.json")
    refuse(
        r"shards do not fit the tokenizer .*other.json: expected shards encoded with it, found "
        r"shards encoded with .*shards/tokenizer.json, another tokenizer; encode the text again",
        make_config(small_shards, **{"data.tokenizer": str(tmp_path / "other.json")}),
    )
    bundle = load_bundle(finished[0].directory / "bundle")
    save_bundle(dataclasses.replace(bundle, tokenizer=other), tmp_path / "foreign")
    refuse(
        r"shards do not fit the tokenizer of the run or bundle to continue: .*; encode the text",
        make_config(small_shards),
        init=tmp_path / "foreign",
    )
    refuse(
        "has 280 tokens, but model.vocab_size = 300; set --model.vocab_size 280",
        make_config(small_shards, **{"model.vocab_size": 300}),
    )
    refuse(r"cannot read the text .*: Is a directory without index.json", make_config(tmp_path))


def test_eval_says_that_the_shards_were_encoded_again(
    finished: tuple[TrainResult, str], small_text: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished[0].directory, tmp_path / "run"))
    train_bpe(
        "the red dragon sleeps " * 9 + small_text.read_text(encoding="utf-8")[:2000], 280
    ).save(tmp_path / "t.json")
    shutil.copy(small_text, tmp_path / "a.txt")
    encode(tmp_path, "a.txt", Path("shards"), shard_tokens=333)
    save_config(run, make_config(tmp_path / "shards"))
    message = (
        rf"the shards in {tmp_path}/shards are not those that {run} was trained on: expected "
        rf"shards encoded with {run}/tokenizer.json, found .*; put the old ones back, or move these"
    )
    with pytest.raises(UserError, match=message):
        evaluate_run(run)
    shutil.rmtree(tmp_path / "shards")
    shutil.copy(run / "tokenizer.json", tmp_path / "t.json")
    encode(tmp_path, "a.txt", Path("shards"), shard_tokens=333)  # as the message says
    assert evaluate_run(run) == evaluate_run(finished[0].directory)
