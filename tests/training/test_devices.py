"""Arithmetic a token costs, against sums by hand, and how well a device is used."""

import dataclasses

import pytest

from valyrian_jax.config import ModelConfig
from valyrian_jax.training.console import _describe_speed
from valyrian_jax.training.devices import _PEAKS, flops_per_token, peak_flops

SMALL = ModelConfig(vocab_size=300, n_positions=8, n_embd=16, n_layer=1, n_head=2)
GPT2 = ModelConfig(50257, 1024, 768, 12, 12, tie_word_embeddings=True)


def test_operations_a_token_by_hand() -> None:
    block = 2 * 16 + 16 * 48 + 48 + 16 * 16 + 16 + 2 * 16 + 16 * 64 + 64 + 64 * 16 + 16
    head, norm, attention = 300 * 16, 2 * 16, 12 * 1 * 16 * 8
    assert flops_per_token(SMALL) == 6 * (block + norm + head) + attention


def test_gpt2_takes_855_million_operations_a_token() -> None:
    # 124,439,808 parameters, 786,432 of them positions
    assert flops_per_token(GPT2) == 6 * 123_653_376 + 12 * 12 * 768 * 1024 == 855_166_464


def test_a_tied_table_counts_once_as_a_separate_head_does_and_padding_not_at_all() -> None:
    for changes in ({"tie_word_embeddings": False}, {"vocab_multiple": 128}):
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
def test_what_a_device_can_do(kind: str, dtype: str, devices: int, expected: float | None) -> None:
    assert peak_flops(kind, dtype, devices) == expected


def test_float32_is_never_faster_than_bfloat16() -> None:
    for kind, known in _PEAKS.items():
        assert known.float32, kind
        assert known.bfloat16 is None or known.bfloat16 == pytest.approx(
            2 * known.float32, rel=0.02
        ), kind


def test_the_progress_line_says_it_where_it_is_known() -> None:
    values = {"train/tokens_per_second": 182_412.3}
    assert _describe_speed(values) == "182,412 tokens/s"
    assert _describe_speed(values | {"train/mfu": 0.4999}) == "182,412 tokens/s, 50% MFU"
