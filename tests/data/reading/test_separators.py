"""Separators: a text of any size is split where a text in memory is."""

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valyrian_jax.config import BLANK_LINE, load_config
from valyrian_jax.data.reading import separators
from valyrian_jax.data.reading.separators import (
    describe_end_of_text_lines,
    find_documents,
    split_stream,
)
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import END_OF_TEXT

SIGNS = "a", "é", "\n", "\n\n", "\r\n", "\r", " ", "\t", "\n \n", "\x0b", "\u3000", "\x85", "--"
SEPARATORS = BLANK_LINE, "--", "é", "re:-+", "re:(a)|é", "re:(?m)^(?=a)", r"re:(?<=a)\s", "re:a$"


def read_pieces(
    text: bytes, separator: str, max_size: int, block: int
) -> list[separators.Piece[bytes]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(separators, "_BLOCK", block)
        patch.setattr(separators, "_MAX_BLANK", 3)
        patch.setattr(separators, "_MATCH_CHARACTERS", 8)
        return [*split_stream(io.BytesIO(text), separator, max_size)]


@settings(max_examples=1000)
@given(
    st.lists(st.sampled_from(SIGNS), max_size=12).map("".join),
    st.integers(1, 6),
    st.sampled_from(SEPARATORS),
)
def test_documents_are_those_of_a_text_in_memory_for_any_block_size(
    text: str, block: int, separator: str
) -> None:
    expected = [document for document in find_documents(text, separator) if document.strip()]
    pieces = read_pieces(text.encode(), separator, 1000, block)
    assert [piece.text.decode() for piece in pieces] == expected
    assert all(piece.is_first and piece.is_last for piece in pieces)


@settings(max_examples=400)
@given(
    st.lists(st.sampled_from(("ab", "abcdef", "é", "字", "\n", "\n\n", " ")), max_size=30),
    st.integers(1, 40),
    st.integers(4, 20),
    st.sampled_from((BLANK_LINE, "cd", "re:c.")),
)
def test_a_long_document_comes_in_pieces_and_whole(
    chunks: list[str], block: int, max_size: int, separator: str
) -> None:
    text = "x" + "".join(chunks) + "z"
    documents: list[bytes] = []
    for piece in read_pieces(text.encode(), separator, max_size, block):
        piece.text.decode()  # no character is cut
        if piece.is_first:
            documents.append(b"")
        assert len(piece.text) <= 4 * max_size + block + 8
        documents[-1] += piece.text
    expected = [document for document in find_documents(text, separator) if document.strip()]
    kept = [document.decode() for document in documents if document.strip()]
    if separator == BLANK_LINE:
        assert kept == expected
    else:  # A line break at the end of a piece may stay beside the separator.
        assert [document.strip("\n") for document in kept] == [d.strip("\n") for d in expected]


def test_a_piece_ends_before_a_line_else_before_a_word_else_between_characters() -> None:
    for text, end in (
        ("aaaa bbb\nccc ddd eee", "aaaa bbb"),
        ("aaaaaa bbbbb ccccccccc", "aaaaaa bbbbb"),
        ("é" * 20, "é" * 7),
    ):
        pieces = read_pieces(text.encode(), BLANK_LINE, 15, 99)
        assert pieces[0].text.decode() == end
        assert b"".join(piece.text for piece in pieces).decode() == text


def test_an_endless_blank_is_one_break_in_little_memory() -> None:
    text = b"a" + b" \n" * 20 + b"b" + b" " * 50 + b"c"
    pieces = read_pieces(text, BLANK_LINE, 12, 4)
    assert pieces[0].text == b"a "
    assert pieces[1].is_first
    assert b"".join(piece.text for piece in pieces[1:]) == b"b" + b" " * 50 + b"c"
    assert max(len(piece.text) for piece in pieces) <= 12


def test_the_separator_of_tiny_stories_is_in_no_document() -> None:
    text = f"One.\n\nTwo.\n{END_OF_TEXT}\nThree.\r\n{END_OF_TEXT}\r\n\r\nFour.\n{END_OF_TEXT}\n"
    assert find_documents(text, END_OF_TEXT) == ["One.\n\nTwo.", "Three.", "Four."]
    assert "--data.separator '<|endoftext|>'" in describe_end_of_text_lines(text, BLANK_LINE)
    assert describe_end_of_text_lines(text, END_OF_TEXT) == ""
    assert describe_end_of_text_lines(f"The token {END_OF_TEXT} ends it.", BLANK_LINE) == ""


@pytest.mark.parametrize(
    ("separator", "message"),
    [
        ("", "the separator is empty"),
        ("re:(", "the separator 're:(' is not a regular expression: missing )"),
        ("re:a{99999999999}", "is not a regular expression"),
        ("re:", "matches between all characters"),
        ("re:x*", "matches between all characters"),
    ],
)
def test_bad_separators_are_refused(separator: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(overrides={"data.separator": separator})
