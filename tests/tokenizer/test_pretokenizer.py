"""The pre-tokenizer gives the pieces of GPT-2's pattern."""

from itertools import pairwise

import regex
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from tests.support.oracles import GPT2_PATTERN, HOSTILE_STRINGS
from valyrian_jax.tokenizer.pretokenizer import (
    LETTER,
    NUMBER,
    OTHER,
    SPACE,
    load_class_table,
    split_text,
)

THEIRS = pre_tokenizers.ByteLevel(add_prefix_space=False)


def split_into_pieces(data: bytes) -> list[bytes]:
    return [data[a:b] for a, b in pairwise(split_text(data).tolist())]


def split_with_tokenizers(text: str) -> list[bytes]:
    return [text[a:b].encode() for _, (a, b) in THEIRS.pre_tokenize_str(text)]


def test_hostile_strings_have_the_pieces_of_gpt2() -> None:
    for text in HOSTILE_STRINGS:
        assert split_into_pieces(text.encode()) == split_with_tokenizers(text), text


def test_corpora_have_the_pieces_of_gpt2(valyrian: str, sources: str) -> None:
    for text in (valyrian, sources):
        assert split_into_pieces(text.encode()) == split_with_tokenizers(text)


# Few characters, so contractions, runs of spaces and class changes are often adjacent.
TANGLED = st.text(st.sampled_from("'srtvemld .A1 \n\t\u00a0é½!"), max_size=30)


@given(TANGLED)
def test_tangled_text_has_the_pieces_of_gpt2(text: str) -> None:
    assert split_into_pieces(text.encode()) == [
        p.encode() for p in regex.findall(GPT2_PATTERN, text)
    ]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_has_the_pieces_of_gpt2(text: str) -> None:
    assert split_into_pieces(text.encode()) == split_with_tokenizers(text)


@given(st.binary(max_size=80))
def test_the_pieces_of_any_bytes_join_to_the_same_bytes(data: bytes) -> None:
    pieces = split_into_pieces(data)
    assert b"".join(pieces) == data
    assert all(pieces)


def test_bytes_that_are_not_utf8_are_other_characters() -> None:
    assert split_into_pieces(b"ab\xff\xfecd") == [b"ab", b"\xff\xfe", b"cd"]


def test_every_code_point_has_the_class_of_tokenizers() -> None:
    probes = {LETTER: "a", NUMBER: "1", OTHER: "!"}
    table = load_class_table()
    # All code points of a class form one run, so a wrong class would add a piece.
    for character_class, probe in probes.items():
        members = [
            i for i in range(0x110000) if table[i] == character_class and not 0xD800 <= i < 0xE000
        ]
        text = probe + "".join(map(chr, members))
        assert len(THEIRS.pre_tokenize_str(text)) == 1, character_class
    spaces = "".join(chr(i) for i in range(0x110000) if table[i] == SPACE)
    assert len(spaces) == 25
    assert len(THEIRS.pre_tokenize_str(spaces)) == 1
