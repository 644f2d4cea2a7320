"""Runs that start from a bundle, also from one whose weights make some steps not finite."""

import dataclasses
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.support.runs import (
    load_last_state,
    load_tiny_config,
    make_text_console,
    read_console,
    resume,
)
from valyrian_jax.bundle.bundle import load_bundle, save_bundle
from valyrian_jax.bundle.model_card import speaks_valyrian
from valyrian_jax.config import OptimConfig, load_config
from valyrian_jax.data.dataset import open_dataset
from valyrian_jax.errors import UserError
from valyrian_jax.run_directory import load_run_config
from valyrian_jax.training import checkpoint
from valyrian_jax.training.best_weights import has_valyrian_words
from valyrian_jax.training.console import print_header
from valyrian_jax.training.run import TrainResult, train
from valyrian_jax.training.setup import prepare


@pytest.fixture
def poisoned(finished: TrainResult, tmp_path: Path) -> Path:
    """The bundle of a run, changed so that the loss of every text with the letter Z is infinite."""
    bundle = load_bundle(finished.directory / "bundle")
    tensors = {name: tensor.copy() for name, tensor in bundle.tensors.items()}
    tensors["transformer.wte.weight"][bundle.tokenizer.encode("Z")] = 3e38
    save_bundle(dataclasses.replace(bundle, tensors=tensors), tmp_path / "poisoned")
    return tmp_path / "poisoned"


def test_a_run_starts_from_the_weights_and_the_model_of_a_bundle(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    overrides = {"model.n_layer": 2, "train.steps": 20, "optim.lr": 1e-6}
    config, init = load_tiny_config(small_text, **overrides), finished.directory / "bundle"
    result = train(config, tmp_path / "run", init=init, console=make_text_console())
    assert result.progress.best_loss == pytest.approx(finished.progress.best_loss, abs=0.01)
    expected = dataclasses.replace(load_bundle(init).model, dropout=config.model.dropout)
    assert load_run_config(result.directory).model == expected


def test_the_bundle_of_a_run_names_the_one_that_it_started_from(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    config = load_tiny_config(small_text, **{"train.steps": 20, "optim.lr": 1e-6})
    init, run = finished.directory / "bundle", tmp_path / "run"
    train(config, run, init=init, console=make_text_console())
    assert load_bundle(run / "bundle").manifest["base_model"] == finished.directory.name
    assert f'base_model: "{finished.directory.name}"' in (run / "bundle/README.md").read_text()
    shutil.rmtree(run / "bundle")  # as after a kill before the first evaluation
    resume(run, **{"train.steps": 60, "train.eval_every": 20})
    manifest = load_bundle(run / "bundle").manifest
    assert manifest["base_model"] == finished.directory.name
    assert "base_model" not in load_bundle(init).manifest


def test_the_language_of_a_text_is_told_by_its_words(
    valyrian: str, small_text: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.txt").write_text(valyrian[:40_000], encoding="utf-8")
    config = load_tiny_config(tmp_path / "own.txt", **{"train.steps": 20})
    assert has_valyrian_words(open_dataset(config, None, tmp_path))
    assert not has_valyrian_words(open_dataset(load_tiny_config(small_text), None, tmp_path))
    train(config, tmp_path / "run", console=make_text_console())
    manifest = load_bundle(tmp_path / "run" / "bundle").manifest
    assert "entropy_bits_per_byte" not in manifest["held_out"]
    assert speaks_valyrian(manifest)


def test_the_context_of_a_bundle_can_be_cut_but_not_extended(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    overrides = {"train.steps": 20, "train.sample_every": 0, "optim.lr": 1e-6}
    config = load_tiny_config(small_text, **overrides)
    init, run = finished.directory / "bundle", tmp_path / "run"
    result = train(config, run, init=init, context=16, console=make_text_console())
    # The loss is a little higher, because the tokens see less of the text.
    assert result.progress.best_loss == pytest.approx(finished.progress.best_loss, abs=0.1)
    table = "transformer.wpe.weight"
    cut, whole = load_bundle(run / "bundle"), load_bundle(init)
    assert (cut.model.n_positions, whole.model.n_positions) == (16, 32)
    np.testing.assert_allclose(cut.tensors[table], whole.tensors[table][:16], atol=1e-3)
    expected = r"--model.n_positions 33 is too long: the bundle has learned 32 positions.* most 32"
    with pytest.raises(UserError, match=expected):
        train(config, tmp_path / "refused", init=init, context=33, console=make_text_console())


def test_a_step_that_is_not_finite_stops_the_run(small_text: Path, tmp_path: Path) -> None:
    overrides = {"optim.lr": 1e30, "optim.warmup": 0.0, "optim.weight_decay": 1e30}
    expected = (
        r"step 1 has no finite update: loss \d.*the last checkpoint is of step 0; "
        r"parameter norms: \d.*wte.weight"
    )
    with pytest.raises(UserError, match=expected):
        train(
            load_tiny_config(small_text, **overrides), tmp_path / "run", console=make_text_console()
        )


def test_steps_that_are_not_finite_are_skipped_up_to_the_configured_number(
    poisoned: Path, finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(small_text.read_text().replace("\n\n", " Z\n\n", 20))
    overrides = {"train.max_skipped": 50, "train.batch_size": 2, "optim.weight_decay": 0.0}
    run, console = tmp_path / "run", make_text_console()
    result = train(load_tiny_config(text, **overrides), run, init=poisoned, console=console)
    assert 0 < result.progress.skipped_steps < 50
    assert checkpoint.find_newest(run / "checkpoints").metadata.progress == result.progress
    assert all(np.isfinite(array).all() for array in jax.tree.leaves(load_last_state(run)))
    assert result.progress.best_loss < finished.progress.best_loss
    config = load_tiny_config(text, **overrides | {"train.max_skipped": 1})
    with pytest.raises(UserError, match="no finite update: loss nan, gradient norm nan"):
        train(config, tmp_path / "refused", init=poisoned, console=console)


def test_a_held_out_loss_that_is_not_finite_never_becomes_the_best(
    poisoned: Path, small_text: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(small_text.read_text() + "\n\nZ")
    config = load_tiny_config(text, **{"optim.weight_decay": 0.0})
    expected = "held-out loss at step 20 is not finite; the last checkpoint is of step 0"
    with pytest.raises(UserError, match=expected):
        train(config, tmp_path / "run", init=poisoned, console=make_text_console())
    assert not (tmp_path / "run" / "bundle").exists()


@pytest.mark.slow
def test_a_high_learning_rate_is_named_where_trained_weights_are_changed(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    default, lower = OptimConfig().lr, load_config("configs/finetune.toml").optim.lr
    bundle, state = finished.directory / "bundle", load_last_state(finished.directory)
    for lr, init, count in [
        (default, bundle, 1),
        (2 * default, bundle, 1),
        (lower, bundle, 0),
        (default, None, 0),
    ]:
        config, console = load_tiny_config(small_text, **{"optim.lr": lr}), make_text_console()
        setup = prepare(config, jax.devices()[0], out=tmp_path / "run", init=init)
        print_header(console, setup, state)
        output = " ".join(read_console(console).split())
        assert output.count("to fine-tune, pass --config finetune") == count
