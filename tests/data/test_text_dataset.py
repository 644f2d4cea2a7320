"""The dataset of a text: what it keeps of the text, and what it notices."""

import hashlib
import pickle
from pathlib import Path

import pytest

from tests.support.runs import load_tiny_config
from valyrian_jax.config import Config
from valyrian_jax.data.corpus_entropy import CorpusSource, save_source, source_path
from valyrian_jax.data.dataset import open_dataset
from valyrian_jax.data.reading.separators import find_documents
from valyrian_jax.data.reading.text_loader import load_text
from valyrian_jax.errors import UserError
from valyrian_jax.files import sha256_of_file

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


def test_a_wrong_vocabulary_is_refused(config: Config, tmp_path: Path) -> None:
    tokenizer = open_dataset(config, None, tmp_path).tokenizer
    other = load_tiny_config(Path(config.data.path), **{"model.vocab_size": 300})
    with pytest.raises(UserError, match=r"has 280 tokens, .*; set --model.vocab_size 280$"):
        open_dataset(other, tokenizer, tmp_path)


def test_a_text_is_split_at_its_separator_and_says_that_it_seems_to_have_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "stories.txt"
    stories = [f"Story {i} begins.\n\nIt ends." for i in range(60)]
    path.write_text("\n<|endoftext|>\n".join(stories) + "\n<|endoftext|>\n")
    changes = {"model.vocab_size": 270}
    dataset = open_dataset(load_tiny_config(path, **changes), None, tmp_path)
    assert [note for note in dataset.notes if "--data.separator '<|endoftext|>'" in note]
    changes["data.separator"] = "<|endoftext|>"
    dataset = open_dataset(load_tiny_config(path, **changes), None, tmp_path)
    documents = dataset.read_documents()
    assert documents
    assert documents.train + documents.held_out == stories
    assert dataset.notes == ()
    assert " held-out tokens in 57 and 3 documents; " in dataset.describe()
    changes["data.separator"] = "<endoftext>"  # mistyped
    dataset = open_dataset(load_tiny_config(path, **changes), None, tmp_path)
    note, hint = dataset.notes
    assert note.startswith("the separator '<endoftext>' is not in the text")
    assert "--data.separator '<|endoftext|>'" in hint


def test_the_shipped_corpus_is_split_at_blank_lines_only(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "data" / "High Valyrian.txt"
    text, content = load_text(path), path.read_bytes()
    assert (text.size, text.fingerprint) == (len(content), hashlib.sha256(content).hexdigest())
    assert text.documents == content.decode().strip().split("\n\n")


def test_the_entropy_is_unknown_where_a_document_was_cut(config: Config, tmp_path: Path) -> None:
    path = Path(config.data.path)
    for blank, is_known in (("\n\n", True), ("\n", False)):  # many documents, or a single one
        path.write_text(path.read_text(encoding="utf-8").replace("\n\n", blank), encoding="utf-8")
        count = len(find_documents(path.read_text(encoding="utf-8")))
        source = CorpusSource(sha256_of_file(path), [400.0] * count, 0.0)
        save_source(source, source_path(path))
        dataset = open_dataset(config, None, tmp_path)
        assert (dataset.entropy is not None) == is_known
        assert ("cut at a line" in dataset.describe()) != is_known
