"""Texts to encode, and their shards."""

import shutil
from pathlib import Path

import pytest

from tests.support.encoding import encode
from valyrian_jax.data.shards import inputs
from valyrian_jax.tokenizer import train_bpe


@pytest.fixture(scope="package")
def home(valyrian: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tokenizer t.json and two texts, a.txt and b.txt."""
    directory = tmp_path_factory.mktemp("texts")
    paragraphs = valyrian.strip().split("\n\n")[:600]
    train_bpe(paragraphs, 300).save(directory / "t.json")
    (directory / "a.txt").write_text("\n\n".join(paragraphs[:350]) + "\n", encoding="utf-8")
    (directory / "b.txt").write_text(
        "\n \r\n\n" + "\r\n \n".join(paragraphs[350:]) + "\n\n\n", encoding="utf-8"
    )
    return directory


@pytest.fixture(scope="package")
def whole(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shards of both texts, encoded by one worker without an interruption."""
    out = tmp_path_factory.mktemp("shards") / "whole"
    encode(home, "a.txt b.txt", out)
    return out


@pytest.fixture(scope="package")
def small_shards(small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many shards of the small text."""
    directory = tmp_path_factory.mktemp("small")
    train_bpe(small_text.read_text(encoding="utf-8"), 280).save(directory / "t.json")
    encode(directory, str(small_text), directory / "shards", shard_tokens=333)
    return directory / "shards"


@pytest.fixture
def copy(small_shards: Path, tmp_path: Path) -> Path:
    """A copy of the shards, to be changed."""
    return Path(shutil.copytree(small_shards, tmp_path / "copy"))


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that get small groups."""
    monkeypatch.setattr(inputs, "_GROUP_BYTES", 4000)
