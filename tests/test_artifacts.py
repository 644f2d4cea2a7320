"""Files that earlier versions wrote can still be read; tests/artifacts/make.py made them."""

import functools
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from bridge import torchscript
from bridge.generator import Generator
from bridge.streaming import stream
from tests.artifacts.make import PROMPT
from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.bundle.text_generation import (
    TokenGenerator,
    encode_prompt,
    generate_texts,
    seed_range,
)
from valyrian_jax.config import SampleConfig
from valyrian_jax.generation.generate import make_generator
from valyrian_jax.model.gpt import forward
from valyrian_jax.model.parameters import from_tensors
from valyrian_jax.run_directory import read_metrics
from valyrian_jax.training import checkpoint
from valyrian_jax.training.run import train
from valyrian_jax.training.start_options import load_resume_config

VERSIONS = sorted(
    path.parent for path in (Path(__file__).parent / "artifacts").glob("*/expected.json")
)
every_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)


def test_artifacts_exist() -> None:
    assert VERSIONS


@every_version
def test_old_bundles_give_the_same_logits(version: Path) -> None:
    expected = json.loads((version / "expected.json").read_text(encoding="utf-8"))
    bundle = load_bundle(version / "run" / "bundle")
    assert bundle.tokenizer.encode(PROMPT) == expected["tokens"]
    tokens = jnp.asarray([expected["tokens"]], jnp.int32)
    logits = forward(from_tensors(bundle.tensors), tokens, bundle.model)
    np.testing.assert_allclose(logits[0, -1, :8], expected["logits"], atol=1e-5)


@pytest.mark.slow
@every_version
def test_old_runs_resume(version: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(version / "run", run)
    progress = checkpoint.find_newest(run / "checkpoints").metadata.progress
    overrides = {"train.steps": 25, "data.path": str(version / "text.txt")}
    config = load_resume_config(run, overrides)
    metrics = list(read_metrics(run))
    result = train(config, resume=run, console=Console(file=io.StringIO()))
    assert result.steps == 25
    resumed_metrics = list(read_metrics(run))
    assert resumed_metrics[: len(metrics)] == metrics
    losses = [record["train/loss"] for record in resumed_metrics if "train/loss" in record]
    assert losses[-1] < losses[0]
    assert result.progress.best_loss < progress.best_loss


@every_version
def test_old_torchscript_files_give_the_same_text(version: Path) -> None:
    expected = json.loads((version / "expected.json").read_text(encoding="utf-8"))
    module, _ = torchscript.load(version / "model.pt")
    assert module.generate_text(PROMPT, 20, 0.0, 0, 1.0, 0) == expected["text"]


VERSION_0_1 = Path(__file__).parent / "artifacts" / "0.1.0"
OLD_BUNDLE = load_bundle(VERSION_0_1 / "run" / "bundle")
OLD_TEXTS = json.loads((VERSION_0_1 / "texts.json").read_text(encoding="utf-8"))
RUNTIMES: dict[str, Callable[[Bundle], TokenGenerator]] = {
    "JAX": make_generator,
    "PyTorch": lambda bundle: functools.partial(stream, Generator(bundle)),
}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("row", OLD_TEXTS, ids=lambda row: f"{row['prompt'][:9]!r}-{row['seed']}")
def test_with_settings_off_that_0_1_lacked_texts_are_those_of_0_1(
    row: dict[str, Any], runtime: str
) -> None:
    tokens, texts = row["tokens"], row["texts"]
    sample = SampleConfig(**{k: v for k, v in row.items() if k not in ("tokens", "texts")})
    generate, seeds = RUNTIMES[runtime](OLD_BUNDLE), seed_range(sample.seed, len(texts))
    prompts = [encode_prompt(OLD_BUNDLE.tokenizer, sample.prompt)] * len(texts)
    assert np.stack([*generate(prompts, seeds, sample)]).T.tolist() == tokens
    prompts = [sample.prompt] * len(texts)
    assert generate_texts(generate, OLD_BUNDLE.tokenizer, prompts, seeds, sample) == texts
