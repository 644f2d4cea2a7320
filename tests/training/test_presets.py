"""Every file in configs/ is consistent, and one step of it can be traced, however large it is."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from valyrian_jax.bundle.names import parameter_shapes, unpad_config
from valyrian_jax.config import load_config
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import ComputeOptions
from valyrian_jax.training.devices import flops_per_token
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.train_step import abstract_state, make_train_step

FILES = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
# Parameters, and GFLOP per token by hand: 6 x the parameters without 1,024 positions, + 12 L D T.
GPT2 = {
    "gpt2-124m.toml": (124_439_808, 0.855),
    "gpt2-350m.toml": (354_823_168, 2.425),
    "gpt2-774m.toml": (774_030_080, 5.203),
    "gpt2-1.5b.toml": (1_557_611_200, 10.280),
}


def shapes_and_dtypes(tree: Any) -> Any:
    return jax.tree.map(lambda array: (array.shape, array.dtype), tree)


# The shapes between the smallest and the largest differ from them in numbers only.
MARKS = {
    "gpt2-350m.toml": [pytest.mark.long],
    "gpt2-774m.toml": [pytest.mark.long],
    "gpt2-1.5b.toml": [pytest.mark.slow],
}


@pytest.mark.parametrize(
    "file",
    [pytest.param(file, marks=MARKS.get(file.name, [])) for file in FILES],
    ids=[file.name for file in FILES],
)
def test_a_step_of_every_configuration_can_be_traced(file: Path) -> None:
    config = load_config(file)
    options = ComputeOptions(config.train.scan_layers, config.train.remat)
    optimizer = make_optimizer(config.optim, config.train.steps)
    before = abstract_state(config, optimizer, sharding.single_device_mesh())
    count = config.train.steps_per_dispatch
    shape = (count, config.train.batch_size, config.model.n_positions + 1)
    windows = jax.ShapeDtypeStruct(shape, jnp.int32)
    after, metrics = jax.eval_shape(make_train_step(config, optimizer, options), before, windows)
    assert shapes_and_dtypes(after) == shapes_and_dtypes(before)
    assert shapes_and_dtypes(metrics.loss) == ((count,), jnp.float32)


@pytest.mark.parametrize("name", GPT2)
def test_a_gpt2_shape_has_its_parameters_and_ten_billion_tokens(name: str) -> None:
    (file,) = (file for file in FILES if file.name == name)
    config = load_config(file)
    model, train = config.model, config.train
    parameters, gflops = GPT2[name]
    shapes = parameter_shapes(unpad_config(model)).values()
    assert sum(math.prod(shape) for shape in shapes) == parameters
    assert f"({parameters:,} parameters)" in file.read_text(encoding="utf-8")
    assert parameter_shapes(model)["transformer.wte.weight"] == (50304, model.n_embd)
    assert train.batch_size * model.n_positions == 524_288
    assert 0 <= 10e9 - train.steps * 524_288 < 524_288
    assert flops_per_token(model) / 1e9 == pytest.approx(gflops, abs=1e-3)


def test_every_gpt2_configuration_is_checked() -> None:
    assert {file.name for file in FILES if file.name.startswith("gpt2")} == set(GPT2)
