"""Documents of files of any size."""

import gzip
import io
import json
import re
import tracemalloc
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.encoding import encode, read_all_documents
from valyrian_jax.cli.main import main
from valyrian_jax.data import documents
from valyrian_jax.data.text import _PARAGRAPH_BREAK
from valyrian_jax.tokenizer import Tokenizer, train_bpe

SIGNS = "a", "é", "\n", "\n\n", "\r\n", "\r", " ", "\t", "\n \n", "\x0b", "\u3000", "\x85"


@settings(max_examples=400)
@given(st.lists(st.sampled_from(SIGNS), max_size=12).map("".join), st.integers(1, 6))
def test_paragraphs_are_those_of_a_text_in_memory_for_any_block_size(text: str, block: int) -> None:
    expected = [chunk for chunk in _PARAGRAPH_BREAK.split(text.strip()) if chunk.strip()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_BLOCK", block)
        patch.setattr(Path, "open", lambda *_: io.BytesIO(text.encode()))
        paragraphs = [*documents.read_documents(Path("text"), 1000)]
    assert [paragraph and paragraph.decode() for paragraph in paragraphs] == expected


CHUNKS = b"ab", b"abcdef", b"abcdefgh", b"\n", b"\n\n", b"   "


@given(st.lists(st.sampled_from(CHUNKS), max_size=12), st.integers(1, 9))
def test_only_documents_that_are_too_long_are_skipped(chunks: list[bytes], block: int) -> None:
    text = b"x" + b"".join(chunks) + b"z"
    expected = [chunk for chunk in re.split(rb"(?:\n *){2,}", text.strip()) if chunk.strip()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_BLOCK", block)
        patch.setattr(Path, "open", lambda *_: io.BytesIO(text))
        paragraphs = list(documents.read_documents(Path("text"), 40))
        lines = list(documents.read_documents(Path("text.jsonl"), 8))
    assert len(paragraphs) == len(expected)
    assert [p for p in paragraphs if p] == [chunk for chunk in expected if len(chunk) <= 40]
    expected_lines = [
        line if len(line.removesuffix(b"\n")) <= 8 else None
        for line in text.splitlines(keepends=True)
    ]
    assert lines == [line for line in expected_lines if line is None or line.strip()]


def test_a_document_that_is_too_long_takes_little_memory(tmp_path: Path) -> None:
    for name, sign in (("long.txt.gz", b"a"), ("blank.txt.gz", b" "), ("lines.jsonl.gz", b"a")):
        (tmp_path / name).write_bytes(gzip.compress(b"a" + 40_000_000 * sign, 1))
        tracemalloc.start()
        contents = list(documents.read_documents(tmp_path / name, 1_000_000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert contents == ([b"a"] if sign == b" " else [None])
        assert peak < 25_000_000


@pytest.mark.parametrize("name", ["A.JSONL", "a.ndjson", "a.ndjson.GZ"])
def test_names_with_other_endings_are_json_lines_too(home: Path, tmp_path: Path, name: str) -> None:
    texts = read_all_documents(home / "a.txt")
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    (tmp_path / name).write_bytes(gzip.compress(lines) if name.endswith("GZ") else lines)
    index = encode(home, str(tmp_path / name), tmp_path / "lines")
    expected = encode(home, "a.txt", tmp_path / "text")
    assert (index.tokens, index.documents) == (expected.tokens, expected.documents)


def test_a_tokenizer_is_trained_on_the_documents_that_are_encoded(
    home: Path, tmp_path: Path
) -> None:
    texts = read_all_documents(home / "a.txt")
    lines = [json.dumps({"body": text}).encode() for text in texts]
    lines += [b"{", b'{"text": "Rytsas"}']
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines)))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress((home / "a.txt").read_bytes()))
    options = ["--vocab-size", "300", "-o", str(tmp_path / "t.json")]
    for name, *more in (["a.jsonl.gz", "--text-key", "body"], ["a.txt.gz"]):
        command = ["tokenizer", "train", str(tmp_path / name), *more, *options]
        assert CliRunner().invoke(main, command).exit_code == 0
        assert Tokenizer.load(tmp_path / "t.json") == train_bpe(texts, 300)
