"""What larger runs would take: the arithmetic by hand, and a README whose tables are what the script prints."""

import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.bench import scaling
from tests.bench.scaling import INFINIBAND, LARGE, NVLINK, OTHER_HEADS, SMALL, Mesh

README = Path(__file__).parent.parent / "valyrian_jax" / "README.md"


def test_the_tables_of_the_readme_are_those_that_the_script_prints() -> None:
    section = README.read_text(encoding="utf-8").partition("\n## On paper")[2].partition("\n## ")[0]
    blocks = [block for block in section.split("\n\n") if block.startswith("|")]
    assert blocks == scaling.tables()
    assert CliRunner().invoke(scaling.main).output == "\n\n".join(blocks) + "\n"


def test_the_command_line_changes_what_is_assumed() -> None:
    printed = CliRunner().invoke(scaling.main, ["--mfu", "0.2", "--windows", "1024"]).output
    assert printed == "\n\n".join(scaling.tables(0.2, 1024)) + "\n"
    assert printed != "\n\n".join(scaling.tables()) + "\n"


def test_operations_of_the_two_models() -> None:
    assert [scaling.parameter_count(run.model) for run in (SMALL, LARGE, OTHER_HEADS)] == [
        124_439_808,
        1_557_611_200,
        1_557_611_200,
    ]


def test_memory() -> None:
    small = SMALL.model
    assert scaling.state_bytes(small, Mesh(data=8)) == 28 * 124_439_808
    assert scaling.state_bytes(small, Mesh(fsdp=4, tensor=2)) == pytest.approx(
        (26 / 8 + 2 / 2) * 124_439_808
    )
    assert scaling.block_bytes(small) == 48 * 768 == 36_864
    assert scaling.window_bytes(small, Mesh(), remat=False) == 1024 * (12 * 36_864 + 201_028)
    assert scaling.window_bytes(small, Mesh(), remat=True) == 1024 * (12 * 1536 + 36_864 + 201_028)
    assert (
        scaling.windows_at_a_time(small, Mesh(), remat=False) == 64
    )  # (60e9 - 3.48e9) / 0.66e9 is 85.7


def test_a_ring() -> None:
    assert scaling.gather_seconds(1e9, 1, 1) == 0
    assert scaling.gather_seconds(1e9, 2, 2) == pytest.approx(0.5e9 / NVLINK)
    assert scaling.gather_seconds(1e9, 8, 8) == pytest.approx(7 / 8 * 1e9 / NVLINK)
    assert scaling.gather_seconds(1e9, 1, 1 << 20) == pytest.approx(1e9 / INFINIBAND, rel=1e-5)
    across = scaling.gather_seconds(1e9, 8, 8 << 20) - scaling.gather_seconds(1e9, 8, 8)
    assert across == pytest.approx(
        1e9 / 8 / INFINIBAND, rel=1e-5
    )  # each GPU of a node sends its own eighth


def test_which_part_of_an_axis_lies_in_a_node() -> None:
    assert Mesh(64, 8).inside() == (1, 8, 1)
    assert Mesh(1, 512).inside() == (1, 8, 1)
    assert Mesh(128, 1, 4).inside() == (2, 1, 4)
    assert Mesh(4, 2, 16).inside() == (1, 1, 8)
    assert Mesh(4).inside() == (4, 1, 1)


def test_communication_of_a_step() -> None:
    N, ring = 124_439_808, 7 / 8 / NVLINK
    step = {
        mesh: scaling.communication_seconds(SMALL.model, mesh, 512)
        for mesh in (Mesh(8), Mesh(1, 8), Mesh(2, 1, 4))
    }
    assert scaling.communication_seconds(SMALL.model, Mesh(), 64) == 0
    assert step[Mesh(8)] == pytest.approx(2 * ring * 4 * N)  # 64 windows on each GPU are one part
    assert step[Mesh(1, 8)] == pytest.approx(3 * ring * 4 * N)
    activations = 2 * 3 / 4 * (256 * 1024 * 768 * 2) / NVLINK
    gradients = 2 * 1 / 2 * N / NVLINK
    parts = math.ceil(256 / scaling.windows_at_a_time(SMALL.model, Mesh(2, 1, 4), remat=True))
    assert step[Mesh(2, 1, 4)] == pytest.approx(4 * 12 * activations + parts * gradients)


def test_gradients_may_be_summed_once_a_step_and_weights_gathered_in_bfloat16() -> None:
    large, ring = LARGE.model, 7 / 8 / NVLINK
    parts = 64 / scaling.windows_at_a_time(large, Mesh(8), remat=True)
    often, once = (
        scaling.communication_seconds(large, Mesh(8), 512, once=once) for once in (False, True)
    )
    assert often == pytest.approx(parts * once)
    wide, narrow = (
        scaling.communication_seconds(large, Mesh(1, 8), 64, gathered=size) for size in (4, 2)
    )
    assert wide == pytest.approx(12 * ring * 1_557_611_200)
    assert narrow == pytest.approx(8 * ring * 1_557_611_200)
