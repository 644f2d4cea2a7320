"""Compute options change memory and time but not values; a kernel is used only where it works."""

import functools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.tiny import QUICK
from valyrian_jax.config import Config, ModelConfig, TrainConfig, config_to_tree, load_config
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.evaluate import make_eval_step
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import (
    DEFAULT_OPTIONS,
    ComputeOptions,
    choose_options,
    describe_options,
)
from valyrian_jax.model.gpt import forward
from valyrian_jax.model.loss import cross_entropy
from valyrian_jax.model.parameters import Params, init_params
from valyrian_jax.training.checkpoint import CheckpointMetadata
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.resume import check_unchanged, describe_changes
from valyrian_jax.training.train_step import value_and_gradients

MODEL = ModelConfig(vocab_size=300, n_positions=16, n_embd=16, n_layer=2, n_head=2, dropout=0.3)
TIED = replace(MODEL, tie_word_embeddings=True, dropout=0.0)
WINDOWS = jnp.asarray(np.random.default_rng(0).integers(0, 300, (4, 17)), jnp.int32)
SCAN = ComputeOptions(scan_layers=True)
REMAT = ComputeOptions(remat=True)
BOTH = ComputeOptions(scan_layers=True, remat=True)


@functools.cache
def make_params(model: ModelConfig) -> Params:
    return init_params(model, jax.random.key(0))


