"""Ways to compute the same model: the same values, for less memory, and a kernel only where it can compute them."""

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
from valyrian_jax.training.resume import check_unchanged
from valyrian_jax.training.train_step import value_and_gradients

MODEL = ModelConfig(vocab_size=300, n_positions=16, n_embd=16, n_layer=2, n_head=2, dropout=0.3)
TIED = replace(MODEL, tie_word_embeddings=True, dropout=0.0)
WINDOWS = jnp.asarray(np.random.default_rng(0).integers(0, 300, (4, 17)), jnp.int32)
SCAN, REMAT, BOTH = (
    ComputeOptions(scan_layers=s, remat=r) for s, r in ((True, False), (False, True), (True, True))
)
Found = tuple[float, Params, np.ndarray]


@functools.cache
def drawn(shape: ModelConfig) -> Params:
    return init_params(shape, jax.random.key(0))


@functools.cache
def measured(shape: ModelConfig, how: ComputeOptions) -> Found:
    """Loss, gradients and logits of one batch."""

    def objective(params: Params, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = forward(params, WINDOWS[:, :-1], shape, key, how)
        return cross_entropy(logits, WINDOWS[:, 1:]), logits

    found = jax.jit(jax.value_and_grad(objective, has_aux=True), compiler_options=QUICK)
    (value, logits), gradients = found(drawn(shape), jax.random.key(1))
    return float(value), gradients, np.asarray(logits)


def assert_same(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("shape", [MODEL, TIED], ids=["dropout", "tied"])
@pytest.mark.parametrize("how", [SCAN, REMAT, BOTH], ids=["scan", "remat", "both"])
def test_every_way_gives_the_same_values(how: ComputeOptions, shape: ModelConfig) -> None:
    assert_same(measured(shape, how), measured(shape, DEFAULT_OPTIONS))


def test_own_attention_is_that_of_jax() -> None:
    """`jax.nn.dot_product_attention` is a second opinion that was written elsewhere."""
    assert_same(
        measured(TIED, ComputeOptions(scan_layers=True, attention="xla")),
        measured(TIED, DEFAULT_OPTIONS),
    )


def test_scan_and_remat_also_in_parts_and_in_bfloat16() -> None:
    settings = Config(model=MODEL, train=TrainConfig(batch_size=4, accumulate=2, dtype="bfloat16"))
    ours, theirs = (
        jax.jit(
            functools.partial(value_and_gradients, settings, options=how), compiler_options=QUICK
        )(drawn(MODEL), WINDOWS, jax.random.key(1))
        for how in (BOTH, DEFAULT_OPTIONS)
    )
    assert_same(ours, theirs, 0.03)


def test_evaluation_in_a_loop_gives_the_same_sum() -> None:
    (found,) = make_eval_step(TIED, SCAN)(drawn(TIED), WINDOWS[None], jnp.ones((1, 4, 16), bool))
    assert float(found) == pytest.approx(4 * 16 * measured(TIED, DEFAULT_OPTIONS)[0], rel=1e-6)


def test_recomputing_the_blocks_of_a_loop_takes_less_memory() -> None:
    settings = Config(
        model=ModelConfig(vocab_size=300, n_positions=64, n_embd=32, n_layer=8, n_head=4),
        train=TrainConfig(batch_size=8),
    )
    params = jax.eval_shape(lambda: init_params(settings.model, jax.random.key(0)))
    windows = jax.ShapeDtypeStruct((8, 65), jnp.int32)

    def temporary(how: ComputeOptions) -> int:
        found = functools.partial(value_and_gradients, settings, options=how)
        compiled = jax.jit(found).lower(params, windows, jax.random.key(1)).compile(QUICK)
        return int(compiled.memory_analysis().temp_size_in_bytes)

    assert temporary(BOTH) < 0.4 * temporary(SCAN)


def traced(how: ComputeOptions) -> str:
    return (
        jax.jit(lambda params: forward(params, WINDOWS[:, 1:], TIED, None, how))
        .lower(drawn(TIED))
        .as_text()
    )


def test_without_a_loop_too_the_blocks_are_recomputed() -> None:
    def gradients(how: ComputeOptions) -> str:
        return str(
            jax.make_jaxpr(jax.grad(lambda p: forward(p, WINDOWS[:, 1:], TIED, None, how).sum()))(
                drawn(TIED)
            )
        )

    # In every block its GELU; with remat also the block, whose recomputation has a GELU again.
    counts = [gradients(how).count("prevent_cse=True") for how in (DEFAULT_OPTIONS, REMAT)]
    assert counts == [TIED.n_layer, 3 * TIED.n_layer]


def test_activations_lie_where_they_shall() -> None:
    mesh = sharding.single_device_mesh()
    counts = [
        traced(how).count("sharding_constraint")
        for how in (
            DEFAULT_OPTIONS,
            ComputeOptions(mesh=mesh),
            ComputeOptions(scan_layers=True, mesh=mesh),
        )
    ]
    # In a block queries, keys, values and what leaves it; before them the table, and what is looked up in it.
    assert counts == [0, 2 + 4 * TIED.n_layer, 2 + 4]


def test_the_kernel_is_the_chosen_one(monkeypatch: pytest.MonkeyPatch) -> None:
    attend, seen = jax.nn.dot_product_attention, []

    def recording(*arrays: jax.Array, implementation: str, **how: Any) -> jax.Array:
        seen.append(implementation)
        return attend(*arrays, **how)  # the CPU has no cuDNN

    monkeypatch.setattr(jax.nn, "dot_product_attention", recording)
    traced(DEFAULT_OPTIONS)
    assert seen == []
    traced(ComputeOptions(attention="cudnn"))
    assert seen == ["cudnn"] * TIED.n_layer


def gpu(capability: str = "9.0", version: str = "cuda 13000") -> SimpleNamespace:
    client = SimpleNamespace(platform_version=version)
    return SimpleNamespace(
        platform="gpu", device_kind="A GPU", compute_capability=capability, client=client
    )


CPU = SimpleNamespace(platform="cpu", device_kind="cpu")
GOOD = {"train.dtype": "bfloat16", "model.n_embd": 512, "model.dropout": 0.0}  # heads 128 wide
UNUSABLE = [
    (CPU, {}, "cuDNN needs an NVIDIA GPU, and this is cpu (cpu)"),
    (gpu(version="rocm 6"), {}, "cuDNN needs an NVIDIA GPU, and this is gpu (A GPU)"),
    (gpu("7.5"), {}, "needs compute capability 8.0, and A GPU has 7.5"),
    (
        gpu(),
        {"train.deterministic": True},
        "XLA cannot run cuDNN's kernel with train.deterministic",
    ),
    (gpu(), {"train.dtype": "float32"}, "needs train.dtype bfloat16, and this is float32"),
    (gpu(), {"model.dropout": 0.1}, "drops no attention weights, and model.dropout is 0.1"),
    (gpu(), {"model.n_embd": 36}, "a multiple of 8 up to 256, and this is 9"),
    (gpu("8.0"), {"model.n_embd": 1024}, "a multiple of 8 up to 128, and this is 256"),
    (gpu("10.3"), {"model.n_embd": 2048}, "a multiple of 8 up to 256, and this is 512"),
]


@pytest.mark.parametrize(("device", "changes", "reason"), UNUSABLE)
def test_a_kernel_that_cannot_compute_is_not_taken(
    device: Any, changes: dict[str, Any], reason: str
) -> None:
    settings = load_config(overrides=GOOD | changes)
    assert choose_options(settings, device).attention == "own"
    with pytest.raises(UserError) as caught:
        choose_options(load_config(overrides=GOOD | changes | {"train.attention": "cudnn"}), device)
    assert "train.attention = cudnn, but " in str(caught.value)
    assert reason in str(caught.value)
    note = describe_options(settings, DEFAULT_OPTIONS, device)
    assert note is None if device is CPU else reason in str(note)


@pytest.mark.parametrize(
    ("device", "changes"),
    [
        (gpu("8.0"), {}),
        (gpu("9.0"), {"model.n_embd": 1024}),
        (gpu("10.0"), {"model.dropout": 0.001}),
    ],
)
def test_cudnn_is_taken_where_it_can_compute(device: Any, changes: dict[str, Any]) -> None:
    settings = load_config(overrides=GOOD | changes)
    assert choose_options(settings, device).attention == "cudnn"
    assert (
        describe_options(settings, ComputeOptions(attention="cudnn"), device)
        == "attention by cuDNN"
    )


def test_a_run_may_go_on_in_another_way_but_not_with_another_padding() -> None:
    def record(**changes: Any) -> CheckpointMetadata:
        return CheckpointMetadata(
            0, Progress(), config_to_tree(load_config(overrides=changes)), "", "", {}
        )

    other = record(**{"train.scan_layers": True, "train.remat": True, "train.attention": "xla"})
    assert check_unchanged(other, record(), Path("run")) == []
    with pytest.raises(UserError, match="model.vocab_multiple was 1 in run so far and would be 64"):
        check_unchanged(record(**{"model.vocab_multiple": 64}), record(), Path("run"))


def test_choices_are_those_of_the_configuration() -> None:
    settings = {"train.scan_layers": True, "train.remat": True, "train.attention": "xla"}
    how = choose_options(load_config(overrides=settings), CPU)
    assert how == ComputeOptions(scan_layers=True, remat=True, attention="xla")
    said = describe_options(load_config(overrides=settings), how, CPU)
    assert said == "the layers in a loop; the blocks once more for the gradient; attention by XLA"
    assert choose_options(load_config(), CPU) == DEFAULT_OPTIONS
    with pytest.raises(
        UserError, match="train.attention = xla, but its kernel drops no attention weights"
    ):
        choose_options(load_config(overrides=settings | {"model.dropout": 0.1}), CPU)
