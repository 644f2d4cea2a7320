"""What a text must have, and settings that fit a shorter one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.encoding import write_tokens
from valyrian_jax.config import Config, ModelConfig, config_from_tree
from valyrian_jax.data.dataset import open_dataset
from valyrian_jax.data.requirements import choose_vocab_size, count_tokens, find_context_shortages
from valyrian_jax.data.text import encode_documents
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import train_bpe

TOKENIZER = train_bpe("abab abc " * 9, 262)


@given(
    st.lists(st.text("abc é字", min_size=1, max_size=30), min_size=1, max_size=9),
    st.integers(1, 60),
)
def test_tokens_are_counted_as_far_as_they_decide(documents: list[str], enough: int) -> None:
    count = len(encode_documents(documents, TOKENIZER, Path()))
    counted = count_tokens(documents, TOKENIZER, enough)
    assert counted == count or min(counted, count) >= enough


@pytest.mark.parametrize("tokens", [3, 4, 5, 64, 1000])
def test_the_advised_context_has_a_window(tokens: int) -> None:
    (shortage,) = find_context_shortages(tokens, Config(model=ModelConfig(n_positions=1000)))
    advised = int(shortage.options.split()[-1])
    assert 2 <= advised < tokens
    assert not find_context_shortages(tokens, Config(model=ModelConfig(n_positions=advised)))


def test_the_advised_vocabulary_is_possible() -> None:
    assert all(257 <= choose_vocab_size(largest) <= largest for largest in range(257, 3000))
    assert choose_vocab_size(412) == 330


def test_a_short_text_and_another_tokenizer_are_named_together(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abab abc")
    config = config_from_tree({}, {"data.path": str(tmp_path / "text.txt")})
    with pytest.raises(UserError) as caught:
        open_dataset(config, TOKENIZER, tmp_path)
    assert str(caught.value) == (
        "the tokenizer has 262 tokens, but model.vocab_size = 500; the training part has 4 tokens, "
        "but model.n_positions = 64 needs at least 65; use more text, or set --model.vocab_size "
        "262 --model.n_positions 2"
    )


@pytest.mark.parametrize("words", [2, 5])
def test_short_shards_name_all_settings(words: int, tmp_path: Path) -> None:
    write_tokens(tmp_path / "shards", [np.array([279, *range(words), 279])])
    settings = {"data.path": str(tmp_path / "shards"), "data.held_out": 0.99}
    with pytest.raises(UserError) as caught:
        open_dataset(config_from_tree({}, settings), None, tmp_path)
    assert str(caught.value) == (
        "the tokenizer has 280 tokens, but model.vocab_size = 500; the training part has 2 tokens, "
        "but model.n_positions = 64 needs at least 65; use more text, or set --model.vocab_size "
        "280 --model.n_positions 2 --data.held_out 0.5"
    )
    settings |= {"model.vocab_size": 280, "model.n_positions": 2, "data.held_out": 0.5}
    dataset = open_dataset(config_from_tree({}, settings), None, tmp_path)
    assert dataset.batches(0, 2).shape == (2, 16, 3)