@functools.cache
def compute(model: ModelConfig, options: ComputeOptions) -> tuple[float, Params, np.ndarray]:
    """Return loss, gradients and logits of one batch."""

    def objective(params: Params, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = forward(params, WINDOWS[:, :-1], model, key, options)
        return cross_entropy(logits, WINDOWS[:, 1:]), logits

    compiled = jax.jit(jax.value_and_grad(objective, has_aux=True), compiler_options=QUICK)
    (loss, logits), gradients = compiled(make_params(model), jax.random.key(1))
    return float(loss), gradients, np.asarray(logits)


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize(
    "model", [pytest.param(MODEL, marks=pytest.mark.slow), TIED], ids=["dropout", "tied"]
)
@pytest.mark.parametrize("options", [SCAN, REMAT, BOTH], ids=["scan", "remat", "both"])
def test_scan_and_remat_change_no_value(options: ComputeOptions, model: ModelConfig) -> None:
    assert_close(compute(model, options), compute(model, DEFAULT_OPTIONS))


def test_attention_equals_the_attention_of_jax() -> None:
    options = ComputeOptions(scan_layers=True, attention="xla")
    assert_close(compute(TIED, options), compute(TIED, DEFAULT_OPTIONS))


@pytest.mark.slow
def test_scan_and_remat_change_no_value_with_accumulation_in_bfloat16() -> None:
    config = Config(model=MODEL, train=TrainConfig(batch_size=4, accumulate=2, dtype="bfloat16"))
    actual, expected = (
        jax.jit(
            functools.partial(value_and_gradients, config, options=options), compiler_options=QUICK
        )(make_params(MODEL), WINDOWS, jax.random.key(1))
        for options in (BOTH, DEFAULT_OPTIONS)
    )
    assert_close(actual, expected, 0.03)


def test_evaluation_with_scanned_layers_gives_the_same_sum() -> None:
    eval_step = make_eval_step(TIED, SCAN)
    (nats,) = eval_step(make_params(TIED), WINDOWS[None], jnp.ones((1, 4, 16), bool))
    assert float(nats) == pytest.approx(4 * 16 * compute(TIED, DEFAULT_OPTIONS)[0], rel=1e-6)


def test_remat_of_scanned_layers_needs_less_memory() -> None:
    config = Config(
        model=ModelConfig(vocab_size=300, n_positions=64, n_embd=32, n_layer=8, n_head=4),
        train=TrainConfig(batch_size=8),
    )
    params = jax.eval_shape(lambda: init_params(config.model, jax.random.key(0)))
    windows = jax.ShapeDtypeStruct((8, 65), jnp.int32)

    def temporary_bytes(options: ComputeOptions) -> int:
        function = functools.partial(value_and_gradients, config, options=options)
        compiled = jax.jit(function).lower(params, windows, jax.random.key(1)).compile(QUICK)
        return int(compiled.memory_analysis().temp_size_in_bytes)

    assert temporary_bytes(BOTH) < 0.4 * temporary_bytes(SCAN)


def lower_forward(options: ComputeOptions) -> str:
    lowered = jax.jit(lambda params: forward(params, WINDOWS[:, 1:], TIED, None, options))
    return lowered.lower(make_params(TIED)).as_text()


def test_remat_recomputes_blocks_without_a_loop_too() -> None:
    def trace_gradients(options: ComputeOptions) -> str:
        gradients = jax.grad(lambda p: forward(p, WINDOWS[:, 1:], TIED, None, options).sum())
        return str(jax.make_jaxpr(gradients)(make_params(TIED)))

    # Every block recomputes its GELU. With remat it recomputes itself too, with a GELU inside.
    counts = [trace_gradients(o).count("prevent_cse=True") for o in (DEFAULT_OPTIONS, REMAT)]
    assert counts == [TIED.n_layer, 3 * TIED.n_layer]


def test_a_mesh_constrains_the_sharding_of_activations() -> None:
    mesh = sharding.single_device_mesh()
    variants = DEFAULT_OPTIONS, ComputeOptions(mesh=mesh), ComputeOptions(True, mesh=mesh)
    counts = [lower_forward(options).count("sharding_constraint") for options in variants]
    # The token table and the embeddings; in each block queries, keys, values and the output.
    assert counts == [0, 2 + 4 * TIED.n_layer, 2 + 4]


def test_the_chosen_kernel_computes_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    attend, kernels = jax.nn.dot_product_attention, []

    def record_kernel(*arrays: jax.Array, implementation: str, **options: Any) -> jax.Array:
        kernels.append(implementation)
        return attend(*arrays, **options)  # the CPU has no cuDNN

    monkeypatch.setattr(jax.nn, "dot_product_attention", record_kernel)
    lower_forward(DEFAULT_OPTIONS)
    assert kernels == []
    lower_forward(ComputeOptions(attention="cudnn"))
    assert kernels == ["cudnn"] * TIED.n_layer


def make_gpu(capability: str = "9.0", version: str = "cuda 13000") -> SimpleNamespace:
    client = SimpleNamespace(platform_version=version)
    return SimpleNamespace(
        platform="gpu", device_kind="A GPU", compute_capability=capability, client=client
    )


CPU = SimpleNamespace(platform="cpu", device_kind="cpu")
USABLE = {"train.dtype": "bfloat16", "model.n_embd": 512, "model.dropout": 0.0}  # head width 128
UNUSABLE = [
    (CPU, {}, "expected an NVIDIA GPU, found cpu (cpu)"),
    (make_gpu(version="rocm 6"), {}, "expected an NVIDIA GPU, found gpu (A GPU)"),
    (make_gpu("7.5"), {}, "expected compute capability 8.0 or later, found 7.5 (A GPU)"),
    (
        make_gpu(),
        {"train.deterministic": True},
        "expected train.deterministic = false, found true",
    ),
    (make_gpu(), {"train.dtype": "float32"}, "expected train.dtype = bfloat16, found float32"),
    (make_gpu(), {"model.dropout": 0.1}, "expected model.dropout = 0, found 0.1"),
    (make_gpu(), {"model.n_embd": 36}, "a multiple of 8 up to 256, found 9"),
    (make_gpu("8.0"), {"model.n_embd": 1024}, "a multiple of 8 up to 128, found 256"),
    (make_gpu("10.3"), {"model.n_embd": 2048}, "a multiple of 8 up to 256, found 512"),
]


@pytest.mark.parametrize(("device", "changes", "reason"), UNUSABLE)
def test_a_kernel_that_cannot_compute_is_not_chosen(
    device: Any, changes: dict[str, Any], reason: str
) -> None:
    config = load_config(overrides=USABLE | changes)
    assert choose_options(config, device).attention == "own"
    required = load_config(overrides=USABLE | changes | {"train.attention": "cudnn"})
    with pytest.raises(UserError) as caught:
        choose_options(required, device)
    assert "cannot use train.attention = cudnn: expected " in str(caught.value)
    assert reason in str(caught.value)
    description = describe_options(config, DEFAULT_OPTIONS, device)
    assert description is None if device is CPU else reason in str(description)


@pytest.mark.parametrize(
    ("device", "changes"),
    [
        (make_gpu("8.0"), {}),
        (make_gpu("9.0"), {"model.n_embd": 1024}),
        (make_gpu("10.0"), {"model.dropout": 0.001}),
    ],
)
def test_cudnn_is_chosen_where_it_can_compute(device: Any, changes: dict[str, Any]) -> None:
    config = load_config(overrides=USABLE | changes)
    assert choose_options(config, device).attention == "cudnn"
    description = describe_options(config, ComputeOptions(attention="cudnn"), device)
    assert description == "attention by cuDNN"


def test_a_run_can_resume_with_other_options_but_not_with_other_padding() -> None:
    def make_metadata(**overrides: Any) -> CheckpointMetadata:
        config = config_to_tree(load_config(overrides=overrides))
        return CheckpointMetadata(0, Progress(), config, "", "", {})

    options = {"train.scan_layers": True, "train.remat": True, "train.attention": "xla"}
    check_unchanged(make_metadata(**options), make_metadata(), Path("run"))
    assert describe_changes(make_metadata(**options), make_metadata()) == []
    padding = make_metadata(**{"model.vocab_multiple": 64})
    with pytest.raises(UserError, match="change model.vocab_multiple .* 1 as in run, found 64"):
        check_unchanged(padding, make_metadata(), Path("run"))


def test_the_configuration_selects_the_options() -> None:
    overrides = {"train.scan_layers": True, "train.remat": True, "train.attention": "xla"}
    config = load_config(overrides=overrides)
    options = choose_options(config, CPU)
    assert options == ComputeOptions(scan_layers=True, remat=True, attention="xla")
    description = describe_options(config, options, CPU)
    assert description == "scanned layers; rematerialised blocks; attention by XLA"
    assert choose_options(load_config(), CPU) == DEFAULT_OPTIONS
    message = "cannot use train.attention = xla: expected model.dropout = 0, found 0.1"
    with pytest.raises(UserError, match=message):
        choose_options(load_config(overrides=overrides | {"model.dropout": 0.1}), CPU)
