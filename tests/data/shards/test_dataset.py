"""Datasets of shards: a run on shards sees the same text as a run on the text itself."""

import dataclasses
import io
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.support.encoding import encode, read_all_documents
from tests.support.tiny import TINY
from valyrian_jax.bundle.bundle import load_bundle, save_bundle
from valyrian_jax.config import Config, load_config
from valyrian_jax.data.dataset import open_dataset
from valyrian_jax.data.shards import dataset as shard_dataset
from valyrian_jax.data.shards.index import hash_index, write_index
from valyrian_jax.data.shards.shard_set import open_shards
from valyrian_jax.data.shards.split import split_shards
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


@pytest.mark.parametrize("name", ["index.json", "tokenizer.json"])
def test_a_file_beside_the_shards_is_refused_as_a_text(
    small_shards: Path, tmp_path: Path, name: str
) -> None:
    config = make_config(small_shards / name)
    message = f"{name} is a file of a shard directory; set --data.path {small_shards}"
    with pytest.raises(UserError, match=message):
        open_dataset(config, None, tmp_path)


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
