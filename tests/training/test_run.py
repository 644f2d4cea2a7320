"""Whole runs, small: what they leave, how they stop, and that a resumed run is the run."""

import contextlib
import dataclasses
import functools
import io
import json
import platform
import resource
import shutil
import signal
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from tests.support.killing import FORKING
from tests.support.tiny import TINY
from valyrian_jax.bundle.bundle import load_bundle, save_bundle
from valyrian_jax.bundle.text_generation import generate_texts
from valyrian_jax.config import Config, config_to_tree, load_config
from valyrian_jax.errors import StoppedError, UserError
from valyrian_jax.evaluation.report import evaluate_run
from valyrian_jax.files import lock_directory
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.run_directory import load_run_config, read_metrics
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.training import checkpoint
from valyrian_jax.training import run as training_run
from valyrian_jax.training.devices import _PEAKS, PeakFlops, flops_per_token
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.progress import Progress, is_out_of_patience, update_progress
from valyrian_jax.training.resume import load_resume_config
from valyrian_jax.training.run import TrainResult, train
from valyrian_jax.training.train_step import TrainState, init_state

ROOT = Path(__file__).parents[2]


def tiny(text: Path, **changes: Any) -> Config:
    return load_config(ROOT / "configs" / "tiny.toml", TINY | {"data.path": str(text)} | changes)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.fixture(scope="module")
