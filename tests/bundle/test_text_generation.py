"""Prompts become tokens, and tokens become text."""

from valyrian_jax.bundle.text_generation import encode_prompt, stream_text
from valyrian_jax.tokenizer import train_bpe


def test_text_streams_in_whole_characters_and_stops_at_end_of_text() -> None:
    tokenizer = train_bpe("ab", 258)
    ids = [*tokenizer.encode("ȳñ a🐉"), tokenizer.end_of_text, *tokenizer.encode("never")]
    chunks = list(stream_text(tokenizer, ids))
    assert "".join(chunks) == "ȳñ a🐉"
    assert "�" not in "".join(chunks)
    assert "".join(stream_text(tokenizer, tokenizer.encode("ȳ")[:1])) == "�"


def test_an_empty_prompt_is_the_beginning_of_a_document() -> None:
    tokenizer = train_bpe("ab", 258)
    assert encode_prompt(tokenizer, "") == [tokenizer.end_of_text]
    assert encode_prompt(tokenizer, "b") == tokenizer.encode("b")
