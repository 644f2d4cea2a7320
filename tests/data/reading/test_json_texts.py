"""JSON as documents: what is JSON, its lines and the elements of its arrays."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valyrian_jax.data.reading import text_reader
from valyrian_jax.data.reading.json_texts import read_lines
from valyrian_jax.data.reading.text_loader import load_text


@given(st.lists(st.sampled_from((b"ab", b"abcdefgh", b"\n", b" ")), max_size=12))
def test_only_lines_that_are_too_long_are_skipped(chunks: list[bytes]) -> None:
    text = b"x" + b"".join(chunks) + b"z"
    expected = [
        line if len(line.removesuffix(b"\n")) <= 8 else None
        for line in text.splitlines(keepends=True)
    ]
    lines = [*read_lines(io.BytesIO(text), 8)]
    assert lines == [line for line in expected if line is None or line.strip()]


@pytest.mark.parametrize("block", [1, 7, 64])
def test_an_array_is_read_in_blocks_of_any_size(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = ['é"]},[{', "\\", "\ud83d\ude00", "x" * 50, {"text": "in\n[]"}]
    (tmp_path / "a").write_bytes(b' [ "a" ,\n' + json.dumps(values).encode()[1:-1] + b",7] \n")
    monkeypatch.setattr(text_reader, "_BLOCK_BYTES", block)
    text = load_text(tmp_path / "a")
    assert text.documents == ["a", 'é"]},[{', "\\", "😀", "x" * 50, "in\n[]"]
    assert text.notes == (
        f"the text {tmp_path / 'a'} is not used whole; skipped 1: 1 no text under the key",
    )


PLAIN_LOOKS = [
    '[Music] "Rytsas", he said.\n',
    '["Rytsas," he said]\n',
    "{ never closed\n{ never closed\n",
    "[ ] to do\n[x] done\n",
    "{'text': 'Python'}\n",
    'Rytsas.\n{"text": "quoted"}\nDaor.\nValar.\n',
]


@pytest.mark.parametrize("content", PLAIN_LOOKS)
def test_text_that_only_looks_like_json_is_plain(content: str, path: Path) -> None:
    path.write_text(content)
    assert load_text(path).documents == [content.strip()]


def test_json_without_a_key_is_plain_text(tmp_path: Path) -> None:
    for content in ('{"text": "a"}\n', '{\n "a": 1\n}\n', '["a"]'):
        (tmp_path / "a.json").write_text(content)
        assert load_text(tmp_path / "a.json", text_key="").documents == [content.strip()]
