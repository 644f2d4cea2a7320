"""Documents of texts of any size, and the shards that they become."""

import gzip
import io
import json
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from tests.support.encoding import encode, read_all_documents, read_all_tokens
from valyrian_jax.cli.main import main
from valyrian_jax.data.reading import documents, separators
from valyrian_jax.data.shards import inputs
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import END_OF_TEXT, Tokenizer, train_bpe

MEGABYTES = {
    "a long line of JSON": (b'{"text": "' + b"a" * 40_000_000 + b'"}\n', [None]),
    "a long break": (b"a\n\n" + b" \n" * 20_000_000 + b"b", [1, 1]),
    "a long document": (b"a" * 40_000_000, [1_000_000] * 40),
}


@pytest.mark.parametrize("name", MEGABYTES)
def test_documents_of_any_length_take_little_memory(name: str, tmp_path: Path) -> None:
    content, expected = MEGABYTES[name]
    (tmp_path / "text").write_bytes(gzip.compress(content, 1))
    tracemalloc.start()
    read = documents.read_documents(tmp_path / "text", max_bytes=1_000_000)
    sizes = [d.content if d.content is None else len(d.content) for d in read]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sizes == expected
    assert peak < 35_000_000


@pytest.mark.parametrize("name", ["A.JSONL", "a.ndjson.GZ", "a.txt"])
def test_json_lines_may_have_any_name(home: Path, tmp_path: Path, name: str) -> None:
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
    (tmp_path / "a.txt").write_text("--".join(texts), encoding="utf-8")
    options = ["--vocab-size", "300", "-o", str(tmp_path / "t.json")]
    for name, *more in (["a.jsonl.gz", "--text-key", "body"], ["a.txt", "--separator", "--"]):
        command = ["tokenizer", "train", str(tmp_path / name), *more, *options]
        assert CliRunner().invoke(main, command).exit_code == 0
        assert Tokenizer.load(tmp_path / "t.json") == train_bpe(texts, 300)


def test_a_compressed_text_trains_the_same_tokenizer(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress((home / "a.txt").read_bytes()))
    for number, path in enumerate((home / "a.txt", tmp_path / "a.gz")):
        out = tmp_path / str(number)
        command = ["tokenizer", "train", str(path), "--vocab-size", "300", "-o", str(out)]
        assert CliRunner().invoke(main, command).exit_code == 0
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()


def test_a_long_document_is_encoded_whole(home: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(home / "t.json")
    text = (home / "a.txt").read_text(encoding="utf-8").strip().replace("\n\n", "\n")
    (tmp_path / "long.txt").write_text(text + "\n\nValar.", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "MAX_DOCUMENT_BYTES", 2000)
        patch.setattr(inputs, "_GROUP_BYTES", 5000)
        patch.setattr(separators, "_BLOCK", 3000)
        index = encode(home, str(tmp_path / "long.txt"), tmp_path / "s")
    assert (index.documents, index.size, index.skipped) == (2, len(text.encode()) + 6, {})
    end = tokenizer.end_of_text
    expected = [end, *tokenizer.encode(text), end, *tokenizer.encode("Valar."), end]
    assert read_all_tokens(tmp_path / "s") == expected


def test_a_document_without_a_line_or_space_is_encoded_whole(home: Path, tmp_path: Path) -> None:
    text = "字é" * 5000
    (tmp_path / "long.txt").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "MAX_DOCUMENT_BYTES", 1999)
        index = encode(home, str(tmp_path / "long.txt"), tmp_path / "s")
    tokens = read_all_tokens(tmp_path / "s")
    assert Tokenizer.load(home / "t.json").decode(tokens[1:-1]) == text
    assert (index.documents, index.size) == (1, len(text.encode()))


def test_after_a_piece_that_is_not_utf8_a_new_document_begins(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a" * 100 + b"\xff" + b"b" * 99 + b"c" * 150)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "MAX_DOCUMENT_BYTES", 100)
        index = encode(home, str(tmp_path / "a"), tmp_path / "s")
    assert (index.documents, index.size, index.skipped) == (2, 250, {documents.NOT_UTF8: 1})
    text = Tokenizer.load(home / "t.json").decode(read_all_tokens(tmp_path / "s"))
    assert text.split(END_OF_TEXT) == ["", "a" * 100, "c" * 150, ""]


@pytest.mark.parametrize("separator", ["<|endoftext|>", r"re:<\|end\w+\|>"])
def test_a_separator_splits_and_is_in_no_document(
    home: Path, tmp_path: Path, separator: str
) -> None:
    (tmp_path / "a").write_bytes(b"One.\n\nTwo.\n<|endoftext|>\nThree.\n<|endoftext|>\n")
    index = encode(home, str(tmp_path / "a"), tmp_path / "s", separator=separator)
    text = Tokenizer.load(home / "t.json").decode(read_all_tokens(tmp_path / "s"))
    assert (index.documents, index.separator) == (2, separator)
    assert text.split(END_OF_TEXT) == ["", "One.\n\nTwo.", "Three.", ""]
    with pytest.raises(UserError, match="was started with --separator .*, found blank line"):
        encode(home, str(tmp_path / "a"), tmp_path / "s")


def test_lines_of_end_of_text_are_noted_once(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"One.\n<|endoftext|>\nTwo.\n<|endoftext|>\n")
    output = io.StringIO()
    encode(home, str(tmp_path / "a"), tmp_path / "s", console=Console(file=output, width=20))
    assert output.getvalue().count("\n") == 1
    assert output.getvalue().startswith("note: the text seems to have <|endoftext|> between")


def test_a_pipe_is_encoded_but_not_resumed(home: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    content = gzip.compress((home / "a.txt").read_bytes())
    with ThreadPoolExecutor(1) as pool:
        pool.submit((tmp_path / "pipe").write_bytes, content)
        index = encode(home, str(tmp_path / "pipe"), tmp_path / "s")
    assert index.documents == 350
    with pytest.raises(UserError, match="the pipe .* cannot be read again; expected regular"):
        encode(home, str(tmp_path / "pipe"), tmp_path / "s")


def test_an_index_of_format_1_is_read_but_not_resumed(home: Path, tmp_path: Path) -> None:
    encode(home, "a.txt", tmp_path / "s")
    path = tmp_path / "s" / "index.json"
    index = json.loads(path.read_text()) | {"format": 1}
    del index["separator"]
    path.write_text(json.dumps(index))
    assert encode(home, "a.txt", tmp_path / "s").finished
    full = [shard for shard in index["shards"] if shard["tokens"] == 3000]
    unfinished = {"finished": False, "shards": full, "tokens": 3000 * len(full)}
    path.write_text(json.dumps(index | unfinished))
    with pytest.raises(UserError, match="was started with index format 1, found 2"):
        encode(home, "a.txt", tmp_path / "s")
