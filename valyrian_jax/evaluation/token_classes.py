"""The classes of tokens: which part of a word a token is, or which punctuation mark."""

from collections import defaultdict
from collections.abc import Sequence

from valyrian_jax.tokenizer import Tokenizer

TOKEN_CLASSES = {
    "whole word": "a word of one token",
    "first piece": "the first token of a longer word",
    "stem": "a token between the first and the last of a word",
    "ending": "the last token of a longer word",
    "punctuation": "a mark inside a sentence",
    "end of sentence": "the mark at its end",
    "end of text": "<|endoftext|>",
}
"""The classes, and what is in them."""

_MARKS = {
    **dict.fromkeys((b".", b"!", b"?"), "end of sentence"),
    **dict.fromkeys((b",", b";", b":"), "punctuation"),
}


def classify_tokens(tokens: Sequence[int], tokenizer: Tokenizer) -> list[str]:
    """Return the name of the class of each token of a text."""
    pieces = [b"" if i == tokenizer.end_of_text else tokenizer.tokens[i] for i in tokens]
    begins = [begins_word(*pair) for pair in zip([b"", *pieces], pieces, strict=False)]
    return [
        _classify(piece, begins[i], i + 1 == len(pieces) or begins[i + 1])
        for i, piece in enumerate(pieces)
    ]


def begins_word(before: bytes, piece: bytes) -> bool:
    """Test whether a piece begins a new word, given the piece before it; b"" is an end of text."""
    return not (before and piece) or piece[:1] in (b" ", *_MARKS) or before[-1:] in _MARKS


def follows_as(token: int, tokenizer: Tokenizer) -> str:
    """Return how a token continues a text after a piece of a word, such as "next word"."""
    if token == tokenizer.end_of_text:
        return "end of text"
    piece = tokenizer.tokens[token]
    if mark := _MARKS.get(piece.strip()[:1]):
        return mark
    return "next word" if piece[:1] == b" " else "more of a word"


def _classify(piece: bytes, is_first: bool, is_last: bool) -> str:
    if not piece:
        return "end of text"
    if mark := _MARKS.get(piece.strip()[:1]):
        return mark
    if is_first:
        return "whole word" if is_last else "first piece"
    return "ending" if is_last else "stem"


def sum_by_class(classes: Sequence[str], nats: Sequence[float]) -> dict[str, tuple[int, float]]:
    """Return the number of tokens of each class and their nats, in the order of the classes."""
    groups = defaultdict[str, list[float]](list)
    for name, value in zip(classes, nats, strict=True):
        groups[name].append(value)
    return {name: (len(groups[name]), sum(groups[name])) for name in TOKEN_CLASSES if groups[name]}
