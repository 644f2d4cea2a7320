"""The tokenizer in tensors against the one in Python."""

import itertools
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bridge.text import ByteBPE, well_formed
from valyrian_jax.tokenizer import Tokenizer, train_bpe

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


@given(st.one_of(st.binary(max_size=60), st.text(max_size=40).map(str.encode), st.text(LETTERS).map(str.encode)))
def test_ids_are_those_of_the_tokenizer_and_come_back(learnt: Tokenizer, ours: ByteBPE, data: bytes) -> None:
    ids = ours.encode(tensor(data))
    assert ids.tolist() == learnt.encode_bytes(data)
    assert bytes(ours.decode(ids).tolist()) == data


def test_whole_texts_have_the_ids_of_the_tokenizer(valyrian: str, sources: str) -> None:
    for text, size in ((valyrian[:50_000], 500), (sources[:100_000], 1000)):
        learnt = train_bpe(text, size)
        assert ByteBPE(learnt).ordered
        assert ByteBPE(learnt).encode(tensor(text.encode())).tolist() == learnt.encode(text)


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
    edges = [0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE]
    edges += [0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF]
    pairs = itertools.product(range(256), repeat=2)
    data = b"A".join(bytes(sequence) for sequence in itertools.chain(pairs, itertools.product(edges, repeat=4)))
    for begin in (0, 1):  # what stands at the very ends counts too
        found = bytes(well_formed(tensor(data[begin : len(data) - begin])).tolist())
        assert found == data[begin : len(data) - begin].decode("utf-8", "replace").encode()
    for short in (b"", b"\xe2", b"\xf0\x90\x80", b"\x80", "ē".encode()):
        assert bytes(well_formed(tensor(short)).tolist()) == short.decode("utf-8", "replace").encode()
