"""What only a GPU can show, beside the CPU of the same machine: pytest --gpu -n0 tests/training/test_gpu.py"""

import functools
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from tests.support.tiny import TINY
from valyrian_jax.config import (
    Config,
    MeshConfig,
    ModelConfig,
    SampleConfig,
    TrainConfig,
    load_config,
)
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import DEFAULT_OPTIONS, ComputeOptions, choose_options
from valyrian_jax.model.parameters import init_params
from valyrian_jax.run_directory import read_metrics
from valyrian_jax.training import run
from valyrian_jax.training.devices import peak_flops, select_device
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.train_step import init_state, make_train_step, value_and_gradients

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).parents[2]
CONFIG = Config(model=ModelConfig(n_layer=2))
WINDOWS = np.random.default_rng(0).integers(0, 500, (10, 16, 65)).astype(np.int32)


def on(platform: str) -> Any:
    return jax.default_device(jax.devices(platform)[0])


def relative(found: Any, expected: Any) -> float:
    """The distance of two trees of arrays, as a share of the second one's norm."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    squares = [
        (np.sum(np.square(np.subtract(a, b, dtype=np.float64))), np.sum(np.square(b)))
        for a, b in pairs
    ]
    return float(np.sqrt(sum(a for a, _ in squares) / sum(b for _, b in squares)))


@functools.cache
def gradients(platform: str, precision: str) -> Any:
    """Loss and gradients of the default model on one batch, as NumPy arrays."""
    with on(platform), jax.default_matmul_precision(precision):
        params = init_params(CONFIG.model, jax.random.key(0))
        found = jax.jit(functools.partial(value_and_gradients, CONFIG))(
            params, WINDOWS[0], jax.random.key(1)
        )
        return jax.tree.map(np.asarray, found)


def test_loss_and_gradients_are_those_of_the_cpu() -> None:
    expected = gradients("cpu", "highest")
    exact, default = gradients("cuda", "highest"), gradients("cuda", "default")
    assert exact[0] == pytest.approx(expected[0], rel=1e-6)
    assert relative(exact[1], expected[1]) < 1e-5
    assert default[0] == pytest.approx(expected[0], rel=1e-4)
    assert relative(default[1], expected[1]) < 2e-3  # products in TF32, of 10 bits


def test_training_steps_are_those_of_the_cpu() -> None:
    def train(platform: str) -> np.ndarray:
        mesh = sharding.make_mesh(MeshConfig(), jax.devices(platform)[:1])
        optimizer = make_optimizer(CONFIG.optim, CONFIG.train.steps)
        before = init_state(CONFIG, optimizer, mesh=mesh)
        with jax.default_matmul_precision("highest"):
            train_step = make_train_step(CONFIG, optimizer, ComputeOptions(mesh=mesh))
            return np.asarray(
                train_step(before, jnp.asarray(WINDOWS, device=sharding.batch_sharding(mesh)))[
                    1
                ].loss
            )

    np.testing.assert_allclose(train("cuda"), train("cpu"), rtol=1e-4)


def test_auto_takes_cudnn_attention_for_bfloat16_alone() -> None:
    gpu = select_device("gpu")
    narrow = replace(CONFIG, train=TrainConfig(dtype="bfloat16"))
    assert choose_options(narrow, gpu).attention == "cudnn"
    assert choose_options(CONFIG, gpu).attention == "own"


@pytest.mark.parametrize("scan", [False, True], ids=["layers", "scan"])
def test_cudnn_attention_computes_what_the_own_does(scan: bool) -> None:
    shape = ModelConfig(vocab_size=512, n_positions=256, n_embd=256, n_layer=2, n_head=4)
    narrow = Config(model=shape, train=TrainConfig(dtype="bfloat16"))
    params = init_params(shape, jax.random.key(0))
    batch = jnp.asarray(np.random.default_rng(1).integers(0, 512, (8, 257)), jnp.int32)

    def found(how: ComputeOptions, settings: Config = narrow) -> Any:
        return jax.jit(functools.partial(value_and_gradients, settings, options=how))(
            params, batch, jax.random.key(1)
        )

    exact = found(DEFAULT_OPTIONS, replace(narrow, train=TrainConfig()))
    cudnn, own = found(ComputeOptions(scan, attention="cudnn")), found(ComputeOptions(scan))
    assert float(cudnn[0]) == pytest.approx(float(exact[0]), rel=1e-3)
    # As far from float32 as our own attention in bfloat16 is, or nearer.
    assert relative(cudnn[1], exact[1]) < 1.2 * relative(own[1], exact[1])


def test_the_loss_of_a_large_vocabulary_keeps_no_float32_logits() -> None:
    shape = ModelConfig(
        vocab_size=50257, n_positions=256, n_embd=64, n_layer=1, n_head=1, vocab_multiple=128
    )
    settings = Config(model=shape, train=TrainConfig(batch_size=8, dtype="bfloat16"))
    params = jax.eval_shape(lambda: init_params(shape, jax.random.key(0)))
    windows = jax.ShapeDtypeStruct((8, 257), jnp.int32)
    found = functools.partial(
        value_and_gradients, settings, options=ComputeOptions(attention="cudnn")
    )
    compiled = jax.jit(found).lower(params, windows, jax.random.key(1)).compile()
    entry = re.search(r"^ENTRY .*?^}", compiled.as_text(), re.MULTILINE | re.DOTALL)
    assert entry
    assert re.search(r"bf16\[(8,256|2048),50304\]", entry[0])
    assert not re.search(r"f32\[(8,256|2048),50304\]", entry[0])


def test_texts_are_those_of_the_cpu() -> None:
    def texts(platform: str) -> list[list[int]]:
        with on(platform), jax.default_matmul_precision("highest"):
            params = init_params(CONFIG.model, jax.random.key(0))
            sample = SampleConfig(max_new_tokens=100, seed=5)
            return [row.tolist() for row in stream_tokens(params, CONFIG.model, [499], sample, 20)]

    assert texts("cuda") == texts("cpu")


def test_a_run_takes_the_gpu_and_says_how_well_it_uses_it(small_text: Path, tmp_path: Path) -> None:
    settings = load_config(
        ROOT / "configs" / "tiny.toml", TINY | {"data.path": str(small_text), "train.device": "gpu"}
    )
    console = Console(file=io.StringIO(), width=200)
    finished = run.train(settings, tmp_path / "run", console=console)
    kind = jax.devices("cuda")[0].device_kind
    assert f"gpu ({kind})" in console.file.getvalue()  # type: ignore[attr-defined]
    assert peak_flops(kind, "float32")
    assert all(
        0 < record["train/mfu"] < 1
        for record in read_metrics(finished.directory)
        if "train/mfu" in record
    )
    assert "NVIDIA" in kind
