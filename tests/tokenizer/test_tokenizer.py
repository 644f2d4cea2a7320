"""The tokenizer agrees with `tokenizers` and `tiktoken` on real, generated and hostile text."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from tests.support.oracles import HOSTILE_STRINGS, learn_reference_merges, make_tiktoken
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import END_OF_TEXT, Tokenizer, train_bpe


@pytest.fixture(scope="module")
def ours(valyrian: str) -> Tokenizer:
    return train_bpe(valyrian, 500)


@pytest.fixture(scope="module")
def saved(ours: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "tokenizer.json"
    ours.save(path)
    return path


def read_merges(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))["model"]["merges"]


@pytest.mark.parametrize("vocab_size", [257, 258, 500, 1500])
def test_training_gives_the_merges_of_tokenizers(
    valyrian: str, sources: str, vocab_size: int, tmp_path: Path
) -> None:
    for text in (valyrian, sources):
        trained = train_bpe(text, vocab_size)
        trained.save(tmp_path / "tokenizer.json")
        assert read_merges(tmp_path / "tokenizer.json") == learn_reference_merges(
            [text], vocab_size
        )
        assert trained.vocab_size == vocab_size


def test_training_on_several_texts_gives_the_merges_of_tokenizers(
    sources: str, tmp_path: Path
) -> None:
    texts = sources.split("\n\n")
    train_bpe(iter(texts), 700).save(tmp_path / "tokenizer.json")
    assert read_merges(tmp_path / "tokenizer.json") == learn_reference_merges(texts, 700)


def test_ids_equal_those_of_tokenizers_and_tiktoken(
    ours: Tokenizer, saved: Path, valyrian: str, sources: str
) -> None:
    theirs, tiktoken = tokenizers.Tokenizer.from_file(str(saved)), make_tiktoken(ours)
    for text in (valyrian, sources, *HOSTILE_STRINGS):
        ids = ours.encode(text)
        assert ids == tiktoken.encode_ordinary(text)
        if END_OF_TEXT not in text:  # `tokenizers` always reads it as the special token
            assert ids == theirs.encode(text).ids
        assert ours.decode(ids) == text == theirs.decode(ids)


@given(st.binary(max_size=200))
def test_any_bytes_round_trip(ours: Tokenizer, data: bytes) -> None:
    assert ours.decode_bytes(ours.encode_bytes(data)) == data


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100))
def test_any_text_round_trips_with_the_ids_of_tiktoken(ours: Tokenizer, text: str) -> None:
    ids = ours.encode(text)
    assert ours.decode(ids) == text
    assert ids == make_tiktoken(ours).encode_ordinary(text)


def test_lone_surrogates_become_the_replacement_character(ours: Tokenizer) -> None:
    assert ours.decode(ours.encode("a\ud800b\udcffc")) == "a\ufffdb\ufffdc"
    assert ours.decode(ours.encode("\ud83d\udc09")) == "🐉"


def test_end_of_text_has_the_last_id_and_is_recognised_only_when_allowed(ours: Tokenizer) -> None:
    assert ours.end_of_text == 499
    assert 499 not in ours.encode(f"a{END_OF_TEXT}b")
    assert ours.encode(f"a{END_OF_TEXT}b", allowed_special={END_OF_TEXT}) == [
        *ours.encode("a"),
        499,
        *ours.encode("b"),
    ]
    with pytest.raises(UserError, match=re.escape("'<|x|>' is not a special token")):
        ours.encode("a", allowed_special={"<|x|>"})


def test_byte_ids_have_the_order_of_gpt2(ours: Tokenizer) -> None:
    assert ours.encode("!")[0] == 0
    assert ours.encode_bytes(b"\x00") == [188]
    assert ours.encode_bytes(b" ") == [220]


@pytest.mark.parametrize("character", ["a", " ", "é"])
def test_a_character_repeated_100000_times_round_trips(character: str) -> None:
    ours = train_bpe([character * 512, "some other text"], 264)
    ids = ours.encode(character * 100_000)
    assert len(ids) < 2_000
    assert ours.decode(ids) == character * 100_000


def test_training_works_on_a_character_repeated_a_million_times() -> None:
    assert train_bpe("a" * 1_000_000, 270).vocab_size == 270


def test_a_saved_tokenizer_loads_unchanged(ours: Tokenizer, saved: Path) -> None:
    assert Tokenizer.load(saved) == ours
    assert not list(saved.parent.glob("*.partial"))


def test_a_vocabulary_of_millions_is_refused_before_it_is_parsed(
    saved: Path, tmp_path: Path
) -> None:
    content = saved.read_text(encoding="utf-8")
    more = ",".join(f'"x{i}": {i}' for i in range(1_100_000))
    for text in (content.replace('"vocab": {', f'"vocab": {{{more},'), f"{{{more}"):
        (tmp_path / "large.json").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"is too large: expected at most 1,048,576 keys"):
            Tokenizer.load(tmp_path / "large.json")


def test_a_vocabulary_trained_by_tokenizers_loads_unchanged(sources: str, tmp_path: Path) -> None:
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[END_OF_TEXT],  # gets the first id
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator([sources], trainer)
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.load(tmp_path / "tokenizer.json")
    assert ours.end_of_text == 0
    plain = sources.replace(END_OF_TEXT, "")
    assert ours.encode(plain) == theirs.encode(plain).ids


def test_merges_stored_as_strings_load(ours: Tokenizer, saved: Path, tmp_path: Path) -> None:
    content = json.loads(saved.read_text(encoding="utf-8"))
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    (tmp_path / "old.json").write_text(json.dumps(content), encoding="utf-8")
    assert Tokenizer.load(tmp_path / "old.json") == ours


def test_a_vocabulary_that_the_text_cannot_fill_is_an_error() -> None:
    with pytest.raises(UserError, match="cannot be filled: the text yields at most 260 tokens"):
        train_bpe("abcd", 500)
    with pytest.raises(UserError, match=re.escape("256 bytes and <|endoftext|> need 257")):
        train_bpe("abc", 256)


def test_an_id_outside_the_vocabulary_is_an_error(ours: Tokenizer) -> None:
    for i in (-1, 500):
        with pytest.raises(UserError, match=f"token id {i} is outside the vocabulary"):
            ours.decode([i])


DAMAGES: dict[str, tuple[Any, str]] = {
    "another model": (lambda c: c["model"].update(type="WordPiece"), "model type 'WordPiece'"),
    "a normalizer": (lambda c: c.update(normalizer={"type": "NFC"}), "its normalizer changes text"),
    "another pre-tokenizer": (
        lambda c: c["pre_tokenizer"].update(use_regex=False),
        "expected ByteLevel",
    ),
    "byte fallback": (
        lambda c: c["model"].update(byte_fallback=True),
        "byte_fallback = True is not supported",
    ),
    "a gap in the ids": (
        lambda c: c["model"]["vocab"].update({"!": 9999}),
        "token ids are not 0 to",
    ),
    "a fractional id": (lambda c: c["model"]["vocab"].update({"!": 0.5}), "not an integer"),
    "no single byte": (
        lambda c: c["model"]["vocab"].update({"!!!!!": c["model"]["vocab"].pop("!")}),
        "no token",
    ),
    "an unknown character": (
        lambda c: c["model"]["vocab"].update({"日": c["model"]["vocab"].pop("!")}),
        "no byte",
    ),
    "a merge of unknown tokens": (
        lambda c: c["model"]["merges"].append(["zzz", "qqq"]),
        "not in the vocabulary",
    ),
    "a repeated merge": (
        lambda c: c["model"]["merges"].append(c["model"]["merges"][0]),
        "listed twice",
    ),
    "a merge of three": (lambda c: c["model"]["merges"].append(["a", "b", "c"]), "ValueError"),
    "no model": (lambda c: c.pop("model"), "KeyError 'model'"),
    "a list": (lambda c: c.update(model=[]), "'list' object"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_refused_in_one_line(name: str, saved: Path, tmp_path: Path) -> None:
    damage, message = DAMAGES[name]
    content = json.loads(saved.read_text(encoding="utf-8"))
    damage(content)
    (tmp_path / "broken.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match="broken.json is not a byte-level BPE") as caught:
        Tokenizer.load(tmp_path / "broken.json")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the tokenizer .*: No such file"):
        Tokenizer.load(tmp_path / "none.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="is not JSON"):
        Tokenizer.load(tmp_path / "deep.json")
