"""A run under settings of JAX that a caller changed equals a run without them, bit for bit."""

import json
import shutil
from pathlib import Path

import jax
import pytest

from tests.support.ambient import HOSTILE_JAX_SETTINGS, set_jax_settings
from tests.support.runs import (
    assert_same_runs,
    load_tiny_config,
    make_text_console,
    read_console,
    resume,
)
from valyrian_jax.api import load
from valyrian_jax.bundle.text_generation import generate_many_texts
from valyrian_jax.config import SampleConfig
from valyrian_jax.evaluation.report import evaluate_run
from valyrian_jax.generation.generate import make_generator
from valyrian_jax.plots.attention import draw_attention
from valyrian_jax.run_directory import load_run_bundle
from valyrian_jax.training.checkpoint_integrity import hash_files
from valyrian_jax.training.run import TrainResult, train


def sample_texts(run: Path) -> list[str]:
    bundle = load_run_bundle(run)
    generate = make_generator(bundle)
    sample = SampleConfig("the red", 60, 1.0, 0, 0.9, 3)
    return [*generate_many_texts(generate, bundle.tokenizer, sample, 2)]


@pytest.mark.slow
def test_a_run_a_resume_a_sample_and_an_evaluation_ignore_settings_of_the_caller(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    mesh = jax.make_mesh((1,), ("x",), (jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh), set_jax_settings(HOSTILE_JAX_SETTINGS):
        train(load_tiny_config(small_text), run, console=make_text_console())
        shutil.rmtree(run / "checkpoints" / "60")
        assert resume(run).steps == 60  # from step 40
        texts, evaluation = sample_texts(run), evaluate_run(run)
        assert draw_attention(*load(run).attention("the red")).axes
    assert_same_runs(run, finished.directory)
    assert texts == sample_texts(finished.directory)
    assert evaluation == evaluate_run(finished.directory)


def test_a_resume_under_other_settings_that_round_says_so_in_one_line(
    finished: TrainResult, tmp_path: Path
) -> None:
    run = shutil.copytree(finished.directory, tmp_path / "run")
    with jax.default_matmul_precision("highest"):
        console = make_text_console()
        resume(run, console)
    notes = [line for line in read_console(console).splitlines() if line.startswith("note ")]
    assert notes == [
        "note      jax_default_matmul_precision has changed from None to highest: results may "
        "differ in the last bits from here on"
    ]


def test_a_checkpoint_of_an_older_version_resumes_silently(
    finished: TrainResult, tmp_path: Path
) -> None:
    run = shutil.copytree(finished.directory, tmp_path / "run")
    newest = run / "checkpoints" / "60"
    record = json.loads((newest / "record.json").read_text())
    names = [name for name in record["versions"] if name.startswith("jax_")]
    assert names
    for name in names:
        del record["versions"][name]
    (newest / "record.json").write_text(json.dumps(record))
    (newest / "sha256.json").write_text(json.dumps(hash_files(newest)))
    console = make_text_console()
    with jax.default_matmul_precision("highest"):
        resume(run, console)
    assert "note " not in read_console(console)
