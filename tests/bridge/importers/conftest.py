"""A directory of another program: a tokenizer, and a random GPT-2."""

from pathlib import Path

import pytest
from transformers import GPT2LMHeadModel

from tests.support.gpt2 import TEXT, make_gpt2
from valyrian_jax.tokenizer import Tokenizer, train_bpe


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(TEXT, 301)


@pytest.fixture
def gpt2_directory(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A directory with a tokenizer only."""
    (tmp_path / "gpt2").mkdir()
    tokenizer.save(tmp_path / "gpt2" / "tokenizer.json")
    return tmp_path / "gpt2"


@pytest.fixture
def reference(gpt2_directory: Path) -> GPT2LMHeadModel:
    """A random GPT-2, saved in `gpt2_directory`."""
    model = make_gpt2(layer_norm_epsilon=2e-5)
    model.save_pretrained(gpt2_directory)
    return model
