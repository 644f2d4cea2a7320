"""The tokenizer in tensors against the one in Python."""

import itertools
import random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bridge.tokenizer import ByteBPE, kinds, well_formed
from tests.support.hostile_texts import KINDS
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.tokenizer import Tokenizer, train_bpe
from valyrian_jax.tokenizer.pretokenizer import split_text

TEXT = "the dragon's wolves they're we've I'll  don't\n\n eat 12 ēdruta ȳdra " * 9
LETTERS = "abs  \n\t\u00a0\u3000'’ēll're'veldtm12é½漢🐉\u200d\u0301\x00\x85ȳ"


def tensor(data: bytes) -> torch.Tensor:
    return torch.tensor(list(data), dtype=torch.int64)


@pytest.fixture(scope="module")
def learnt() -> Tokenizer:
    return train_bpe(TEXT, 295)


@pytest.fixture(scope="module")
def ours(learnt: Tokenizer) -> ByteBPE:
    return ByteBPE(learnt)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(max_size=40).map(str.encode),
        st.text(LETTERS).map(str.encode),
    )
)
def test_ids_are_those_of_the_tokenizer_and_come_back(
    learnt: Tokenizer, ours: ByteBPE, data: bytes
) -> None:
    ids = ours.encode(tensor(data))
    assert ids.tolist() == learnt.encode_bytes(data)
    assert bytes(ours.decode(ids).tolist()) == data


def test_whole_texts_have_the_ids_of_the_tokenizer(valyrian: str, sources: str) -> None:
    for text, size in ((valyrian[:50_000], 500), (sources[:100_000], 1000)):
        learnt = train_bpe(text, size)
        assert ByteBPE(learnt).ordered
        assert ByteBPE(learnt).encode(tensor(text.encode())).tolist() == learnt.encode(text)


