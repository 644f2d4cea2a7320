"""The cuts are GPT-2's, found without a regular expression."""

from itertools import pairwise

import regex
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from tests.support.oracles import GPT2_PATTERN, HOSTILE
from valyrian_jax.tokenizer.pretokenizer import (
    LETTER,
    NUMBER,
    OTHER,
    SPACE,
    class_table,
    split_text,
)

THEIRS = pre_tokenizers.ByteLevel(add_prefix_space=False)


def pieces(data: bytes) -> list[bytes]:
    return [data[a:b] for a, b in pairwise(split_text(data).tolist())]


def their_pieces(text: str) -> list[bytes]:
    return [text[a:b].encode() for _, (a, b) in THEIRS.pre_tokenize_str(text)]


def test_hostile_strings_are_cut_like_gpt2() -> None:
    for text in HOSTILE:
        assert pieces(text.encode()) == their_pieces(text), text


def test_corpora_are_cut_like_gpt2(valyrian: str, sources: str) -> None:
    for text in (valyrian, sources):
        assert pieces(text.encode()) == their_pieces(text)


# Few characters, so that contractions, runs of spaces and class changes meet often.
TANGLED = st.text(st.sampled_from("'srtvemld .A1 \n\t\u00a0é½!"), max_size=30)


@given(TANGLED)
def test_tangled_text_is_cut_like_gpt2(text: str) -> None:
    assert pieces(text.encode()) == [p.encode() for p in regex.findall(GPT2_PATTERN, text)]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_is_cut_like_gpt2(text: str) -> None:
    assert pieces(text.encode()) == their_pieces(text)


@given(st.binary(max_size=80))
def test_pieces_of_any_bytes_join_to_them(data: bytes) -> None:
    parts = pieces(data)
    assert b"".join(parts) == data
    assert all(parts)


def test_bytes_that_are_not_utf8_are_other_characters() -> None:
    assert pieces(b"ab\xff\xfecd") == [b"ab", b"\xff\xfe", b"cd"]


def test_every_code_point_has_the_class_that_tokenizers_gives_it() -> None:
    probes = {LETTER: "a", NUMBER: "1", OTHER: "!"}
    table = class_table()
    # Every code point in one text, in the middle of a run of its own class: a wrong class would add a cut.
    for cls, probe in probes.items():
        members = [i for i in range(0x110000) if table[i] == cls and not 0xD800 <= i < 0xE000]
        text = probe + "".join(map(chr, members))
        assert len(THEIRS.pre_tokenize_str(text)) == 1, cls
    spaces = "".join(chr(i) for i in range(0x110000) if table[i] == SPACE)
    assert len(spaces) == 25
    assert len(THEIRS.pre_tokenize_str(spaces)) == 1