def finished(small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(tiny(small_text), tmp_path_factory.mktemp("runs") / "finished", console=quiet())


def numbers(run: Path) -> list[dict[str, float]]:
    """The metrics without the one thing that depends on the clock."""
    return [
        {k: v for k, v in r.items() if k != "train/tokens_per_second"} for r in read_metrics(run)
    ]


def evaluated(run: Path) -> list[float]:
    """The steps at which a run was evaluated."""
    return [r["step"] for r in numbers(run) if "held_out/nats_per_token" in r]


def test_a_run_leaves_what_it_promises(finished: TrainResult, small_text: Path) -> None:
    run = finished.directory
    names = {
        "config.toml",
        "tokenizer.json",
        "metrics.jsonl",
        "samples.txt",
        "loss.png",
        "loss.svg",
        "checkpoints",
        "bundle",
        "lock",
    }
    assert {path.name for path in run.iterdir()} == names
    assert finished.steps == 60
    assert load_run_config(run) == tiny(small_text)
    assert Tokenizer.load(run / "tokenizer.json").vocab_size == 280
    assert (run / "loss.png").read_bytes()[:4] == b"\x89PNG"
    records = [r for r in numbers(run) if "samples" not in r]
    assert [r["step"] for r in records] == [10, 20, 30, 40, 50, 60]
    assert evaluated(run) == [20, 40, 60]
    assert records[-1]["train/loss"] < 0.8 * records[0]["train/loss"]
    sections = (run / "samples.txt").read_text(encoding="utf-8").split("=== step ")
    assert [section.partition("\n")[0] for section in sections[1:]] == ["30", "60"]


def test_the_bundle_holds_the_best_weights_and_where_they_come_from(
    finished: TrainResult, small_text: Path
) -> None:
    best = load_bundle(finished.directory / "bundle")
    assert best.manifest["step"] == finished.progress.best_step == 60
    assert best.manifest["config"] == config_to_tree(tiny(small_text))
    assert best.manifest["held_out"]["nats_per_token"] == finished.progress.best_loss
    assert evaluate_run(finished.directory) == pytest.approx(
        (finished.progress.best_loss, finished.progress.best_bits_per_byte), rel=1e-6
    )


def test_the_same_configuration_gives_the_same_run(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    again = train(tiny(small_text), tmp_path / "again", console=quiet())
    assert numbers(again.directory) == numbers(finished.directory)
    assert (again.directory / "samples.txt").read_bytes() == (
        finished.directory / "samples.txt"
    ).read_bytes()
    weights = "bundle/model.safetensors"
    assert (again.directory / weights).read_bytes() == (finished.directory / weights).read_bytes()


def ended(
    settings: Config, out: Path, at: int, how: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start a run that is stopped when it is about to go past step `at`."""
    with pytest.raises((RuntimeError, StoppedError)):
        disturbed(settings, out, at, how, monkeypatch)


def disturbed(
    settings: Config, out: Path, at: int, how: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start a run and let something happen in the dispatch that goes past step `at`."""
    skip_steps = training_run.skip_steps

    def ending(setup: Any, state: Any, progress: Any, metrics: Any) -> Any:
        if int(state.step) - len(metrics.loss) == at:
            how()
        return skip_steps(setup, state, progress, metrics)

    with monkeypatch.context() as patch:
        patch.setattr(training_run, "skip_steps", ending)
        train(settings, out, console=quiet())


def crash() -> None:
    raise RuntimeError


def final_state(run: Path) -> TrainState:
    settings = load_run_config(run)
    like = init_state(settings, make_optimizer(settings.optim, settings.train.steps))
    return checkpoint.restore(checkpoint.find_newest(run / "checkpoints"), like)


def assert_same(run: Path, other: Path) -> None:
    """Numbers, samples, best weights and the whole last state of two runs are equal bit for bit."""
    assert numbers(run) == numbers(other)
    assert (run / "samples.txt").read_bytes() == (other / "samples.txt").read_bytes()
    assert (run / "bundle/model.safetensors").read_bytes() == (
        other / "bundle/model.safetensors"
    ).read_bytes()
    jax.tree.map(np.testing.assert_array_equal, final_state(run), final_state(other))


@pytest.mark.parametrize(
    ("how", "at", "saved"),
    [
        (crash, 20, 20),
        (crash, 50, 40),  # what came after step 40 is done again
        (
            functools.partial(signal.raise_signal, signal.SIGINT),
            0,
            10,
        ),  # the dispatch is ended, and saved
        (functools.partial(signal.raise_signal, signal.SIGTERM), 40, 50),
    ],
    ids=["exception", "exception-between", "SIGINT", "SIGTERM"],
)
def test_a_resumed_run_is_the_undisturbed_run_bit_for_bit(
    how: Callable[[], None],
    at: int,
    saved: int,
    finished: TrainResult,
    small_text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended(tiny(small_text), tmp_path / "run", at, how, monkeypatch)
    assert checkpoint.list_steps(tmp_path / "run" / "checkpoints")[-1] == saved
    resumed = train(
        load_resume_config(tmp_path / "run", {}), resume=tmp_path / "run", console=quiet()
    )
    assert resumed.progress == finished.progress
    assert_same(tmp_path / "run", finished.directory)


def test_a_signal_ends_a_run_with_the_command_that_resumes_it(
    small_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: Any) -> Any:
        state, progress, stop_signal = arguments[3], arguments[4], arguments[-1]
        signal.raise_signal(signal.SIGTERM)
        return state, progress, stop_signal()

    monkeypatch.setattr(training_run, "train_steps", stopped)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(
        StoppedError,
        match=r"stopped at step 0 \(SIGTERM\); saved; .*: python train.py --resume .*run$",
    ) as stop:
        train(tiny(small_text), tmp_path / "run", console=quiet())
    assert stop.value.status == 143
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("calm", range(4))
def test_whenever_a_signal_comes_what_is_said_to_be_saved_is(
    calm: int, small_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = chain(repeat(None, calm), repeat(signal.SIGTERM))
    monkeypatch.setattr(
        training_run, "stop_signals", lambda: contextlib.nullcontext(lambda: next(answers))
    )
    with pytest.raises(StoppedError) as stop:
        train(tiny(small_text), tmp_path / "run", console=quiet())
    saved = checkpoint.find_newest(tmp_path / "run" / "checkpoints").metadata.step
    assert f"stopped at step {saved} (SIGTERM); saved" in str(stop.value)


def test_a_finished_run_can_be_made_longer(finished: TrainResult, tmp_path: Path) -> None:
    shutil.copytree(finished.directory, tmp_path / "longer")
    settings = load_resume_config(tmp_path / "longer", {"train.steps": 65})
    assert train(settings, resume=tmp_path / "longer", console=quiet()).steps == 65
    assert load_run_config(tmp_path / "longer").train.steps == 65
    assert evaluated(tmp_path / "longer") == [20, 40, 60, 65]


def test_events_stay_on_their_steps_when_a_run_ends_between_dispatches(
    small_text: Path, tmp_path: Path
) -> None:
    train(tiny(small_text, **{"train.steps": 5}), tmp_path / "run", console=quiet())
    train(
        load_resume_config(tmp_path / "run", {"train.steps": 60}),
        resume=tmp_path / "run",
        console=quiet(),
    )
    assert evaluated(tmp_path / "run") == [5, 20, 40, 60]


def test_the_checkpoint_holds_the_configuration(finished: TrainResult) -> None:
    found = json.loads((finished.directory / "checkpoints" / "60" / "record.json").read_text())
    assert found["config"] == config_to_tree(load_run_config(finished.directory))


def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    finished: TrainResult, tmp_path: Path
) -> None:
    run, said = tmp_path / "run", io.StringIO()
    shutil.copytree(finished.directory, run)
    (run / "checkpoints" / "60" / "state" / "manifest.ocdbt").write_bytes(b"")
    train(load_resume_config(run, {}), resume=run, console=Console(file=said, width=200))
    assert (
        "checkpoints/60 is damaged: state/manifest.ocdbt was changed, truncated or lost"
        in said.getvalue()
    )
    assert "resumed   at step 40" in said.getvalue()
    assert_same(run, finished.directory)


def test_resuming_with_something_else_is_refused_by_name(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished.directory, run)

    def refused(message: str, **overrides: Any) -> None:
        with pytest.raises(UserError, match=message):
            train(load_resume_config(run, overrides), resume=run, console=quiet())

    for key, value in (
        ("model.n_layer", 3),
        ("optim.lr", 1.0),
        ("train.seed", 3),
        ("data.held_out", 0.1),
    ):
        refused(f"{key} was .* so far and would be {value}; it cannot change", **{key: value})
    (run / "tokenizer.json").write_text((run / "tokenizer.json").read_text() + " ")
    refused("tokenizer.json has changed since")
    shutil.copy(finished.directory / "tokenizer.json", run)
    changed = tmp_path / "changed.txt"
    changed.write_text(small_text.read_text() + "\n\nmore.")
    refused("changed.txt has changed since", **{"data.path": str(changed)})
    shutil.copy(small_text, changed)  # a text may move
    assert (
        train(
            load_resume_config(run, {"data.path": str(changed)}), resume=run, console=quiet()
        ).steps
        == 60
    )


def test_other_software_is_told_of(
    finished: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, said = tmp_path / "run", io.StringIO()
    shutil.copytree(finished.directory, run)
    monkeypatch.setattr(platform, "python_version", lambda: "4.0")
    train(load_resume_config(run, {}), resume=run, console=Console(file=said, width=200))
    assert (
        f"python was {checkpoint.find_newest(finished.directory / 'checkpoints').metadata.versions['python']} and is 4.0"
        in (said.getvalue())
    )


def test_a_second_process_in_a_run_is_refused(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    with (
        lock_directory(finished.directory),
        pytest.raises(UserError, match="another process is training in"),
    ):
        train(
            load_resume_config(finished.directory, {}), resume=finished.directory, console=quiet()
        )
    with (
        lock_directory(tmp_path / "new"),
        pytest.raises(UserError, match="another process is training in"),
    ):
        train(tiny(small_text), tmp_path / "new", console=quiet())


def run_out_of_space(settings: Config, out: Path) -> None:
    """Be asked to stop at step 40, when no file can grow any more."""

    def stop() -> None:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))  # bytes
        signal.raise_signal(signal.SIGTERM)

    expected = (
        "50 could not be written: .*File too large.*; the last checkpoint is of step 40; .*--resume"
    )
    with pytest.raises(UserError, match=expected):
        disturbed(settings, out, 40, stop, pytest.MonkeyPatch())


def test_a_disk_that_fills_up_ends_the_run_and_loses_nothing(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    # In a process of its own: the writes that orbax leaves undone complain when they are collected.
    process = FORKING.Process(target=run_out_of_space, args=(tiny(small_text), tmp_path / "run"))
    process.start()
    process.join()
    assert process.exitcode == 0
    train(load_resume_config(tmp_path / "run", {}), resume=tmp_path / "run", console=quiet())
    assert_same(tmp_path / "run", finished.directory)


def test_early_stopping_keeps_the_best_weights(small_text: Path, tmp_path: Path) -> None:
    # A learning rate that undoes the model after the warm-up.
    changes = {
        "train.steps": 400,
        "train.patience": 2,
        "optim.lr": 1.0,
        "optim.min_lr_ratio": 0.9,
        "optim.warmup": 0.3,
    }
    result = train(tiny(small_text, **changes), tmp_path / "run", console=quiet())
    losses = [
        r["held_out/nats_per_token"]
        for r in numbers(result.directory)
        if "held_out/nats_per_token" in r
    ]
    best = int(np.argmin(losses))
    assert result.steps == 20 * (best + 3) < 400
    assert result.progress.best_step == 20 * (best + 1)
    assert evaluate_run(result.directory).nats_per_token == pytest.approx(losses[best], rel=1e-6)
    resumed = train(
        load_resume_config(result.directory, {}), resume=result.directory, console=quiet()
    )
    assert resumed.progress == result.progress  # patience is remembered
    assert resumed.steps == result.steps


def test_a_reader_of_the_output_that_goes_away_ends_nothing(
    small_text: Path, tmp_path: Path
) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    result = train(tiny(small_text), tmp_path / "run", console=Console(file=Gone()))
    assert checkpoint.list_steps(result.directory / "checkpoints") == [40, 60]


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


def test_numbers_that_are_not_finite_stop_the_run(small_text: Path, tmp_path: Path) -> None:
    changes = {"optim.lr": 1e30, "optim.warmup": 0.0, "optim.weight_decay": 1e30}
    expected = r"step 1 has no finite update: loss \d.*the last checkpoint is of step 0; parameter norms: \d.*wte.weight"
    with pytest.raises(UserError, match=expected):
        train(tiny(small_text, **changes), tmp_path / "run", console=quiet())


def poisoned(finished: TrainResult, path: Path) -> Path:
    """The weights of a run as a bundle whose loss is not finite where the letter Z is read."""
    best = load_bundle(finished.directory / "bundle")
    tensors = {name: tensor.copy() for name, tensor in best.tensors.items()}
    tensors["transformer.wte.weight"][best.tokenizer.encode("Z")] = 3e38
    save_bundle(dataclasses.replace(best, tensors=tensors), path)
    return path


def test_steps_that_are_not_finite_are_left_out_when_asked(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    init, text = poisoned(finished, tmp_path / "poisoned"), tmp_path / "text.txt"
    text.write_text(small_text.read_text().replace("\n\n", " Z\n\n", 20))
    changes = {"train.max_skipped": 50, "train.batch_size": 2, "optim.weight_decay": 0.0}
    result = train(tiny(text, **changes), tmp_path / "run", init=init, console=quiet())
    assert 0 < result.progress.skipped_steps < 50
    assert (
        checkpoint.find_newest(result.directory / "checkpoints").metadata.progress
        == result.progress
    )
    assert all(np.isfinite(array).all() for array in jax.tree.leaves(final_state(result.directory)))
    assert result.progress.best_loss < finished.progress.best_loss
    with pytest.raises(UserError, match="no finite update: loss nan, gradient norm nan"):
        train(
            tiny(text, **changes | {"train.max_skipped": 1}),
            tmp_path / "strict",
            init=init,
            console=quiet(),
        )


def test_a_held_out_loss_that_is_not_finite_never_becomes_the_best(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    init, text = poisoned(finished, tmp_path / "poisoned"), tmp_path / "text.txt"
    text.write_text(small_text.read_text() + "\n\nZ")
    with pytest.raises(
        UserError,
        match="the held-out loss at step 20 is not finite; the last checkpoint is of step 0",
    ):
        train(
            tiny(text, **{"optim.weight_decay": 0.0}), tmp_path / "run", init=init, console=quiet()
        )
    assert not (tmp_path / "run" / "bundle").exists()


def test_training_starts_from_any_bundle(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    settings = tiny(small_text, **{"model.n_layer": 2, "train.steps": 20, "optim.lr": 1e-6})
    result = train(settings, tmp_path / "run", init=finished.directory / "bundle", console=quiet())
    assert result.progress.best_loss == pytest.approx(finished.progress.best_loss, abs=0.01)
    assert load_run_config(result.directory).model == dataclasses.replace(
        load_bundle(finished.directory / "bundle").model, dropout=settings.model.dropout
    )


def test_the_context_of_a_bundle_can_be_cut_but_not_made_longer(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    settings = tiny(small_text, **{"train.steps": 20, "train.sample_every": 0, "optim.lr": 1e-6})
    before, run = finished.directory / "bundle", tmp_path / "run"
    result = train(settings, run, init=before, context=16, console=quiet())
    assert result.progress.best_loss == pytest.approx(
        finished.progress.best_loss, abs=0.1
    )  # with less to look at
    table = "transformer.wpe.weight"
    cut, whole = load_bundle(run / "bundle"), load_bundle(before)
    assert (cut.model.n_positions, whole.model.n_positions) == (16, 32)
    np.testing.assert_allclose(cut.tensors[table], whole.tensors[table][:16], atol=1e-3)
    with pytest.raises(
        UserError, match=r"--model.n_positions 33: the bundle has learnt 32 positions.* at most 32"
    ):
        train(settings, tmp_path / "longer", init=before, context=33, console=quiet())


def test_a_run_may_compute_otherwise_and_pad_the_vocabulary(
    finished: TrainResult, small_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_PEAKS, "cpu", PeakFlops(None, 0.5))
    changes = {"train.steps": 20, "optim.lr": 1e-6, "model.vocab_multiple": 64, "train.remat": True}
    settings, console = tiny(small_text, **changes, **{"train.scan_layers": True}), quiet()
    start = load_bundle(finished.directory / "bundle")
    result = train(settings, tmp_path / "run", init=finished.directory / "bundle", console=console)
    assert result.progress.best_loss == pytest.approx(finished.progress.best_loss, abs=0.01)
    said = console.file.getvalue()
    assert "compute   the layers in a loop; the blocks once more for the gradient\n" in said
    assert "vocabulary 280 in 320 rows: " in said
    share = flops_per_token(start.model) / 0.5e12
    for record in (r for r in read_metrics(result.directory) if "train/loss" in r):
        assert record["train/mfu"] == pytest.approx(record["train/tokens_per_second"] * share)
    assert not any(
        "train/mfu" in record for record in numbers(finished.directory)
    )  # nobody knows what a CPU can do
    best = load_bundle(result.directory / "bundle")
    assert best.model == dataclasses.replace(start.model, dropout=settings.model.dropout)
    assert load_run_config(result.directory).model == dataclasses.replace(
        best.model, vocab_multiple=64
    )


def test_a_given_tokenizer_is_used(finished: TrainResult, small_text: Path, tmp_path: Path) -> None:
    given = str(finished.directory / "tokenizer.json")
    settings = tiny(small_text, **{"data.tokenizer": given})
    result = train(settings, tmp_path / "run", console=quiet())
    assert Tokenizer.load(result.directory / "tokenizer.json") == Tokenizer.load(given)
    with pytest.raises(
        UserError, match=r"280 tokens, but model.vocab_size = 300; set --model.vocab_size 280"
    ):
        train(
            tiny(small_text, **{"data.tokenizer": given, "model.vocab_size": 300}),
            tmp_path / "x",
            console=quiet(),
        )


@pytest.mark.parametrize("name", ["adam_l2", "muon"])
def test_other_optimizers_train_too(name: str, small_text: Path, tmp_path: Path) -> None:
    result = train(tiny(small_text, **{"optim.name": name}), tmp_path / name, console=quiet())
    records = [r for r in numbers(result.directory) if "train/loss" in r]
    assert records[-1]["train/loss"] < 0.8 * records[0]["train/loss"]


def test_samples_of_a_run_are_those_of_its_weights(finished: TrainResult) -> None:
    from valyrian_jax.model.parameters import from_tensors

    best, settings = load_bundle(finished.directory / "bundle"), load_run_config(finished.directory)
    generate = functools.partial(stream_tokens, from_tensors(best.tensors), best.model)
    texts = generate_texts(generate, best.tokenizer, settings.sample, 3)
    last = (
        (finished.directory / "samples.txt").read_text(encoding="utf-8").split("=== step 60\n")[1]
    )
    assert last == "".join(f"{text}\n---\n" for text in texts)


def test_the_metrics_are_json_lines(finished: TrainResult) -> None:
    records = [
        json.loads(line) for line in (finished.directory / "metrics.jsonl").read_text().splitlines()
    ]
    for record in records:
        assert "samples" in record or all(
            isinstance(value, int | float) for value in record.values()
        )
    assert [record["step"] for record in records if "samples" in record] == [30, 60]
