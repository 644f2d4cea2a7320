"""Damage, drawn at random: to bytes, and to the values of JSON, which reaches deeper into a reader.

Everything is drawn from the `random.Random` given, so that the same seed does the same damage.
"""

import copy
import json
import math
import random
from collections.abc import Callable
from typing import Any

# What readers stumble over, to be put anywhere into a text.
_WORDS = (
    *(
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"-1",
        b"0",
        b"9" * 5000,
        b"1" + b"0" * 30,
        b"0x" + b"f" * 5000,
        b"1_0",
        b"1.5",
    ),
    *(
        b"[" * 2000,
        b'{"a":' * 2000,
        b"[" * 400 + b"]" * 400,
        b".a" * 1200,
        b'"\\ud800"',
        b"\\u0000",
        b'""',
        b'"',
        b"\\",
    ),
    *(
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\0",
        b"\n",
        b"\r",
        b"\x85",
        "\u2028".encode(),
        b"\x1b[31m",
        b"\xed\xa0\x80",
    ),
    *(
        b"../",
        b"/etc/passwd",
        b"null",
        b"true",
        b"{}",
        b"[]",
        b",",
        b":",
        b"=",
        b".",
        b" ",
        b"#",
        b"[[x]]",
    ),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 2**31, 2**32 - 1, 2**63, 2**64, 10**12, 10**400, -(10**400)),
    *(0.5, 1.0, -0.0, 1e-300, 1e308, math.inf, -math.inf, math.nan),
    *(
        "",
        "a",
        "0",
        "\0",
        "\ud800",
        "\u2028",
        "\x1b[31m",
        "Ġ",
        "a b",
        "..",
        "../x",
        "/etc/passwd",
        "x" * 300,
    ),
    *("<|endoftext|>", "I32", "F16", [], {}, [[]], [0], [None], ["a", "b"], {"": 0}, {"a": {}}),
)
# Numbers that Python does not write and nests that it does not fold: names for them, filled in afterwards.
_LONG = {"@digits": "9" * 5000, "@largest": "-" + "9" * 4300, "@hexadecimal": "0x" + "f" * 5000}
_DEEP = "@deep"


def damaged_bytes(draw: random.Random, data: bytes) -> bytes:
    """Some bytes, changed in one to four places."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        data = draw.choice(_CHANGES)(draw, data)
    return data


def damaged_json(draw: random.Random, value: Any) -> Any:
    """A value of JSON, changed in place in one to three nodes."""
    whole = [value]
    for _ in range(draw.choice((1, 1, 2, 3))):
        _change_node(draw, whole)
    return whole[0] if whole else None


def written(draw: random.Random, value: Any) -> bytes:
    """A value as JSON; what `damaged_json` left to fill in is filled in."""
    text = json.dumps(value)
    for name, number in _LONG.items():
        text = text.replace(f'"{name}"', number)
    if _DEEP in text:
        depth = draw.randint(700, 1000)
        text = text.replace(f'"{_DEEP}"', "[" * depth + "]" * depth)
    return text.encode()


def damaged_text_of(draw: random.Random, text: bytes) -> bytes:
    """The text of a JSON value, changed in its nodes or, one time in three, in its bytes."""
    if draw.random() < 1 / 3:
        return damaged_bytes(draw, text)
    return written(draw, damaged_json(draw, json.loads(text)))


def _change_node(draw: random.Random, whole: list[Any]) -> None:
    """Change one node of what stands in a list; a node is the likelier to be drawn the higher it stands."""
    node: Any = whole
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = draw.choice(keys)
        if not (isinstance(node[key], dict | list) and node[key]) or draw.random() < 0.2:
            break
        node = node[key]
    kind = draw.randrange(6)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[draw.choice([*_names(key), str(key) + "x", str(key)[:-1]])] = node.pop(key)
    elif kind == 1:
        node.insert(key, copy.deepcopy(node[key]))
    elif kind == 2 and len(keys) > 1:  # what stands elsewhere in the same container
        node[key] = copy.deepcopy(node[draw.choice(keys)])
    elif type(node[key]) is int and kind == 3:
        node[key] += draw.choice((-1, 1, 256))
    else:
        node[key] = copy.copy(draw.choice((*_VALUES, *_LONG, _DEEP)))  # a list of its own


def _names(key: Any) -> list[str]:
    return [str(key), *(value for value in _VALUES if isinstance(value, str))]


def _span(draw: random.Random, data: bytes) -> tuple[int, int]:
    start = draw.randint(0, len(data))
    return start, min(len(data), start + draw.choice((1, 1, 2, 8, 100)))


def _flip(draw: random.Random, data: bytes) -> bytes:
    place = draw.randrange(len(data) + 1)
    return (
        data[:place]
        + bytes(byte ^ 1 << draw.randrange(8) for byte in data[place : place + 1])
        + data[place + 1 :]
    )


def _set(draw: random.Random, data: bytes) -> bytes:
    place = draw.randrange(len(data) + 1)
    return data[:place] + draw.randbytes(1) + data[place + 1 :]


def _cut(draw: random.Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:start] + data[end:]


def _truncate(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randint(0, len(data))]


def _repeat(draw: random.Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:end] + data[start:]


def _move(draw: random.Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    rest = data[:start] + data[end:]
    place = draw.randint(0, len(rest))
    return rest[:place] + data[start:end] + rest[place:]


def _splice(draw: random.Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:start] + draw.choice(_WORDS) + data[draw.choice((start, end)) :]


_CHANGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(_flip, _set, _cut, _truncate, _repeat, _move),
    *(_splice, _splice, _splice),
)
