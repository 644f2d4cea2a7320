"""The cost model of larger runs equals arithmetic by hand, and the README shows its tables."""

import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.bench import scaling
from tests.bench.scaling import INFINIBAND, LARGE, NVLINK, OTHER_HEADS, SMALL, Mesh

README = Path(__file__).parent.parent / "valyrian_jax" / "README.md"


def test_the_readme_shows_the_tables_that_the_script_prints() -> None:
    section = (
        README.read_text(encoding="utf-8").partition("\n### On paper")[2].partition("\n## ")[0]
    )
    blocks = [block for block in section.split("\n\n") if block.startswith("|")]
    assert blocks == scaling.make_tables()
    assert CliRunner().invoke(scaling.main).output == "\n\n".join(blocks) + "\n"


def test_options_replace_the_assumptions() -> None:
    printed = CliRunner().invoke(scaling.main, ["--mfu", "0.2", "--windows", "1024"]).output
    assert printed == "\n\n".join(scaling.make_tables(0.2, 1024)) + "\n"
    assert printed != "\n\n".join(scaling.make_tables()) + "\n"


def test_parameter_counts_equal_those_of_gpt2() -> None:
    assert [scaling.count_parameters(run.model) for run in (SMALL, LARGE, OTHER_HEADS)] == [
        124_439_808,
        1_557_611_200,
        1_557_611_200,
    ]


def test_memory_equals_arithmetic_by_hand() -> None:
    small = SMALL.model
    assert scaling.state_bytes(small, Mesh(data=8)) == 28 * 124_439_808
    assert scaling.state_bytes(small, Mesh(fsdp=4, tensor=2)) == pytest.approx(
        (26 / 8 + 2 / 2) * 124_439_808
    )
    assert scaling.block_bytes(small) == 48 * 768 == 36_864
    assert scaling.window_bytes(small, Mesh(), remat=False) == 1024 * (12 * 36_864 + 201_028)
    assert scaling.window_bytes(small, Mesh(), remat=True) == 1024 * (12 * 1536 + 36_864 + 201_028)
    # (60e9 - 3.48e9) / 0.66e9 is 85.7
    assert scaling.max_windows(small, Mesh(), remat=False) == 64


def test_a_gather_takes_the_time_of_a_ring() -> None:
    assert scaling.gather_seconds(1e9, 1, 1) == 0
    assert scaling.gather_seconds(1e9, 2, 2) == pytest.approx(0.5e9 / NVLINK)
    assert scaling.gather_seconds(1e9, 8, 8) == pytest.approx(7 / 8 * 1e9 / NVLINK)
    assert scaling.gather_seconds(1e9, 1, 1 << 20) == pytest.approx(1e9 / INFINIBAND, rel=1e-5)
    across = scaling.gather_seconds(1e9, 8, 8 << 20) - scaling.gather_seconds(1e9, 8, 8)
    # Each GPU of a node sends its own eighth.
    assert across == pytest.approx(1e9 / 8 / INFINIBAND, rel=1e-5)


def test_tensor_then_fsdp_then_data_neighbours_share_a_node() -> None:
    assert Mesh(64, 8).within_node() == (1, 8, 1)
    assert Mesh(1, 512).within_node() == (1, 8, 1)
    assert Mesh(128, 1, 4).within_node() == (2, 1, 4)
    assert Mesh(4, 2, 16).within_node() == (1, 1, 8)
    assert Mesh(4).within_node() == (4, 1, 1)


def test_communication_of_a_step_equals_arithmetic_by_hand() -> None:
    N, ring = 124_439_808, 7 / 8 / NVLINK
    step = {
        mesh: scaling.communication_seconds(SMALL.model, mesh, 512)
        for mesh in (Mesh(8), Mesh(1, 8), Mesh(2, 1, 4))
    }
    assert scaling.communication_seconds(SMALL.model, Mesh(), 64) == 0
    assert step[Mesh(8)] == pytest.approx(2 * ring * 4 * N)  # 64 windows per GPU are one microbatch
    assert step[Mesh(1, 8)] == pytest.approx(3 * ring * 4 * N)
    activations = 2 * 3 / 4 * (256 * 1024 * 768 * 2) / NVLINK
    gradients = 2 * 1 / 2 * N / NVLINK
    microbatches = math.ceil(256 / scaling.max_windows(SMALL.model, Mesh(2, 1, 4), remat=True))
    assert step[Mesh(2, 1, 4)] == pytest.approx(4 * 12 * activations + microbatches * gradients)


def test_summing_once_a_step_and_gathering_bfloat16_communicate_less() -> None:
    large, ring = LARGE.model, 7 / 8 / NVLINK
    microbatches = 64 / scaling.max_windows(large, Mesh(8), remat=True)
    per_microbatch, per_step = (
        scaling.communication_seconds(large, Mesh(8), 512, sum_once=sum_once)
        for sum_once in (False, True)
    )
    assert per_microbatch == pytest.approx(microbatches * per_step)
    float32, bfloat16 = (
        scaling.communication_seconds(large, Mesh(1, 8), 64, weight_bytes=size) for size in (4, 2)
    )
    assert float32 == pytest.approx(12 * ring * 1_557_611_200)
    assert bfloat16 == pytest.approx(8 * ring * 1_557_611_200)
