"""A text in memory: its fingerprint and its size."""

import gzip
from pathlib import Path

import pytest

from valyrian_jax.data.reading import text_loader
from valyrian_jax.data.reading.text_loader import load_text
from valyrian_jax.errors import UserError


def test_the_fingerprint_is_the_sha256_of_the_file_and_knows_documents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc\n")
    expected = "edeaaff3f1774ad2888673770c6d64097e391bc362d7d6fb34982ddf0efd18cb"
    assert load_text(tmp_path / "a").fingerprint == expected
    (tmp_path / "b").write_text('["ab", "c"]')
    (tmp_path / "c").write_text('["a", "bc"]')
    assert load_text(tmp_path / "b").fingerprint != load_text(tmp_path / "c").fingerprint


def test_a_text_larger_than_memory_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_loader, "memory_bytes", lambda: 16_000)
    (tmp_path / "fits").write_bytes(b"a " * 500)
    assert load_text(tmp_path / "fits").size == 1000
    for content in (b"a " * 501, gzip.compress(b"a " * 501), b'{"text": "abcdefghi"}\n' * 200):
        (tmp_path / "large").write_bytes(content)
        with pytest.raises(UserError, match="does not fit into memory.*tokenizer encode"):
            load_text(tmp_path / "large")
