"""Batches of shards: every window once an epoch, in an order of its own."""

from pathlib import Path

import numpy as np
import pytest

from valyrian_jax.data.shards import dataset as shard_dataset
from valyrian_jax.data.shards.index import shard_name
from valyrian_jax.data.shards.shard_set import read_tokens
from valyrian_jax.data.shards.split import split_shards
from valyrian_jax.errors import UserError


def test_every_window_is_seen_once_an_epoch(small_shards: Path) -> None:
    split, length, rows = split_shards(small_shards, 0.1), 16, 12
    training = read_tokens(split.shards, 0, split.training_tokens)
    windows = (len(training) - 1) // length
    assert windows % rows  # so that some steps cross the end of an epoch
    steps = 3 * windows // rows + 1
    seen = np.concatenate(
        [shard_dataset.read_batch(split, 5, step, rows, length) for step in range(steps)]
    )
    assert seen.dtype == np.int32
    in_order = [training[i * length : (i + 1) * length + 1] for i in range(windows)]
    expected = np.stack(in_order).astype(np.int32)
    epochs = [seen[i * windows : (i + 1) * windows] for i in range(3)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == sorted(expected.tolist())
        assert (epoch == expected).all(axis=1).mean() < 0.05
    assert (epochs[0] == epochs[1]).all(axis=1).mean() < 0.05
    other = np.concatenate(
        [shard_dataset.read_batch(split, 6, step, rows, length) for step in range(windows // rows)]
    )
    assert (other == seen[: len(other)]).all(axis=1).mean() < 0.05


def test_rows_of_a_batch_can_be_read_separately(small_shards: Path) -> None:
    split = split_shards(small_shards, 0.1)
    windows = (split.training_tokens - 1) // 16
    for step in (0, windows // 8, 10**12):  # the second one crosses the end of an epoch
        whole = shard_dataset.read_batch(split, 0, step, 8, 16)
        rows = [
            shard_dataset.read_batch(split, 0, step, 8, 16, slice(first, first + 2))
            for first in range(0, 8, 2)
        ]
        np.testing.assert_array_equal(np.concatenate(rows), whole)


def test_a_token_id_outside_the_vocabulary_is_refused(copy: Path) -> None:
    split = split_shards(copy, 0.1)
    for number in (0, len(split.shards.index.shards) - 1):
        with (copy / shard_name(number)).open("rb+") as file:
            file.seek(64 + 20)
            file.write(b"\xff\xff")
    with pytest.raises(
        UserError, match="are damaged: expected token ids below 280, found 65535; compare"
    ):
        shard_dataset.read_batch(split, 0, 0, (split.training_tokens - 1) // 16, 16)  # an epoch
    with pytest.raises(UserError, match="are damaged: .* found 65535"):
        shard_dataset.read_held_out(split)
