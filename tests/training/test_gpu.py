"""Training on a GPU computes what the CPU of the same machine computes.

Run with: pytest --gpu -n0 tests/training/test_gpu.py
"""

import functools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.runs import load_tiny_config, make_text_console, read_console
from valyrian_jax.config import (
    Config,
    MeshConfig,
    ModelConfig,
    SampleConfig,
    TrainConfig,
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
CONFIG = Config(model=ModelConfig(n_layer=2))
WINDOWS = np.random.default_rng(0).integers(0, 500, (10, 16, 65)).astype(np.int32)


def default_device(platform: str) -> Any:
    return jax.default_device(jax.devices(platform)[0])


def relative_error(actual: Any, expected: Any) -> float:
    """Return the distance of two trees of arrays, divided by the norm of the second."""
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    squares = [
        (np.sum(np.square(np.subtract(a, b, dtype=np.float64))), np.sum(np.square(b)))
        for a, b in pairs
    ]
    return float(np.sqrt(sum(a for a, _ in squares) / sum(b for _, b in squares)))


@functools.cache
def compute_gradients(platform: str, precision: str) -> Any:
    """Return loss and gradients of the default model on one batch, as NumPy arrays."""
    with default_device(platform), jax.default_matmul_precision(precision):
        params = init_params(CONFIG.model, jax.random.key(0))
        compute = jax.jit(functools.partial(value_and_gradients, CONFIG))
        return jax.tree.map(np.asarray, compute(params, WINDOWS[0], jax.random.key(1)))


def test_loss_and_gradients_are_those_of_the_cpu() -> None:
    expected = compute_gradients("cpu", "highest")
    exact, default = compute_gradients("cuda", "highest"), compute_gradients("cuda", "default")
    assert exact[0] == pytest.approx(expected[0], rel=1e-6)
    assert relative_error(exact[1], expected[1]) < 1e-5
    assert default[0] == pytest.approx(expected[0], rel=1e-4)
    assert relative_error(default[1], expected[1]) < 2e-3  # TF32 has 10 bits.


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


def test_auto_uses_cudnn_attention_for_bfloat16_only() -> None:
    gpu = select_device("gpu")
    narrow = replace(CONFIG, train=TrainConfig(dtype="bfloat16"))
    assert choose_options(narrow, gpu).attention == "cudnn"
    assert choose_options(CONFIG, gpu).attention == "own"


@pytest.mark.parametrize("scan", [False, True], ids=["layers", "scan"])
def test_cudnn_attention_is_as_exact_as_our_own(scan: bool) -> None:
    shape = ModelConfig(vocab_size=512, n_positions=256, n_embd=256, n_layer=2, n_head=4)
    narrow = Config(model=shape, train=TrainConfig(dtype="bfloat16"))
    params = init_params(shape, jax.random.key(0))
    batch = jnp.asarray(np.random.default_rng(1).integers(0, 512, (8, 257)), jnp.int32)

    def compute(options: ComputeOptions, config: Config = narrow) -> Any:
        return jax.jit(functools.partial(value_and_gradients, config, options=options))(
            params, batch, jax.random.key(1)
        )

    exact = compute(DEFAULT_OPTIONS, replace(narrow, train=TrainConfig()))
    cudnn, own = compute(ComputeOptions(scan, attention="cudnn")), compute(ComputeOptions(scan))
    assert float(cudnn[0]) == pytest.approx(float(exact[0]), rel=1e-3)
    # Both compute in bfloat16; `exact` computes in float32.
    assert relative_error(cudnn[1], exact[1]) < 1.2 * relative_error(own[1], exact[1])


def test_the_loss_of_a_large_vocabulary_keeps_no_float32_logits() -> None:
    shape = ModelConfig(
        vocab_size=50257, n_positions=256, n_embd=64, n_layer=1, n_head=1, vocab_multiple=128
    )
    config = Config(model=shape, train=TrainConfig(batch_size=8, dtype="bfloat16"))
    params = jax.eval_shape(lambda: init_params(shape, jax.random.key(0)))
    windows = jax.ShapeDtypeStruct((8, 257), jnp.int32)
    options = ComputeOptions(attention="cudnn")
    compute = jax.jit(functools.partial(value_and_gradients, config, options=options))
    compiled = compute.lower(params, windows, jax.random.key(1)).compile()
    entry = re.search(r"^ENTRY .*?^}", compiled.as_text(), re.MULTILINE | re.DOTALL)
    assert entry
    assert re.search(r"bf16\[(8,256|2048),50304\]", entry[0])
    assert not re.search(r"f32\[(8,256|2048),50304\]", entry[0])


def test_texts_are_those_of_the_cpu() -> None:
    def texts(platform: str) -> list[list[int]]:
        with default_device(platform), jax.default_matmul_precision("highest"):
            params = init_params(CONFIG.model, jax.random.key(0))
            sample = SampleConfig(max_new_tokens=100, seed=5)
            return [
                row.tolist()
                for row in stream_tokens(params, CONFIG.model, [[499]] * 20, range(5, 25), sample)
            ]

    assert texts("cuda") == texts("cpu")


def test_a_run_uses_the_gpu_and_logs_its_mfu(small_text: Path, tmp_path: Path) -> None:
    config = load_tiny_config(small_text, **{"train.device": "gpu"})
    console = make_text_console()
    directory = run.train(config, tmp_path / "run", console=console).directory
    kind = jax.devices("cuda")[0].device_kind
    assert "NVIDIA" in kind
    assert f"gpu ({kind})" in read_console(console)
    assert peak_flops(kind, "float32")
    shares = [record["train/mfu"] for record in read_metrics(directory) if "train/mfu" in record]
    assert all(0 < share < 1 for share in shares)
