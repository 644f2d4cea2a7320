"""Kinds of text that nobody writes, each of about as many bytes as asked."""

import random
from collections.abc import Callable

from valyrian_jax.tokenizer.batch import utf8


def pick(letters: str, size: int) -> bytes:
    """Random letters, so many bytes of them or a few more or less."""
    width = len(letters.encode()) / len(letters)
    return "".join(random.Random(size).choices(letters, k=int(size / width))).encode()


KINDS: dict[str, Callable[[int], bytes]] = {
    "random bytes": lambda n: random.Random(n).randbytes(n),
    "random letters, no space": lambda n: pick("abcdefghijklmnopqrstuvwxyz", n),
    "one letter": lambda n: b"a" * n,
    "lone surrogates": lambda n: utf8("a\ud800\udfff\udc00b" * (n // 9)),
    "one letter, mixed marks": lambda n: b"a" + "\u0301\u0323".encode() * (n // 4),
    "decomposed macrons": lambda n: pick("a\u0304e\u0304u\u0304y\u0304 ", n),
    "spaces": lambda n: b" " * n,
    "newlines": lambda n: b"\n" * n,
    "digits": lambda n: pick("0123456789", n),
    "apostrophes": lambda n: b"'" * n,
    "NULs": lambda n: bytes(n),
    "astral": lambda n: pick("🐉👩\U0010ffff\U00010400𝒳", n),
    "words without an end": lambda n: b"valar morghulis " * (n // 16),
}
