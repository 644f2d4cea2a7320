"""Meshes: eight devices compute the same as one, hold shards, and resume from other meshes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.support.runs import OPTIMIZERS
from valyrian_jax.bundle.names import axis_sizes, parameter_axes
from valyrian_jax.config import Config, MeshConfig, ModelConfig, load_config
from valyrian_jax.errors import UserError
from valyrian_jax.model import sharding
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.train_step import abstract_state

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "tests.support.eight_devices",
        str(tmp_path_factory.mktemp("eight")),
    ]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    # XLA warns where it replicates an array to change its sharding.
    assert "Involuntary full rematerialization" not in process.stderr
    return json.loads(process.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["8x1x1", "1x8x1", "2x2x2", "8 to 1", "8 to 8 others"])
def test_every_mesh_gives_the_same_losses(eight: dict[str, Any], mesh: str) -> None:
    """This includes a resume from a checkpoint of another mesh."""
    expected = eight["losses"]["1x1x1"]
    assert expected[-1] < expected[0] - 1
    np.testing.assert_allclose(eight["losses"][mesh], expected, rtol=0, atol=1e-5)


def test_accumulation_scan_and_remat_give_the_same_losses_on_a_mesh(eight: dict[str, Any]) -> None:
    """The optimizer is Muon, which needs whole matrices."""
    losses = eight["losses"]
    np.testing.assert_allclose(losses["lean"], losses["plain"], rtol=0, atol=1e-5)


def test_every_mesh_gives_the_same_evaluation(eight: dict[str, Any]) -> None:
    for results in (eight["held_out"], eight["norm"]):
        np.testing.assert_allclose(list(results.values()), results["1x1x1"], rtol=1e-6)


def test_fsdp_divides_parameters_and_optimizer_state(eight: dict[str, Any]) -> None:
    sizes = eight["bytes"]
    assert sizes["8x1x1"] == sizes["1x1x1"]
    # Counters and some biases are replicated.
    assert 1 / 8 <= sizes["1x8x1"] / sizes["1x1x1"] < 1.06 / 8
    # Matrices are sharded over fsdp and tensor, vectors over one of them.
    assert 1 / 4 <= sizes["2x2x2"] / sizes["1x1x1"] < 1.06 / 4


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_state_has_the_sharding_of_its_parameter(name: str) -> None:
    config = load_config(None, {"optim.name": name})
    mesh = sharding.single_device_mesh()
    state = abstract_state(config, make_optimizer(config.optim, 10), mesh)
    shardings = sharding.parameter_shardings(config, mesh)
    leaves = jax.tree_util.tree_flatten_with_path(state.opt_state)[0]
    arrays = [(jax.tree_util.keystr(path), array) for path, array in leaves if array.ndim]
    assert len(arrays) >= len(shardings)
    for path, array in arrays:
        keys = ".".join(re.findall(r"\['(\w+)'\]", path))
        parameter = re.search(r"(transformer|lm_head).*", keys)
        assert parameter, path
        assert array.sharding.spec == shardings[parameter[0]].spec


def test_every_axis_of_the_name_table_has_a_size() -> None:
    sizes = axis_sizes(ModelConfig())
    used = {axis for axes in parameter_axes(ModelConfig()).values() for axis in axes}
    assert used == sizes.keys()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            (4, 1, 1),
            "of 1, found mesh.data = 4, mesh.fsdp = 1, mesh.tensor = 1; set one of them to -1",
        ),
        (
            (-1, 2, 1),
            "does not fit .* that divides 1, found .* mesh.fsdp = 2, .* change the others",
        ),
    ],
)
def test_a_mesh_for_another_number_of_devices_is_refused(
    sizes: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        sharding.make_mesh(MeshConfig(*sizes), jax.devices())


@pytest.mark.parametrize(
    ("settings", "sizes", "message"),
    [
        (
            {"train.batch_size": 12},
            (4, 2, 1),
            "train.batch_size / train.accumulate: .* mesh.data x mesh.fsdp = 8, found 12",
        ),
        ({"train.batch_size": 16, "train.accumulate": 4}, (8, 1, 1), "found 4; change"),
        (
            {"model.n_embd": 36},
            (1, 8, 1),
            "cannot shard model.n_embd: expected a multiple of mesh.fsdp = 8, found 36",
        ),
        ({"model.n_head": 2}, (1, 1, 4), "model.n_head: .* mesh.tensor = 4, found 2"),
    ],
)
def test_a_size_that_the_mesh_does_not_divide_is_refused(
    settings: dict[str, Any], sizes: tuple[int, int, int], message: str
) -> None:
    mesh = jax.sharding.AbstractMesh(sizes, ("data", "fsdp", "tensor"))
    with pytest.raises(UserError, match=message):
        sharding.check_divisible(load_config(None, settings), mesh.shape)


def test_a_run_that_the_mesh_does_not_divide_is_refused(small_text: Path, tmp_path: Path) -> None:
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    command = [
        sys.executable,
        "train.py",
        "--config",
        "configs/tiny.toml",
        "--data.path",
        str(small_text),
    ]
    command += ["--out", str(tmp_path / "run"), "--train.batch_size", "3"]
    process = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True
    )
    assert process.returncode == 2
    assert "cannot shard train.batch_size / train.accumulate" in process.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("sizes", [(-1, -1, 1), (0, 1, 1), (-2, 1, 1)])
def test_an_impossible_mesh_is_refused_by_the_configuration(sizes: tuple[int, int, int]) -> None:
    overrides = {
        f"mesh.{name}": size for name, size in zip(("data", "fsdp", "tensor"), sizes, strict=True)
    }
    with pytest.raises(UserError, match="mesh.data"):
        load_config(None, overrides)


def test_a_vocabulary_that_the_mesh_does_not_divide_is_replicated() -> None:
    mesh = jax.sharding.AbstractMesh((1, 1, 4), ("data", "fsdp", "tensor"))
    for size, mesh_axis in ((501, None), (500, "tensor")):
        config = load_config(None, {"model.vocab_size": size})
        shardings = sharding.parameter_shardings(config, mesh)  # type: ignore[arg-type]
        assert shardings["lm_head.weight"].spec[0] == mesh_axis


def test_the_default_mesh_is_one_device() -> None:
    assert sharding.make_mesh(Config().mesh, jax.devices()).shape == {
        "data": 1,
        "fsdp": 1,
        "tensor": 1,
    }
