"""The split of shards: the same as that of the text, and within a factor of two of its share."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.encoding import read_all_documents, write_tokens
from tests.support.runs import load_tiny_config
from valyrian_jax.data.dataset import open_dataset
from valyrian_jax.data.shards import dataset as shard_dataset
from valyrian_jax.data.shards import split as shard_split
from valyrian_jax.data.shards.shard_set import open_shards, read_tokens
from valyrian_jax.data.shards.split import split_shards
from valyrian_jax.data.text import count_bytes, encode_documents
from valyrian_jax.errors import UserError


def test_the_held_out_part_is_that_of_the_text(
    small_shards: Path, small_text: Path, tmp_path: Path
) -> None:
    documents = read_all_documents(small_text)
    tokenizer = open_shards(small_shards).tokenizer
    whole = encode_documents(documents, tokenizer, tmp_path)
    for share in (0.02, 0.03, 0.1, 0.5, 0.9):
        split = split_shards(small_shards, share)
        tokens = shard_dataset.read_held_out(split)
        count = int((tokens[:-1] == tokenizer.end_of_text).sum())
        assert split.cut == next(
            (i for i in np.flatnonzero(whole[:-1] == whole[0]) if i >= len(whole) * (1 - share)),
            split.cut,
        )
        held_out = documents[-count:]
        assert tokens.tolist() == encode_documents(held_out, tokenizer, tmp_path).tolist()
        assert shard_dataset.count_token_bytes(tokens, tokenizer) == count_bytes(held_out)
        training = encode_documents(documents[:-count], tokenizer, tmp_path)
        np.testing.assert_array_equal(read_tokens(split.shards, 0, split.training_tokens), training)
    assert count > 50


def test_a_long_document_in_shards_is_cut_at_the_best_boundary(
    small_shards: Path, tmp_path: Path
) -> None:
    split = split_shards(small_shards, 0.007)  # The last document is longer than this.
    assert "document is longer than the held-out part: cut at a sentence; " in split.description
    tokens, tokenizer = shard_dataset.read_held_out(split), split.shards.tokenizer
    assert tokenizer.tokens[tokens[0]].endswith(b".")
    assert 0.0035 <= split.held_out_tokens / split.shards.index.tokens <= 0.014
    lengths = [len(tokenizer.tokens[token]) for token in tokens[1:-1]]
    assert shard_dataset.count_token_bytes(tokens, tokenizer) == sum(lengths) + 2
    described = open_dataset(
        load_tiny_config(small_shards, **{"data.held_out": 0.007}), None, tmp_path
    )
    assert described.describe().endswith(split.description)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 30, 3000]), min_size=1, max_size=12), st.floats(0.01, 0.95))
@example([20] * 25 + [100_000], 0.05)
@example([100_000] + [20] * 25, 0.05)
@example([5000], 0.05)
def test_both_parts_of_shards_are_within_a_factor_of_two_of_their_shares(
    lengths: list[int], held_out: float
) -> None:
    tokens = np.concatenate([[279], *([*np.arange(n) % 279, 279] for n in lengths)])
    if len(tokens) * min(held_out, 1 - held_out) < 3:
        return
    with tempfile.TemporaryDirectory() as directory:
        write_tokens(Path(directory) / "shards", [tokens])
        split = split_shards(Path(directory) / "shards", held_out)
    slack = 1 / len(tokens)
    assert held_out / 2 - slack <= split.held_out_tokens / len(tokens) <= 2 * held_out + slack
    train = 1 - held_out
    assert train / 2 - slack <= split.training_tokens / len(tokens) <= 2 * train + 2 * slack
    assert bool(split.description) == (tokens[split.cut] != 279)


def test_shards_without_two_parts_of_bounded_size_are_refused(
    small_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tokens(tmp_path / "one", [np.array([279, 1, 2, 3, 279])])
    assert split_shards(tmp_path / "one", 0.5).held_out_tokens == 2
    write_tokens(tmp_path / "letter", [np.array([279, 1, 279])])
    with pytest.raises(UserError, match="hold 3 tokens, expected at least 4; encode more text"):
        split_shards(tmp_path / "letter", 0.5)
    monkeypatch.setattr(shard_split, "MAX_HELD_OUT", 150)
    with pytest.raises(
        UserError, match=r"data.held_out = 0.5 .* set --data.held_out 0.0\d+$"
    ) as caught:
        split_shards(small_shards, 0.5)
    share = float(str(caught.value).split()[-1])
    assert 0 < split_shards(small_shards, share).held_out_tokens <= 150
