"""Parquet as documents."""

import sys
from pathlib import Path

import pytest

from tests.support.encoding import to_parquet
from valyrian_jax.data.reading.text_loader import load_text
from valyrian_jax.errors import UserError


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(to_parquet({"text": ["a"]}))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'valyrian-gpt\[parquet\]'"):
        load_text(tmp_path / "a")


def test_missing_values_of_parquet_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(to_parquet({"text": ["a", None, "", "b", "c"]}))
    text = load_text(tmp_path / "a")
    assert (text.documents, len(text.notes)) == (["a", "b", "c"], 1)
    assert text.notes[0].endswith("; skipped 2: 2 empty")
