"""FLOP per token against sums by hand, and the peaks of devices."""

import dataclasses

import pytest

from valyrian_jax.config import ModelConfig
from valyrian_jax.training.console import _describe_speed
from valyrian_jax.training.devices import _PEAKS, flops_per_token, peak_flops

SMALL = ModelConfig(vocab_size=300, n_positions=8, n_embd=16, n_layer=1, n_head=2)
GPT2 = ModelConfig(50257, 1024, 768, 12, 12, tie_word_embeddings=True)


def test_flops_per_token_equal_the_sum_by_hand() -> None:
    block = 2 * 16 + 16 * 48 + 48 + 16 * 16 + 16 + 2 * 16 + 16 * 64 + 64 + 64 * 16 + 16
    head, norm, attention = 300 * 16, 2 * 16, 12 * 1 * 16 * 8
    assert flops_per_token(SMALL) == 6 * (block + norm + head) + attention


def test_gpt2_takes_855_mflop_per_token() -> None:
    # 124,439,808 parameters, of which 786,432 are positions.
    assert flops_per_token(GPT2) == 6 * 123_653_376 + 12 * 12 * 768 * 1024 == 855_166_464


@pytest.mark.parametrize("changes", [{"tie_word_embeddings": False}, {"vocab_multiple": 128}])
def test_a_lookup_table_and_padding_cost_nothing(changes: dict[str, int]) -> None:
    assert flops_per_token(dataclasses.replace(GPT2, **changes)) == flops_per_token(GPT2)


@pytest.mark.parametrize(
    ("kind", "dtype", "devices", "expected"),
    [
        ("NVIDIA A100-SXM4-40GB", "bfloat16", 1, 312e12),
        ("NVIDIA A100-SXM4-40GB", "float32", 8, 8 * 156e12),
        ("NVIDIA H100 80GB HBM3", "bfloat16", 8, 8 * 989e12),
        ("NVIDIA H200", "bfloat16", 1, 989e12),
        ("Tesla T4", "float32", 1, 8.1e12),
        ("Tesla T4", "bfloat16", 1, None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bfloat16", 1, None),
        ("NVIDIA A10G", "bfloat16", 1, None),
        ("cpu", "float32", 1, None),
    ],
)
def test_the_peak_is_that_of_the_data_sheet(
    kind: str, dtype: str, devices: int, expected: float | None
) -> None:
    assert peak_flops(kind, dtype, devices) == expected


def test_the_bfloat16_peak_is_twice_the_float32_peak() -> None:
    for kind, peaks in _PEAKS.items():
        assert peaks.float32, kind
        if peaks.bfloat16 is not None:
            assert peaks.bfloat16 == pytest.approx(2 * peaks.float32, rel=0.02), kind


def test_the_progress_bar_shows_the_mfu_if_it_is_known() -> None:
    values = {"train/tokens_per_second": 182_412.3}
    assert _describe_speed(values) == "182,412 tokens/s"
    assert _describe_speed(values | {"train/mfu": 0.4999}) == "182,412 tokens/s, 50% MFU"
