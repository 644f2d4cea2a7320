"""Small runs from start to end: what they write, and when they stop early."""

import dataclasses
import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.support.runs import (
    OPTIMIZERS,
    list_evaluation_steps,
    load_tiny_config,
    make_text_console,
    read_console,
    read_values,
    resume,
)
from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.bundle.text_generation import generate_many_texts
from valyrian_jax.config import config_to_tree
from valyrian_jax.data.corpus_entropy import CorpusSource, save_source, source_path
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.report import evaluate_run
from valyrian_jax.generation.generate import make_generator
from valyrian_jax.run_directory import load_run_config, read_metrics
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.training import checkpoint
from valyrian_jax.training.devices import _PEAKS, PeakFlops, flops_per_token
from valyrian_jax.training.progress import Progress, is_out_of_patience, update_progress
from valyrian_jax.training.run import TrainResult, train

RUN_FILES = {
    *("config.toml", "tokenizer.json", "metrics.jsonl", "samples.txt", "loss.png", "loss.svg"),
    *("checkpoints", "bundle", "lock"),
}


def test_a_run_writes_its_files_at_the_configured_steps(
    finished: TrainResult, small_text: Path
) -> None:
    run = finished.directory
    assert {path.name for path in run.iterdir()} == RUN_FILES
    assert finished.steps == 60
    assert load_run_config(run) == load_tiny_config(small_text)
    assert Tokenizer.load(run / "tokenizer.json").vocab_size == 280
    assert (run / "loss.png").read_bytes()[:4] == b"\x89PNG"
    records = [record for record in read_values(run) if "samples" not in record]
    assert [record["step"] for record in records] == [10, 20, 30, 40, 50, 60]
    assert list_evaluation_steps(run) == [20, 40, 60]
    assert records[-1]["train/loss"] < 0.8 * records[0]["train/loss"]
    sections = (run / "samples.txt").read_text(encoding="utf-8").split("=== step ")
    assert [section.partition("\n")[0] for section in sections[1:]] == ["30", "60"]


def test_the_bundle_has_the_best_weights_and_their_origin(
    finished: TrainResult, small_text: Path
) -> None:
    manifest = load_bundle(finished.directory / "bundle").manifest
    assert manifest["step"] == finished.progress.best_step == 60
    assert manifest["config"] == config_to_tree(load_tiny_config(small_text))
    assert manifest["held_out"]["nats_per_token"] == finished.progress.best_loss
    assert evaluate_run(finished.directory) == pytest.approx(
        (finished.progress.best_loss, finished.progress.best_bits_per_byte), rel=1e-6
    )


