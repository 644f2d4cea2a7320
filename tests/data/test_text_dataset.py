"""The dataset of a text: what it keeps of the text, and what it notices."""

import pickle
from pathlib import Path

import pytest

from tests.support.runs import load_tiny_config
from valyrian_jax.config import Config
from valyrian_jax.data.dataset import open_dataset
from valyrian_jax.errors import UserError

MARKER = "Skorverdon"  # a word that occurs once, and is several tokens


@pytest.fixture
def config(small_text: Path, tmp_path: Path) -> Config:
    path = tmp_path / "text.txt"
    path.write_text(f"{MARKER} issa.\n\n{small_text.read_text(encoding='utf-8')}", encoding="utf-8")
    return load_tiny_config(path)


def test_the_text_does_not_stay_in_memory(config: Config, tmp_path: Path) -> None:
    dataset = open_dataset(config, None, tmp_path)
    documents = dataset.read_documents()
    assert documents
    assert documents.train[0] == f"{MARKER} issa."
    assert f"{MARKER} issa.".encode() not in pickle.dumps(dataset)


def test_a_text_that_changes_meanwhile_is_noticed(config: Config, tmp_path: Path) -> None:
    dataset = open_dataset(config, None, tmp_path)
    with Path(config.data.path).open("a", encoding="utf-8") as file:
        file.write("Valar.\n")
    with pytest.raises(UserError, match=r"text.txt has changed: expected SHA-256"):
        dataset.read_documents()


def test_a_wrong_vocabulary_is_noticed_before_the_text_is_encoded(
    config: Config, tmp_path: Path
) -> None:
    tokenizer = open_dataset(config, None, tmp_path).tokenizer
    Path(config.data.path).unlink()
    other = load_tiny_config(Path(config.data.path), **{"model.vocab_size": 300})
    with pytest.raises(UserError, match=r"tokens, but model.vocab_size = 300"):
        open_dataset(other, tokenizer, tmp_path)
