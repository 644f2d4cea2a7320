"""Whole runs, small: what they leave, how they stop, and that a resumed run is the run."""

import dataclasses
import functools
import io
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from valyrian_jax import bundle, checkpoint, config, evaluation, loop, optim, prompt, runs, sampling, state
from valyrian_jax.config import Config
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation import Evaluation, Progress
from valyrian_jax.tokenizer import Tokenizer

from ..tiny import TINY

ROOT = Path(__file__).parent.parent.parent


def tiny(text: Path, **changes: Any) -> Config:
    return config.load(ROOT / "configs" / "tiny.toml", TINY | {"data.path": str(text)} | changes)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.fixture(scope="module")
def finished(small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> loop.Result:
    return loop.run(tiny(small_text), tmp_path_factory.mktemp("runs") / "finished", console=quiet())


def numbers(run: Path) -> list[dict[str, float]]:
    """The metrics without the one thing that depends on the clock."""
    return [{k: v for k, v in r.items() if k != "train/tokens_per_second"} for r in runs.read_metrics(run)]


def evaluated(run: Path) -> list[float]:
    """The steps at which a run was evaluated."""
    return [r["step"] for r in numbers(run) if "held_out/nats_per_token" in r]


def test_a_run_leaves_what_it_promises(finished: loop.Result, small_text: Path) -> None:
    run = finished.run
    names = {"config.toml", "tokenizer.json", "metrics.jsonl", "samples.txt", "loss.png", "checkpoints", "bundle"}
    assert {path.name for path in run.iterdir()} == names
    assert finished.steps == 60
    assert runs.load_config(run) == tiny(small_text)
    assert Tokenizer.load(run / "tokenizer.json").vocab_size == 280
    assert (run / "loss.png").read_bytes()[:4] == b"\x89PNG"
    records = [r for r in numbers(run) if "samples" not in r]
    assert [r["step"] for r in records] == [10, 20, 30, 40, 50, 60]
    assert evaluated(run) == [20, 40, 60]
    assert records[-1]["train/loss"] < 0.8 * records[0]["train/loss"]
    sections = (run / "samples.txt").read_text(encoding="utf-8").split("=== step ")
    assert [section.partition("\n")[0] for section in sections[1:]] == ["30", "60"]


def test_the_bundle_holds_the_best_weights_and_where_they_come_from(finished: loop.Result, small_text: Path) -> None:
    best = bundle.load(finished.run / "bundle")
    assert best.manifest["step"] == finished.progress.best_step == 60
    assert best.manifest["config"] == config.to_tree(tiny(small_text))
    assert best.manifest["held_out"]["nats_per_token"] == finished.progress.best_loss
    assert evaluation.evaluate_run(finished.run) == pytest.approx(
        (finished.progress.best_loss, finished.progress.best_bits_per_byte), rel=1e-6
    )


def test_the_same_configuration_gives_the_same_run(finished: loop.Result, small_text: Path, tmp_path: Path) -> None:
    again = loop.run(tiny(small_text), tmp_path / "again", console=quiet())
    assert numbers(again.run) == numbers(finished.run)
    assert (again.run / "samples.txt").read_bytes() == (finished.run / "samples.txt").read_bytes()
    weights = "bundle/model.safetensors"
    assert (again.run / weights).read_bytes() == (finished.run / weights).read_bytes()


def interrupted(settings: Config, out: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a run and stop it by an exception when it is about to go past step `at`."""
    dispatch = loop.dispatch

    def stopping(session: Any, train_step: Any, current: Any, done: int, count: int) -> Any:
        if done == at:
            raise KeyboardInterrupt
        return dispatch(session, train_step, current, done, count)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "dispatch", stopping)
        with pytest.raises(KeyboardInterrupt):
            loop.run(settings, out, console=quiet())


@pytest.mark.parametrize("at", [20, 50])
def test_a_resumed_run_is_the_undisturbed_run_bit_for_bit(
    at: int, finished: loop.Result, small_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "stopped"
    interrupted(tiny(small_text), out, at, monkeypatch)
    assert checkpoint.open_directory(out / "checkpoints").latest_step() == at // 20 * 20
    resumed = loop.run(loop.resumed_config(out, {}), resume=out, console=quiet())
    assert resumed.progress == finished.progress
    assert numbers(out) == numbers(finished.run)
    assert (out / "samples.txt").read_bytes() == (finished.run / "samples.txt").read_bytes()
    states = []
    for run in (out, finished.run):
        settings = runs.load_config(run)
        like = state.init_state(settings, optim.make_optimizer(settings.optim, settings.train.steps))
        states.append(checkpoint.restore(checkpoint.open_directory(run / "checkpoints"), like)[0])
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert (out / "bundle/model.safetensors").read_bytes() == (finished.run / "bundle/model.safetensors").read_bytes()


def test_a_finished_run_can_be_made_longer(finished: loop.Result, tmp_path: Path) -> None:
    shutil.copytree(finished.run, tmp_path / "longer")
    settings = loop.resumed_config(tmp_path / "longer", {"train.steps": 65})
    assert loop.run(settings, resume=tmp_path / "longer", console=quiet()).steps == 65
    assert runs.load_config(tmp_path / "longer").train.steps == 65
    assert evaluated(tmp_path / "longer") == [20, 40, 60, 65]


def test_events_stay_on_their_steps_when_a_run_ends_between_dispatches(small_text: Path, tmp_path: Path) -> None:
    loop.run(tiny(small_text, **{"train.steps": 5}), tmp_path / "run", console=quiet())
    loop.run(loop.resumed_config(tmp_path / "run", {"train.steps": 60}), resume=tmp_path / "run", console=quiet())
    assert evaluated(tmp_path / "run") == [5, 20, 40, 60]


def test_a_run_stopped_before_its_first_steps_can_be_resumed(
    small_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tiny(small_text), tmp_path / "run", 0, monkeypatch)
    assert loop.run(loop.resumed_config(tmp_path / "run", {}), resume=tmp_path / "run", console=quiet()).steps == 60


def test_the_checkpoint_holds_the_configuration(finished: loop.Result) -> None:
    found = (finished.run / "checkpoints" / "60" / "config" / "metadata").read_text()
    assert json.loads(found) == config.to_tree(runs.load_config(finished.run))


def test_a_damaged_checkpoint_is_named(finished: loop.Result, tmp_path: Path) -> None:
    shutil.copytree(finished.run, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "60" / "progress" / "metadata").write_bytes(b"")
    with pytest.raises(UserError, match="checkpoint 60 in .* is damaged or does not fit this run"):
        loop.run(loop.resumed_config(tmp_path / "run", {}), resume=tmp_path / "run", console=quiet())


def test_resuming_with_another_model_or_text_is_refused(
    finished: loop.Result, small_text: Path, tmp_path: Path
) -> None:
    for key, value in (("model.n_layer", 3), ("data.path", "x"), ("optim.lr", 1.0), ("train.seed", 3)):
        with pytest.raises(UserError, match=f"--{key} cannot change when a run is resumed"):
            loop.resumed_config(finished.run, {key: value})
    shutil.copytree(finished.run, tmp_path / "run")
    changed = tmp_path / "changed.txt"
    changed.write_text(small_text.read_text() + "\n\nmore.")
    text = (tmp_path / "run" / "config.toml").read_text()
    (tmp_path / "run" / "config.toml").write_text(text.replace(str(small_text), str(changed)))
    with pytest.raises(UserError, match="has changed since"):
        loop.run(loop.resumed_config(tmp_path / "run", {}), resume=tmp_path / "run", console=quiet())


def test_early_stopping_keeps_the_best_weights(small_text: Path, tmp_path: Path) -> None:
    # A learning rate that undoes the model after the warm-up.
    changes = {"train.steps": 400, "train.patience": 2, "optim.lr": 1.0, "optim.min_lr_ratio": 0.9, "optim.warmup": 0.3}
    result = loop.run(tiny(small_text, **changes), tmp_path / "run", console=quiet())
    losses = [r["held_out/nats_per_token"] for r in numbers(result.run) if "held_out/nats_per_token" in r]
    best = int(np.argmin(losses))
    assert result.steps == 20 * (best + 3) < 400
    assert result.progress.best_step == 20 * (best + 1)
    assert evaluation.evaluate_run(result.run).nats_per_token == pytest.approx(losses[best], rel=1e-6)
    resumed = loop.run(loop.resumed_config(result.run, {}), resume=result.run, console=quiet())
    assert resumed.progress == result.progress  # patience is remembered
    assert resumed.steps == result.steps


def test_patience_counts_evaluations_without_a_better_loss() -> None:
    progress = Progress("")
    counts = []
    for step, loss in enumerate([3.0, 2.0, 2.0, 2.5, 1.9, 2.0]):
        progress = evaluation.judged(progress, step, Evaluation(loss, loss))
        counts.append(progress.evaluations_since_best)
    assert counts == [0, 0, 1, 2, 0, 1]
    assert (progress.best_step, progress.best_loss) == (4, 1.9)
    assert not evaluation.out_of_patience(progress, 0)
    assert evaluation.out_of_patience(progress, 1)
    assert not evaluation.out_of_patience(progress, 2)


def test_a_loss_that_is_not_finite_stops_the_run(small_text: Path, tmp_path: Path) -> None:
    changes = {"optim.lr": 1e30, "optim.warmup": 0.0, "optim.weight_decay": 1e30}
    with pytest.raises(UserError, match="no longer finite between steps 1 and 10; try a lower"):
        loop.run(tiny(small_text, **changes), tmp_path / "run", console=quiet())


def test_training_starts_from_any_bundle(finished: loop.Result, small_text: Path, tmp_path: Path) -> None:
    settings = tiny(small_text, **{"model.n_layer": 2, "train.steps": 20, "optim.lr": 1e-6})
    result = loop.run(settings, tmp_path / "run", init=finished.run / "bundle", console=quiet())
    assert result.progress.best_loss == pytest.approx(finished.progress.best_loss, abs=0.01)
    assert runs.load_config(result.run).model == dataclasses.replace(
        bundle.load(finished.run / "bundle").model, dropout=settings.model.dropout
    )


def test_a_given_tokenizer_is_used(finished: loop.Result, small_text: Path, tmp_path: Path) -> None:
    given = str(finished.run / "tokenizer.json")
    settings = tiny(small_text, **{"data.tokenizer": given})
    result = loop.run(settings, tmp_path / "run", console=quiet())
    assert Tokenizer.load(result.run / "tokenizer.json") == Tokenizer.load(given)
    with pytest.raises(UserError, match=r"280 tokens, but model.vocab_size = 300; set --model.vocab_size 280"):
        loop.run(
            tiny(small_text, **{"data.tokenizer": given, "model.vocab_size": 300}), tmp_path / "x", console=quiet()
        )


@pytest.mark.parametrize("name", ["adam_l2", "muon"])
def test_other_optimizers_train_too(name: str, small_text: Path, tmp_path: Path) -> None:
    result = loop.run(tiny(small_text, **{"optim.name": name}), tmp_path / name, console=quiet())
    records = [r for r in numbers(result.run) if "train/loss" in r]
    assert records[-1]["train/loss"] < 0.8 * records[0]["train/loss"]


def test_samples_of_a_run_are_those_of_its_weights(finished: loop.Result) -> None:
    from valyrian_jax import model

    best, settings = bundle.load(finished.run / "bundle"), runs.load_config(finished.run)
    generate = functools.partial(sampling.generate, model.from_tensors(best.tensors), best.model)
    texts = prompt.sample_texts(generate, best.tokenizer, settings.sample, 3)
    last = (finished.run / "samples.txt").read_text(encoding="utf-8").split("=== step 60\n")[1]
    assert last == "".join(f"{text}\n---\n" for text in texts)


def test_the_metrics_are_json_lines(finished: loop.Result) -> None:
    records = [json.loads(line) for line in (finished.run / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        assert "samples" in record or all(isinstance(value, int | float) for value in record.values())
    assert [record["step"] for record in records if "samples" in record] == [30, 60]
