"""Mixtures: exact shares, a function of the seed and the step, and one set as without a mixture."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.encoding import write_tokens
from valyrian_jax.config import Config, load_config
from valyrian_jax.data.dataset import Dataset, open_dataset
from valyrian_jax.data.shards.mixture import PERIOD, find_rows, order_rows
from valyrian_jax.errors import UserError

LENGTH, ROWS = 8, 6


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three directories of shards, each of one token: 10, 20 and 30, with ends of documents."""
    directory = tmp_path_factory.mktemp("sets")
    for token, count in ((10, 2000), (20, 900), (30, 500)):
        tokens = np.full(count, token, np.uint16)
        tokens[::50] = tokens[-1] = 279
        write_tokens(directory / str(token), [tokens])
    return directory


def make_config(sets: Path, *mixture: str, **changes: Any) -> Config:
    settings = {
        "data.path": str(sets / "10"),
        "data.mixture": [f"{sets}/{entry}" for entry in mixture],
        "data.held_out": 0.1,
        "model.n_positions": LENGTH,
        "model.vocab_size": 280,
        "train.batch_size": ROWS,
    }
    return load_config(None, settings | changes)


def open_mixture(sets: Path, *mixture: str, **changes: Any) -> Dataset:
    return open_dataset(make_config(sets, *mixture, **changes), None, sets)


def identify_rows(batches: np.ndarray[Any, Any]) -> list[int]:
    """Return the token of each row that is not the end of a document."""
    windows = batches.reshape(-1, LENGTH + 1)
    return [int(row[row != 279][0]) for row in windows]


def test_shares_are_exact_and_evenly_spread(sets: Path) -> None:
    dataset = open_mixture(sets, "20=0.5", "30=0.5")
    steps = 40
    rows = identify_rows(dataset.batches(0, steps))
    assert Counter(rows) == {10: 120, 20: 60, 30: 60}
    for stop in range(1, len(rows)):
        assert abs(rows[:stop].count(10) - stop / 2) <= 1.5


def test_batches_are_a_function_of_seed_step_and_rows(sets: Path) -> None:
    dataset = open_mixture(sets, "20=0.3")
    whole = dataset.batches(0, 50)
    again = open_mixture(sets, "20=0.3")
    np.testing.assert_array_equal(again.batches(17, 3), whole[17:20])
    np.testing.assert_array_equal(again.batches(17, 3, slice(2, 4)), whole[17:20, 2:4])
    other = open_mixture(sets, "20=0.3", **{"train.seed": 5}).batches(0, 50)
    assert (other != whole).any()


def test_every_window_of_a_set_comes_once_before_any_comes_again() -> None:
    order = order_rows([1.0, 0.6, 0.4], seed=3)
    chosen, positions = find_rows(order, np.arange(3 * PERIOD))
    for number in range(3):
        of_set = positions[chosen == number]
        np.testing.assert_array_equal(of_set, np.arange(len(of_set)))
    assert np.bincount(chosen).tolist() == [15_000, 9000, 6000]


def test_the_held_out_parts_of_all_sets_are_evaluated(sets: Path) -> None:
    single = [
        open_mixture(sets, **{"data.path": str(sets / name)}).eval_set for name in ("10", "20")
    ]
    mixed = open_mixture(sets, "20=0.1").eval_set
    counted = [part.windows.counted.sum() for part in (*single, mixed)]
    assert counted[2] == counted[0] + counted[1]
    assert mixed.text_bytes == single[0].text_bytes + single[1].text_bytes


def test_the_fingerprint_depends_on_contents_and_weights(sets: Path) -> None:
    mixtures = [(), ("20=1",), ("20=2",), ("30=1",), ("20=1", "30=1")]
    assert len({open_mixture(sets, *mixture).fingerprint for mixture in mixtures}) == 5


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ("20", "expected DIRECTORY=WEIGHT with a weight above 0"),
        ("20=0", "expected DIRECTORY=WEIGHT with a weight above 0"),
        ("20=nan", "expected DIRECTORY=WEIGHT with a weight above 0"),
        ("20=1e-6", "is too small: expected a share of at least 1/10,000"),
        ("none=1", "none"),
    ],
)
def test_a_bad_entry_is_refused(sets: Path, mixture: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_mixture(sets, mixture)


def test_shards_of_another_tokenizer_are_refused(sets: Path, tmp_path: Path) -> None:
    write_tokens(tmp_path / "x", [np.arange(200, dtype=np.uint16)], vocab_size=279)
    config = make_config(sets, **{"data.mixture": [f"{tmp_path}/x=1"]})
    with pytest.raises(UserError, match="expected shards of one tokenizer|vocab"):
        open_dataset(config, None, tmp_path)


def test_a_text_is_not_mixed(sets: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words\n\n" * 50)
    with pytest.raises(UserError, match="data.mixture needs shards as data.path"):
        open_mixture(sets, "20=1", **{"data.path": str(tmp_path / "a.txt")})
