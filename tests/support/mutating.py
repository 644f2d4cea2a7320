"""Random damage to bytes and to JSON values; damage to values gets past the parser.

All randomness comes from a `random.Random`, so the same seed does the same damage.
"""

import copy
import json
import math
import random
from collections.abc import Callable
from typing import Any

# Byte strings that parsers often mishandle; they are inserted anywhere into a text.
_WORDS = (
    *(b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"9" * 5000, b"1" + b"0" * 30),
    *(b"0x" + b"f" * 5000, b"1_0", b"1.5"),
    *(b"[" * 2000, b'{"a":' * 2000, b"[" * 400 + b"]" * 400, b".a" * 1200),
    *(b'"\\ud800"', b"\\u0000", b'""', b'"', b"\\"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"\n", b"\r", b"\x85", "\u2028".encode()),
    *(b"\x1b[31m", b"\xed\xa0\x80"),
    *(b"../", b"/etc/passwd", b"null", b"true", b"{}", b"[]", b",", b":", b"=", b".", b" ", b"#"),
    b"[[x]]",
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 2**31, 2**32 - 1, 2**63, 2**64, 10**12, 10**400, -(10**400)),
    *(0.5, 1.0, -0.0, 1e-300, 1e308, math.inf, -math.inf, math.nan),
    *("", "a", "0", "\0", "\ud800", "\u2028", "\x1b[31m", "Ġ", "a b", "..", "../x", "/etc/passwd"),
    "x" * 300,
    *("<|endoftext|>", "I32", "F16", [], {}, [[]], [0], [None], ["a", "b"], {"": 0}, {"a": {}}),
)
# Placeholders for numbers and nested lists that `json.dumps` cannot write; `to_json` fills them in.
_LONG = {"@digits": "9" * 5000, "@largest": "-" + "9" * 4300, "@hexadecimal": "0x" + "f" * 5000}
_DEEP = "@deep"


def damage_bytes(draw: random.Random, data: bytes) -> bytes:
    """Change the data in one, two or four ways."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        data = draw.choice(_CHANGES)(draw, data)
    return data


def damage_json(draw: random.Random, value: Any) -> Any:
    """Change one to three nodes of a JSON value in place, and return it."""
    root = [value]
    for _ in range(draw.choice((1, 1, 2, 3))):
        _change_node(draw, root)
    return root[0] if root else None


def to_json(draw: random.Random, value: Any) -> bytes:
    """Write a value as JSON, and fill in the placeholders of `damage_json`."""
    text = json.dumps(value)
    for name, number in _LONG.items():
        text = text.replace(f'"{name}"', number)
    if _DEEP in text:
        depth = draw.randint(700, 1000)
        text = text.replace(f'"{_DEEP}"', "[" * depth + "]" * depth)
    return text.encode()


def damage_json_text(draw: random.Random, text: bytes) -> bytes:
    """Change the nodes of a JSON text or, one time in three, its bytes."""
    if draw.random() < 1 / 3:
        return damage_bytes(draw, text)
    return to_json(draw, damage_json(draw, json.loads(text)))


def _change_node(draw: random.Random, root: list[Any]) -> None:
    """Change one node below a root; nodes near the root are more likely."""
    node: Any = root
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
        node[draw.choice([*_new_keys(key), str(key) + "x", str(key)[:-1]])] = node.pop(key)
    elif kind == 1:
        node.insert(key, copy.deepcopy(node[key]))
    elif kind == 2 and len(keys) > 1:  # a copy of a value of the same container
        node[key] = copy.deepcopy(node[draw.choice(keys)])
    elif type(node[key]) is int and kind == 3:
        node[key] += draw.choice((-1, 1, 256))
    else:  # copied, because later changes happen in place
        node[key] = copy.copy(draw.choice((*_VALUES, *_LONG, _DEEP)))


def _new_keys(key: Any) -> list[str]:
    return [str(key), *(value for value in _VALUES if isinstance(value, str))]


def _draw_span(draw: random.Random, data: bytes) -> tuple[int, int]:
    start = draw.randint(0, len(data))
    return start, min(len(data), start + draw.choice((1, 1, 2, 8, 100)))


def _flip_bit(draw: random.Random, data: bytes) -> bytes:
    index = draw.randrange(len(data) + 1)
    flipped = bytes(byte ^ 1 << draw.randrange(8) for byte in data[index : index + 1])
    return data[:index] + flipped + data[index + 1 :]


def _set_byte(draw: random.Random, data: bytes) -> bytes:
    index = draw.randrange(len(data) + 1)
    return data[:index] + draw.randbytes(1) + data[index + 1 :]


def _delete_span(draw: random.Random, data: bytes) -> bytes:
    start, end = _draw_span(draw, data)
    return data[:start] + data[end:]


def _truncate(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randint(0, len(data))]


def _repeat_span(draw: random.Random, data: bytes) -> bytes:
    start, end = _draw_span(draw, data)
    return data[:end] + data[start:]


def _move_span(draw: random.Random, data: bytes) -> bytes:
    start, end = _draw_span(draw, data)
    rest = data[:start] + data[end:]
    index = draw.randint(0, len(rest))
    return rest[:index] + data[start:end] + rest[index:]


def _insert_word(draw: random.Random, data: bytes) -> bytes:
    start, end = _draw_span(draw, data)
    return data[:start] + draw.choice(_WORDS) + data[draw.choice((start, end)) :]


_CHANGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(_flip_bit, _set_byte, _delete_span, _truncate, _repeat_span, _move_span),
    *(_insert_word, _insert_word, _insert_word),  # more likely than the others
)