def cut(data: bytes) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bytes, and where the pieces in them begin and how long they are."""
    offsets = torch.from_numpy(split_text(data))
    return tensor(data), offsets[:-1], offsets.diff()


def test_pieces_that_repeat_are_merged_once(
    learnt: Tokenizer, ours: ByteBPE, script: Any, small: Bundle
) -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices(LETTERS, k=draw.randrange(1, 12))).encode() for _ in range(40)]
    words += [
        b"\0",
        b"\0\0",
        b"\xe2",
        b"\xff\xff",
        b" ",
        b"the dragon's" * 3,
        b" they" + b"e" * 5000,
    ]
    data = b"".join(draw.choices(words, k=3000))
    kind, example = kinds(*cut(data))
    assert len(example) < len(kind) / 4
    assert ours.encode(tensor(data)).tolist() == learnt.encode_bytes(data)
    text = data.decode("utf-8", "replace")
    assert script.encode(text) == small.tokenizer.encode(text)


def test_different_pieces_with_the_same_hash_stay_different(
    learnt: Tokenizer, ours: ByteBPE
) -> None:
    # The two are the same to every polynomial modulo 2^64 (Pachocki and Radoszewski 2013).
    thue_morse = bytes(b"et"[i.bit_count() % 2] for i in range(2048))
    data = (
        b"the dragon "
        + thue_morse
        + b" "
        + bytes(b"te"[i.bit_count() % 2] for i in range(2048))
        + b" "
        + thue_morse
    )
    kind, example = kinds(*cut(data))
    assert kind.tolist() == example.tolist() == list(range(5))
    ids = ours.encode(tensor(data))
    assert ids.tolist() == learnt.encode_bytes(data)
    assert kinds(*cut(b" ab ab a"))[0].tolist() in ([0, 0, 1], [1, 1, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_text_has_the_ids_of_the_tokenizer(kind: str, script: Any, small: Bundle) -> None:
    for size in (
        17,
        4000,
        9000,
    ):  # from 4096 on, pieces that repeat are looked for, and long ones go in blocks
        data = KINDS[kind](size)
        ids = script.bpe.encode(tensor(data))
        assert ids.tolist() == small.tokenizer.encode_bytes(data)
        assert bytes(script.bpe.decode(ids).tolist()) == data


@pytest.mark.parametrize("letters", ["aaab", "ab", "abcde", "abcdefghijklmnopqrstuvwxyz"])
def test_long_pieces_in_blocks_are_merged_as_a_whole(letters: str) -> None:
    draw = random.Random(0)
    runs = "".join(letter * draw.randrange(1, 40) for letter in draw.choices(letters, k=100))
    learnt = train_bpe(["".join(draw.choices(letters, k=10_000)), runs], 500)
    ours = ByteBPE(learnt)
    met = []
    unbroken = "".join(draw.choices(letters, k=2500))
    for text in (unbroken, runs + unbroken, letters * 100, letters[0] * 4000):
        data = tensor(text.encode())
        expected = learnt.encode(text)
        for block in (4, 32, 128, 1024):  # blocks shorter than a token need not meet
            ids = ours.merge_blocks(data, torch.zeros_like(data), block)
            met.append(ids.numel() > 0)
            assert ids[ids >= 0].tolist() in (expected, [])
        assert ours.merge_kinds(data, torch.zeros_like(data), 5000).ge(0).sum() == len(expected)
    assert met[3]
    assert not all(met)


def test_cuts_are_the_same_wherever_a_block_ends(ours: ByteBPE) -> None:
    draw = random.Random(0)
    parts = [part.encode() for part in ("🐉", "漢", "\u3000", " ", "a", "'ll", "'ve", "'s", "'")]
    data = b"".join(draw.choices([*parts, b"\xf0\x9f", b"\x80"], k=1 << 20))  # some 70 blocks
    assert torch.equal(torch.nonzero(ours.piece_starts(tensor(data))).flatten(), cut(data)[1])


def test_a_vocabulary_without_merges() -> None:
    ours = ByteBPE(train_bpe("", 257))
    assert ours.encode(tensor(b"abc")).tolist() == train_bpe("", 257).encode("abc")


def test_merges_out_of_order_are_applied_one_place_at_a_time() -> None:
    base = train_bpe("", 257)
    a, b, c, d = (base.byte_ids[ord(letter)] for letter in "abcd")
    tokens = (*base.tokens[:256], b"bc", b"abc", b"abcd", b"ab", b"aa")
    # abc is made twice, the second time after the merge that uses it.
    merges = ((b, c), (a, 256), (257, d), (a, b), (259, c), (a, a), (260, a))
    learnt = Tokenizer((*tokens, b"aaa", b"<|endoftext|>"), merges, {"<|endoftext|>": 262})
    ours = ByteBPE(learnt)
    assert not ours.ordered
    draw = random.Random(0)
    for _ in range(300):
        data = "".join(draw.choices("aabcd", k=draw.randrange(1, 30))).encode()
        assert ours.encode(tensor(data)).tolist() == learnt.encode_bytes(data), data


def test_malformed_utf8_is_replaced_as_python_replaces_it() -> None:
    edges = [
        0x00,
        0x41,
        0x7F,
        0x80,
        0x8F,
        0x90,
        0x9F,
        0xA0,
        0xBF,
        0xC0,
        0xC1,
        0xC2,
        0xDF,
        0xE0,
        0xE1,
        0xEC,
        0xED,
        0xEE,
    ]
    edges += [0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF]
    pairs = itertools.product(range(256), repeat=2)
    data = b"A".join(
        bytes(sequence) for sequence in itertools.chain(pairs, itertools.product(edges, repeat=4))
    )
    for begin in (0, 1):  # what stands at the very ends counts too
        found = bytes(well_formed(tensor(data[begin : len(data) - begin])).tolist())
        assert found == data[begin : len(data) - begin].decode("utf-8", "replace").encode()
    for short in (b"", b"\xe2", b"\xf0\x90\x80", b"\x80", "ē".encode()):
        assert (
            bytes(well_formed(tensor(short)).tolist()) == short.decode("utf-8", "replace").encode()
        )
