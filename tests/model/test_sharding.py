"""Meshes: eight devices compute what one computes, hold an eighth each, and go on with what others have saved."""

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
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (
        "Involuntary full rematerialization" not in done.stderr
    )  # XLA found a good way for every array
    return json.loads(done.stdout)


@pytest.mark.parametrize("mesh", ["8x1x1", "1x8x1", "2x2x2", "8 to 1", "8 to 8 others"])
def test_every_mesh_trains_alike(eight: dict[str, Any], mesh: str) -> None:
    """Also what goes on from a checkpoint of another mesh."""
    expected = eight["losses"]["1x1x1"]
    assert expected[-1] < expected[0] - 1
    np.testing.assert_allclose(eight["losses"][mesh], expected, rtol=0, atol=1e-5)


def test_parts_and_layers_in_a_loop_train_alike_on_a_mesh(eight: dict[str, Any]) -> None:
    """With Muon, whose update is made of whole matrices."""
    losses = eight["losses"]
    np.testing.assert_allclose(losses["lean"], losses["plain"], rtol=0, atol=1e-5)


def test_every_mesh_evaluates_alike(eight: dict[str, Any]) -> None:
    for found in (eight["held_out"], eight["norm"]):
        np.testing.assert_allclose(list(found.values()), found["1x1x1"], rtol=1e-6)


def test_fsdp_divides_parameters_and_optimizer_state(eight: dict[str, Any]) -> None:
    held = eight["bytes"]
    assert held["8x1x1"] == held["1x1x1"]
    assert (
        1 / 8 <= held["1x8x1"] / held["1x1x1"] < 1.06 / 8
    )  # but for counters and the biases of what is wider
    assert (
        1 / 4 <= held["2x2x2"] / held["1x1x1"] < 1.06 / 4
    )  # matrices along fsdp and tensor, the rest along one


@pytest.mark.parametrize("name", ["adamw", "adam_l2", "muon"])
def test_what_an_optimizer_keeps_lies_with_its_parameter(name: str) -> None:
    settings = load_config(None, {"optim.name": name})
    mesh = sharding.single_device_mesh()
    like = abstract_state(settings, make_optimizer(settings.optim, 10), mesh)
    places = sharding.parameter_shardings(settings, mesh)
    leaves = jax.tree_util.tree_flatten_with_path(like.opt_state)[0]
    matrices = [(jax.tree_util.keystr(path), array) for path, array in leaves if array.ndim]
    assert len(matrices) >= 2 * len(places) if name != "muon" else len(places)
    for path, array in matrices:
        parameter = re.search(
            r"(transformer|lm_head).*", ".".join(re.findall(r"\['(\w+)'\]", path))
        )
        expected = (
            places[parameter[0]] if parameter else sharding.named_sharding(mesh)
        )  # Muon has three coefficients
        assert array.sharding.spec == expected.spec


def test_every_axis_of_the_name_table_is_known() -> None:
    sizes = axis_sizes(ModelConfig())
    used = {axis for axes in parameter_axes(ModelConfig()).values() for axis in axes}
    assert used == sizes.keys()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            (4, 1, 1),
            r"mesh.data = 4, mesh.fsdp = 1, mesh.tensor = 1 does not fit 1 device: .* let one of them be -1",
        ),
        (
            (-1, 2, 1),
            "mesh.fsdp = 2, .* does not fit 1 device: the product must be their number; the rest must divide it",
        ),
    ],
)
def test_a_mesh_of_another_number_of_devices_is_refused(
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
            r"batch_size / train.accumulate = 12 cannot .* mesh.data x mesh.fsdp = 8",
        ),
        ({"train.batch_size": 16, "train.accumulate": 4}, (8, 1, 1), "= 4 cannot be cut"),
        (
            {"model.n_embd": 36},
            (1, 8, 1),
            "model.n_embd = 36 cannot be cut into mesh.fsdp = 8 equal parts",
        ),
        ({"model.n_head": 2}, (1, 1, 4), "model.n_head = 2 cannot be cut into mesh.tensor = 4"),
    ],
)
def test_what_cannot_be_cut_evenly_is_refused(
    settings: dict[str, Any], sizes: tuple[int, int, int], message: str
) -> None:
    mesh = jax.sharding.AbstractMesh(sizes, ("data", "fsdp", "tensor"))
    with pytest.raises(UserError, match=message):
        sharding.check_divisible(load_config(None, settings), mesh)  # type: ignore[arg-type]


def test_a_run_that_cannot_be_cut_does_not_begin(small_text: Path, tmp_path: Path) -> None:
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
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "batch_size / train.accumulate = 3 cannot be cut" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("sizes", [(-1, -1, 1), (0, 1, 1), (-2, 1, 1)])
def test_an_impossible_mesh_is_refused_by_the_configuration(sizes: tuple[int, int, int]) -> None:
    asked = {
        f"mesh.{name}": size for name, size in zip(("data", "fsdp", "tensor"), sizes, strict=True)
    }
    with pytest.raises(UserError, match="mesh.data"):
        load_config(None, asked)


def test_a_vocabulary_that_does_not_divide_stays_whole() -> None:
    mesh = jax.sharding.AbstractMesh((1, 1, 4), ("data", "fsdp", "tensor"))
    odd, even = (
        sharding.parameter_shardings(load_config(None, {"model.vocab_size": size}), mesh)[
            "lm_head.weight"
        ].spec  # type: ignore[arg-type]
        for size in (501, 500)
    )
    assert (odd[0], even[0]) == (None, "tensor")


def test_one_device_is_the_default() -> None:
    assert sharding.make_mesh(Config().mesh, jax.devices()).shape == {
        "data": 1,
        "fsdp": 1,
        "tensor": 1,
    }
