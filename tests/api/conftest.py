"""A small random model in a run, and both packages that load it."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import bridge
import valyrian_jax
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.config import Config, ModelConfig, config_from_tree, config_to_tree
from valyrian_jax.run_directory import save_config
from valyrian_jax.tokenizer import train_bpe

CONFIG = ModelConfig(vocab_size=300, n_positions=16, n_embd=24, n_layer=2, n_head=3)
TEXT = "the dragon sees a lazy wolf, and the wolf jumps over seventeen rivers. Ȳdra daor! " * 20
SAMPLE = {"sample.max_new_tokens": 24, "sample.temperature": 1.3, "sample.seed": 5}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with one run in it."""
    directory = tmp_path_factory.mktemp("home")
    run = directory / "runs" / "first"
    run.mkdir(parents=True)
    rng = np.random.default_rng(0)
    tensors = {
        name: (rng.normal(size=shape) * 0.3 + name.endswith("ln_f.weight")).astype(np.float32)
        for name, shape in parameter_shapes(CONFIG).items()
    }
    config = config_from_tree(config_to_tree(Config()), SAMPLE)
    manifest = {"config": config_to_tree(config)}
    save_bundle(Bundle(CONFIG, tensors, train_bpe(TEXT, 300), manifest), run / "bundle")
    save_config(run, config)
    return directory


@pytest.fixture(params=[valyrian_jax, bridge], ids=["jax", "torch"])
def package(request: pytest.FixtureRequest) -> ModuleType:
    """A package with the API."""
    return request.param


@pytest.fixture
def model(package: ModuleType, home: Path) -> Any:
    """The model of the run."""
    return package.load(home / "runs" / "first")
