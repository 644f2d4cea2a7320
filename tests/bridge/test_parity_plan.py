"""`verify` compares all of a small model, and as much of a large one as memory and time allow."""

import pytest

from bridge.parity_plan import ROWS, SMALL, WEIGHT_COPIES, _estimate, plan_comparison
from valyrian_jax.bundle.memory import estimate_memory
from valyrian_jax.config import ModelConfig, load_config


@pytest.mark.parametrize("preset", ["valyrian", "original", "finetune", "tiny", "long", "muon"])
def test_a_small_model_is_compared_in_everything(preset: str) -> None:
    model = load_config(f"configs/{preset}.toml").model
    T = model.n_positions
    assert plan_comparison(model) == (("float32", "float64"), ROWS, T, ROWS, T * 3 // 2, ())


@pytest.mark.parametrize("size", ["124m", "350m", "774m", "1.5b"])
def test_a_large_model_is_compared_within_four_times_its_weights(size: str) -> None:
    model = load_config(f"configs/gpt2-{size}.toml").model
    plan = plan_comparison(model)
    limit = max(SMALL, WEIGHT_COPIES * estimate_memory(model).weights)
    assert plan.dtypes == ("float32",)
    assert _estimate(model, plan.dtypes, plan.rows, plan.length) <= limit
    assert plan.length >= 64
    assert 2 <= plan.texts <= ROWS
    assert plan.new_tokens >= 1
    kinds = [line.partition(" ")[0] for line in plan.left_out]
    assert kinds == ["float64", "stages", "texts"]


def test_a_model_between_them_keeps_float64_with_fewer_windows() -> None:
    plan = plan_comparison(ModelConfig(500, 256, 384, 6, 6))
    assert plan.dtypes == ("float32", "float64")
    assert 1 <= plan.rows < ROWS
    assert plan.length == 256
    assert not any(line.startswith("float64") for line in plan.left_out)
