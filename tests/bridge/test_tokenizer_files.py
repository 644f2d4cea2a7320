"""Tokenizers of older GPT-2 directories are read as `transformers` reads them."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AddedToken, GPT2Tokenizer

from bridge.importers.tokenizer_files import read_end_name, read_tokenizer
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer, train_bpe

TEXT = "# the quick dragon sees a lazy wolf; #version 2 of seventeen rivers, don't they? " * 20


@pytest.fixture
def tokenizer() -> Tokenizer:
    return train_bpe(TEXT, 301)


def write_two_files(
    directory: Path, tokenizer: Tokenizer, names: tuple[str, str] = ("vocab.json", "merges.txt")
) -> None:
    tokenizer.save(directory / "all.json")
    model = json.loads((directory / "all.json").read_text())["model"]
    (directory / "all.json").unlink()
    (directory / names[0]).write_text(json.dumps(model["vocab"]))
    lines = [" ".join(merge) for merge in model["merges"]]
    (directory / names[1]).write_text("\n".join(["#version: 0.2", *lines, ""]), encoding="utf-8")


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_a_tokenizer_in_two_files_is_read(
    names: tuple[str, str], tmp_path: Path, tokenizer: Tokenizer
) -> None:
    write_two_files(tmp_path, tokenizer, names)
    assert read_tokenizer(tmp_path) == tokenizer
    assert read_tokenizer(tmp_path / names[0]) == tokenizer
    (tmp_path / names[1]).unlink()
    with pytest.raises(UserError, match=rf"cannot read .*{names[1]}"):
        read_tokenizer(tmp_path)


def test_added_and_special_tokens_in_files_of_their_own_are_read(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    write_two_files(tmp_path, tokenizer)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<pad>": 301, "<a b>": 302}))
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    special = {"eos_token": {"content": "<end>"}, "additional_special_tokens": ["<x>", "<none>"]}
    vocab |= {"<x>": 303, "<end>": 304}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
    read = read_tokenizer(tmp_path)
    assert read.special == {
        "<|endoftext|>": 300,
        "<pad>": 301,
        "<a b>": 302,
        "<x>": 303,
        "<end>": 304,
    }
    assert read.merges == tokenizer.merges
    assert read.encode("<x>") == read.encode("<x>", ()) != [303]
    assert read_end_name(tmp_path) == "<end>"


def test_what_transformers_writes_is_read(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_two_files(tmp_path, tokenizer)
    theirs = GPT2Tokenizer.from_pretrained(tmp_path)
    theirs.add_tokens([AddedToken("<pad>", special=True)])
    theirs.save_pretrained(tmp_path / "saved")
    ours = read_tokenizer(tmp_path / "saved")
    assert ours.special["<pad>"] == theirs.convert_tokens_to_ids("<pad>")
    assert ours.encode(TEXT) == theirs(TEXT)["input_ids"]


@pytest.mark.parametrize("unk", ["<|endoftext|>", "<unk>"])
def test_an_unknown_token_that_no_byte_needs_is_allowed(
    unk: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    content: dict[str, Any] = json.loads(path.read_text())
    content["model"]["unk_token"] = unk
    path.write_text(json.dumps(content))
    assert read_tokenizer(tmp_path) == tokenizer
    del content["model"]["vocab"]["a"], content["model"]["merges"]
    content["model"]["merges"] = []
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"tokenizer.json is not a byte-level BPE"):
        read_tokenizer(tmp_path)


def test_no_tokenizer_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no tokenizer: expected tokenizer.json"):
        read_tokenizer(tmp_path)
