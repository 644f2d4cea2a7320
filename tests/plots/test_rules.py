"""The pictures of rules: when each is learnt, and which head it needs."""

import json
from pathlib import Path

import numpy as np
import pytest

from valyrian_jax.errors import UserError
from valyrian_jax.plots.heads import draw_heads
from valyrian_jax.plots.rules import draw_rules, find_learnt_step, read_rule_curves


@pytest.mark.parametrize(
    ("shares", "step"),
    [([0.5, 0.96, 0.97], 20), ([0.96, 0.9, 1], 30), ([1, 0.9], None), ([], None)],
)
def test_a_rule_is_learnt_where_it_stays_known(shares: list[float], step: int | None) -> None:
    assert find_learnt_step([(10 * i + 10, share) for i, share in enumerate(shares)]) == step


def test_every_rule_of_a_run_has_a_line(tmp_path: Path) -> None:
    records = [{"step": s, "pairs/tense": s / 100, "pairs/object-case": 0.5} for s in (10, 96)]
    lines = [json.dumps(record) for record in ({"step": 5, "train/loss": 1.0}, *records)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    curves = read_rule_curves(tmp_path)
    assert curves == {"tense": [(10, 0.1), (96, 0.96)], "object-case": [(10, 0.5), (96, 0.5)]}
    panels = draw_rules("run", curves).get_axes()
    labels = [text.get_text() for axes in panels for text in axes.get_legend().get_texts()]
    assert labels == ["tense (from 96)", "object-case (not yet)"]


def test_a_run_without_pairs_has_no_picture(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 5, "train/loss": 1.0}\n')
    with pytest.raises(UserError, match=r"--train\.pairs"):
        read_rule_curves(tmp_path)


def test_a_heat_map_has_a_cell_for_every_rule_and_head() -> None:
    figure = draw_heads(
        ["tense", "order"], ["0.0", "0.1", "MLP 0"], np.array([[0, -9, 1], [0.2, 0, -80]])
    )
    axes = figure.get_axes()[0]
    assert [text.get_text() for text in axes.texts] == ["-9", "+1", "-80"]
    assert axes.get_images()[0].get_array().shape == (2, 3)
