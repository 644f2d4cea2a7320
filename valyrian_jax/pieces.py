"""Tokens as people see them."""

from valyrian_jax.tokenizer import Tokenizer


def label(tokenizer: Tokenizer, token: int) -> str:
    """A token as a label: spaces and what cannot be printed are shown by signs, half a character as its bytes."""
    if token == tokenizer.end_of_text:
        return "<|endoftext|>"
    text = tokenizer.decode_bytes([token]).decode("utf-8", "backslashreplace").replace(" ", "␣")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
