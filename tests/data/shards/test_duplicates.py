"""A document whose whole text came before is skipped and counted, wherever encoding was stopped."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.encoding import (
    encode,
    encode_until,
    read_all_documents,
    read_all_tokens,
    read_contents,
    to_json_lines,
)
from valyrian_jax.data.shards import inputs
from valyrian_jax.data.text import encode_documents
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer


@pytest.fixture
def texts(home: Path) -> list[str]:
    """Different texts."""
    return list(dict.fromkeys(read_all_documents(home / "a.txt")))[:40]


@pytest.fixture
def names(home: Path, texts: list[str], tmp_path: Path) -> str:
    """Two files with 80 documents, half of them duplicates, and an empty one."""
    (tmp_path / "x.txt").write_text("\n\n".join(texts[:30] + texts[:10]), encoding="utf-8")
    rest = ["", *texts[5:25], *texts[30:], *reversed(texts[30:])]
    (tmp_path / "y.jsonl").write_bytes(to_json_lines(rest))
    return f"{tmp_path / 'x.txt'} {tmp_path / 'y.jsonl'}"


@pytest.fixture
def expected(home: Path, texts: list[str], tmp_path: Path) -> list[int]:
    """The tokens of each text once."""
    return encode_documents(texts, Tokenizer.load(home / "t.json"), tmp_path).tolist()


@pytest.mark.parametrize(("workers", "size"), [(1, 1 << 20), (2, 300), (1, 1)])
def test_each_text_is_encoded_once(
    home: Path,
    names: str,
    expected: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    size: int,
) -> None:
    monkeypatch.setattr(inputs, "_GROUP_BYTES", size)
    index = encode(home, names, tmp_path / "s", deduplicate=True, workers=workers)
    assert read_all_tokens(tmp_path / "s") == expected
    assert (index.documents, index.skipped) == (40, {"duplicate": 40, "empty": 1})


@pytest.mark.slow
@pytest.mark.parametrize("last", [1, 4])
def test_a_resumed_command_knows_the_texts_of_finished_shards(
    home: Path, names: str, expected: list[int], tmp_path: Path, last: int
) -> None:
    options: dict[str, Any] = {"deduplicate": True, "shard_tokens": len(expected) // 6}
    whole = encode(home, names, tmp_path / "whole", **options)
    encode_until(last, home, names, tmp_path / "s", **options)
    with pytest.raises(UserError, match="was started with --deduplicate True, found False"):
        encode(home, names, tmp_path / "s", shard_tokens=options["shard_tokens"])
    assert encode(home, names, tmp_path / "s", **options) == whole
    assert read_contents(tmp_path / "s") == read_contents(tmp_path / "whole")


def test_pieces_of_a_long_document_are_no_duplicates(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two long documents can begin with the same piece, or with a whole short one."""
    monkeypatch.setattr(inputs, "MAX_DOCUMENT_BYTES", 40)
    line = "Rytsas!\n"
    (tmp_path / "x.txt").write_text("\n".join([line * 5, line * 9, line * 9]))
    index = encode(home, str(tmp_path / "x.txt"), tmp_path / "s", deduplicate=True)
    assert (index.documents, index.skipped) == (3, {})
    monkeypatch.undo()
    whole = encode(home, str(tmp_path / "x.txt"), tmp_path / "whole", deduplicate=True)
    assert (whole.documents, whole.skipped) == (2, {"duplicate": 1})
