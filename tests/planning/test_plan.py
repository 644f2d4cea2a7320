"""A plan agrees with XLA's own analysis of compiled steps, and its arithmetic with sums by hand."""

import functools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from tests.support.planned_steps import STEPS, load_step
from valyrian_jax.bundle.memory import estimate_memory
from valyrian_jax.bundle.names import count_parameters
from valyrian_jax.config import MeshConfig, load_config
from valyrian_jax.errors import UserError
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import ComputeOptions
from valyrian_jax.planning.cards import CARDS, find_card
from valyrian_jax.planning.communication import count_collectives, count_traffic, estimate_seconds
from valyrian_jax.planning.plan import Hardware, computed_flops, make_plan, recommend_layout
from valyrian_jax.training.devices import peak_flops
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.train_step import abstract_state, value_and_gradients

ROOT = Path(__file__).parents[2]
GPT2, LARGE = (load_config(f"configs/gpt2-{name}.toml") for name in ("124m", "1.5b"))
H100 = find_card("H100")


@pytest.fixture(scope="module")
def analysis() -> dict[str, dict[str, int]]:
    command = [sys.executable, "-m", "tests.support.planned_steps"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_memory_is_within_15_percent_of_xla(analysis: dict[str, dict[str, int]], name: str) -> None:
    config, mesh = load_step(name)
    estimate = estimate_memory(config.model, config.train, mesh=mesh)
    assert estimate.training == pytest.approx(analysis[name]["memory"], rel=0.15)


# tests/bench/README.md: GB of temporary memory per device on eight devices, in float32, with a loop
# over the layers and two windows at a time; with remat from 774m on.
TEMPORARY = {
    "124m": {(8, 1, 1): 6.48, (1, 8, 1): 5.60, (4, 2, 1): 5.98, (1, 2, 4): 1.99},
    "350m": {(8, 1, 1): 15.63, (1, 8, 1): 12.80, (4, 2, 1): 13.88, (1, 2, 4): 4.69},
    "774m": {(8, 1, 1): 12.39, (1, 8, 1): 3.14, (4, 2, 1): 6.20, (1, 2, 4): 1.80},
    "1.5b": {(8, 1, 1): 24.92, (1, 8, 1): 4.69, (4, 2, 1): 12.47},
}


@pytest.mark.parametrize(
    ("name", "sizes"), [(name, sizes) for name, row in TEMPORARY.items() for sizes in row]
)
def test_memory_of_the_presets_is_within_15_percent_of_xla(
    name: str, sizes: tuple[int, int, int]
) -> None:
    config, mesh = load_config(f"configs/gpt2-{name}.toml"), MeshConfig(*sizes)
    train = replace(
        config.train,
        accumulate=512 // (2 * mesh.data * mesh.fsdp),
        scan_layers=True,
        remat=name in ("774m", "1.5b"),
        dtype="float32",
    )
    estimate = estimate_memory(config.model, train, mesh=mesh)
    measured = TEMPORARY[name][sizes] * 1e9 + estimate.weights + estimate.optimizer
    assert estimate.training == pytest.approx(measured, rel=0.15)


def test_collectives_are_those_of_the_compiled_step(analysis: dict[str, dict[str, int]]) -> None:
    def compare(name: str, kind: str, expected: int, rel: float) -> None:
        assert analysis[name][kind] == pytest.approx(expected, rel=rel)

    counted = {name: count_collectives(*load_step(name)) for name in STEPS}
    compare("data", "all-reduce", counted["data"].gradients, 0.02)
    compare("fsdp", "all-reduce", counted["fsdp"].gradients, 0.02)
    compare("fsdp", "all-gather", counted["fsdp"].weights, 0.02)
    tensor = counted["tensor"].activations + counted["tensor"].gradients
    compare("tensor", "all-reduce", tensor, 0.1)
    # The microbatches are a loop, whose collectives the analysis counts once.
    compare("accumulate", "all-reduce", counted["accumulate"].gradients // 2, 0.02)


@pytest.mark.parametrize("remat", [False, True])
def test_operations_are_within_5_percent_of_xla(remat: bool) -> None:
    shape: dict[str, Any] = {
        "model.n_positions": 256,
        "model.n_embd": 512,
        "model.n_layer": 2,
        "model.vocab_size": 4096,
        "train.batch_size": 2,
        "train.remat": remat,
    }
    config = load_config(None, shape)
    optimizer = make_optimizer(config.optim, config.train.steps)
    params = abstract_state(config, optimizer, sharding.single_device_mesh()).params
    batch = jax.ShapeDtypeStruct((2, 257), jnp.int32)
    compute = functools.partial(value_and_gradients, config, options=ComputeOptions(remat=remat))
    key = jax.eval_shape(lambda: jax.random.key(0))
    operations = jax.jit(compute).lower(params, batch, key).cost_analysis()["flops"]
    assert computed_flops(config) * 2 * 256 == pytest.approx(operations, rel=0.05)


def test_the_plan_of_gpt2_is_the_sum_by_hand() -> None:
    plan = make_plan(GPT2, Hardware(H100, devices=8, mfu=0.5, disk=2.0))
    assert plan.parameters == 124_439_808
    assert plan.tokens == 19_073 * 512 * 1024
    seconds = 512 * 1024 * 855_166_464 / (0.5 * 8 * 989e12)
    assert plan.layout.compute_seconds == pytest.approx(seconds)
    padded = count_parameters(GPT2.model)
    assert padded > plan.parameters
    # bfloat16, 16 microbatches, and two gradients of the token table; a ring sends 2 x 7/8.
    sent = 2 * 7 / 8 * 2 * 16 * (padded + 50_304 * 768)
    assert plan.layout.traffic == (pytest.approx(sent), 0, 0)
    assert plan.layout.network_seconds == pytest.approx(sent / 450e9)
    assert plan.hours == pytest.approx(19_073 * plan.layout.seconds / 3600)
    assert plan.tokens_per_second == pytest.approx(512 * 1024 / plan.layout.seconds)
    assert (plan.checkpoint_bytes, plan.checkpoints) == (12 * padded, 40)
    assert plan.checkpoint_seconds == 12 * padded / 2e9
    assert plan.fits
    assert plan.with_remat.memory.training < plan.layout.memory.training
    assert plan.with_remat.compute_seconds > plan.layout.compute_seconds


def test_one_device_sends_nothing() -> None:
    assert sum(count_traffic(GPT2, MeshConfig(1, 1, 1))) == 0


def test_axes_that_span_machines_use_the_network_between_them() -> None:
    inside, across = MeshConfig(1, 8, 1), MeshConfig(2, 8, 1)
    config = replace(GPT2, train=replace(GPT2.train, accumulate=1))
    traffic = count_traffic(config, across)
    assert estimate_seconds(traffic, across, H100, 50) == pytest.approx(
        traffic.fsdp / 450e9 + traffic.data / 50e9
    )
    assert estimate_seconds(count_traffic(config, inside), inside, H100, 1e-9) < 1


def test_the_recommended_layout_fits_and_is_the_simplest_of_the_fastest() -> None:
    hardware = Hardware(H100, devices=8)
    best = recommend_layout(GPT2, hardware)
    assert best
    assert (best.mesh, best.remat) == (MeshConfig(8, 1, 1), False)
    assert best.accumulate < GPT2.train.accumulate
    assert best.seconds < make_plan(GPT2, hardware).layout.seconds
    small = recommend_layout(LARGE, Hardware(find_card("a10"), devices=8))
    assert small
    assert small.mesh.fsdp * small.mesh.tensor > 1  # 24.9 GB of state do not fit into 18
    assert small.memory.training <= find_card("a10").usable_bytes


def test_what_fits_nowhere_is_said() -> None:
    plan = make_plan(LARGE, Hardware(find_card("a10"), devices=1))
    assert not plan.fits
    assert plan.recommended is None


def test_every_card_has_a_peak() -> None:
    for card in CARDS.values():
        assert peak_flops(card.kind, "float32"), card.kind


def test_a_card_without_bfloat16_is_refused() -> None:
    with pytest.raises(UserError, match="Tesla T4 has no fast bfloat16: .* --train.dtype float32"):
        make_plan(GPT2, Hardware(find_card("t4")))


def test_an_unknown_card_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no device 'h10': expected one of .* did you mean h100"):
        find_card("h10")