def test_the_same_configuration_gives_the_same_run(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    run = train(
        load_tiny_config(small_text), tmp_path / "run", console=make_text_console()
    ).directory
    assert read_values(run) == read_values(finished.directory)
    for name in ("samples.txt", "bundle/model.safetensors"):
        assert (run / name).read_bytes() == (finished.directory / name).read_bytes()


def test_the_checkpoint_contains_the_configuration(finished: TrainResult) -> None:
    record = json.loads((finished.directory / "checkpoints" / "60" / "record.json").read_text())
    assert record["config"] == config_to_tree(load_run_config(finished.directory))


def test_samples_of_a_run_are_those_of_its_weights(finished: TrainResult) -> None:
    bundle = load_bundle(finished.directory / "bundle")
    sample = load_run_config(finished.directory).sample
    generate = make_generator(bundle)
    texts = generate_many_texts(generate, bundle.tokenizer, sample, 3)
    samples = (finished.directory / "samples.txt").read_text(encoding="utf-8")
    assert samples.split("=== step 60\n")[1] == "".join(f"{text}\n---\n" for text in texts)


def test_samples_of_a_run_end_before_its_stop_strings(small_text: Path, tmp_path: Path) -> None:
    settings = {"sample.stop": ("e", "a "), "sample.repetition_penalty": 1.1}
    run = tmp_path / "run"
    train(load_tiny_config(small_text, **settings), run, console=make_text_console())
    samples = [text for record in read_metrics(run) for text in record.get("samples", [])]
    assert any(samples)
    assert not any("e" in text or "a " in text for text in samples)
    assert load_run_config(run).sample.stop == ("e", "a ")
    assert resume(run, **{"train.steps": 90}).steps == 90


def test_metrics_are_json_lines(finished: TrainResult) -> None:
    lines = (finished.directory / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        numbers = [value for name, value in record.items() if name != "samples"]
        assert all(isinstance(value, int | float) for value in numbers)
    assert [record["step"] for record in records if "samples" in record] == [30, 60]


def test_early_stopping_keeps_the_best_weights(small_text: Path, tmp_path: Path) -> None:
    # A learning rate that destroys the model after the warm-up.
    overrides = {
        "train.steps": 400,
        "train.patience": 2,
        "optim.lr": 1.0,
        "optim.min_lr_ratio": 0.9,
        "optim.warmup": 0.3,
    }
    run = tmp_path / "run"
    result = train(load_tiny_config(small_text, **overrides), run, console=make_text_console())
    key = "held_out/nats_per_token"
    losses = [record[key] for record in read_values(run) if key in record]
    best = int(np.argmin(losses))
    assert result.steps == 20 * (best + 3) < 400
    assert result.progress.best_step == 20 * (best + 1)
    assert evaluate_run(run).nats_per_token == pytest.approx(losses[best], rel=1e-6)
    assert resume(run) == result  # Patience is part of the checkpoint.


def test_patience_counts_evaluations_without_a_better_loss() -> None:
    progress = Progress()
    counts = []
    for step, loss in enumerate([3.0, 2.0, 2.0, 2.5, 1.9, 2.0]):
        progress = update_progress(progress, step, loss, loss)
        counts.append(progress.evaluations_since_best)
    assert counts == [0, 0, 1, 2, 0, 1]
    assert (progress.best_step, progress.best_loss) == (4, 1.9)
    assert not is_out_of_patience(progress, 0)
    assert is_out_of_patience(progress, 1)
    assert not is_out_of_patience(progress, 2)


def test_a_run_survives_the_reader_of_its_output(small_text: Path, tmp_path: Path) -> None:
    class ClosedPipe(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    console = Console(file=ClosedPipe())
    result = train(load_tiny_config(small_text), tmp_path / "run", console=console)
    assert checkpoint.list_steps(result.directory / "checkpoints") == [40, 60]


def test_compute_options_and_padding_change_only_what_is_computed(
    finished: TrainResult, small_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_PEAKS, "cpu", PeakFlops(None, 0.5))
    overrides = {"train.remat": True, "train.scan_layers": True, "model.vocab_multiple": 64}
    config = load_tiny_config(small_text, **overrides, **{"train.steps": 20, "optim.lr": 1e-6})
    init, console = finished.directory / "bundle", make_text_console()
    result = train(config, tmp_path / "run", init=init, console=console)
    assert result.progress.best_loss == pytest.approx(finished.progress.best_loss, abs=0.01)
    assert "compute   scanned layers; rematerialised blocks\n" in read_console(console)
    assert "vocabulary 280 (padded to 320), " in read_console(console)
    model = load_bundle(init).model
    flops_share = flops_per_token(model) / 0.5e12
    for record in (r for r in read_metrics(result.directory) if "train/loss" in r):
        speed = record["train/tokens_per_second"]
        assert record["train/mfu"] == pytest.approx(speed * flops_share)
    # The peak of a CPU is unknown.
    assert not any("train/mfu" in record for record in read_values(finished.directory))
    trained = load_bundle(result.directory / "bundle").model
    assert trained == dataclasses.replace(model, dropout=config.model.dropout)
    padded = dataclasses.replace(trained, vocab_multiple=64)
    assert load_run_config(result.directory).model == padded


def test_a_configured_tokenizer_is_used(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    file = str(finished.directory / "tokenizer.json")
    config = load_tiny_config(small_text, **{"data.tokenizer": file})
    run = train(config, tmp_path / "run", console=make_text_console()).directory
    assert Tokenizer.load(run / "tokenizer.json") == Tokenizer.load(file)
    config = load_tiny_config(small_text, **{"data.tokenizer": file, "model.vocab_size": 300})
    expected = "280 tokens, but model.vocab_size = 300; set --model.vocab_size 280"
    with pytest.raises(UserError, match=expected):
        train(config, tmp_path / "refused", console=make_text_console())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss(name: str, small_text: Path, tmp_path: Path) -> None:
    config = load_tiny_config(small_text, **{"optim.name": name})
    run = train(config, tmp_path / "run", console=make_text_console()).directory
    losses = [record["train/loss"] for record in read_values(run) if "train/loss" in record]
    assert losses[-1] < 0.8 * losses[0]


def test_a_damaged_source_is_noticed_before_anything_is_written(
    small_text: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    shutil.copy(small_text, text)
    sha256 = hashlib.sha256(text.read_bytes()).hexdigest()
    save_source(CorpusSource(sha256, [1.0], 0.0), source_path(text))
    with pytest.raises(UserError, match=r"\.source\.json of the text is damaged"):
        train(load_tiny_config(text), tmp_path / "run", console=make_text_console())
    assert not (tmp_path / "run").exists()
