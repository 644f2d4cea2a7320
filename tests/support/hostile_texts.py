"""Kinds of hostile text, each as a function of the approximate number of bytes."""

import random
from collections.abc import Callable

from valyrian_jax.tokenizer.batch import encode_utf8


def pick_letters(letters: str, size: int) -> bytes:
    """Return random letters in UTF-8, `size` bytes on average."""
    width = len(letters.encode()) / len(letters)
    return "".join(random.Random(size).choices(letters, k=int(size / width))).encode()


HOSTILE_TEXTS: dict[str, Callable[[int], bytes]] = {
    "random bytes": lambda n: random.Random(n).randbytes(n),
    "random letters, no space": lambda n: pick_letters("abcdefghijklmnopqrstuvwxyz", n),
    "one letter": lambda n: b"a" * n,
    "lone surrogates": lambda n: encode_utf8("a\ud800\udfff\udc00b" * (n // 9)),
    "one letter, mixed marks": lambda n: b"a" + "\u0301\u0323".encode() * (n // 4),
    "decomposed macrons": lambda n: pick_letters("a\u0304e\u0304u\u0304y\u0304 ", n),
    "spaces": lambda n: b" " * n,
    "newlines": lambda n: b"\n" * n,
    "digits": lambda n: pick_letters("0123456789", n),
    "apostrophes": lambda n: b"'" * n,
    "NULs": lambda n: bytes(n),
    "astral": lambda n: pick_letters("🐉👩\U0010ffff\U00010400𝒳", n),
    "words without an end": lambda n: b"valar morghulis " * (n // 16),
}
