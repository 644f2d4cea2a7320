"""The tokenizer in tensors gives the ids of the tokenizer in Python."""

import itertools
import random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bridge.tokenizer import ByteBPE, group_equal_pieces, replace_malformed
from tests.support.hostile_texts import HOSTILE_TEXTS
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.tokenizer import Tokenizer, train_bpe
from valyrian_jax.tokenizer.pretokenizer import split_text

TEXT = "the dragon's wolves they're we've I'll  don't\n\n eat 12 ēdruta ȳdra " * 9
LETTERS = "abs  \n\t\u00a0\u3000'’ēll're'veldtm12é½漢🐉\u200d\u0301\x00\x85ȳ"


def to_tensor(data: bytes) -> Tensor:
    return torch.tensor(list(data), dtype=torch.int64)


def split(data: bytes) -> tuple[Tensor, Tensor, Tensor]:
    """Return the bytes, and the start and the length of every piece."""
    offsets = torch.from_numpy(split_text(data))
    return to_tensor(data), offsets[:-1], offsets.diff()


@pytest.fixture(scope="module")
def reference() -> Tokenizer:
    return train_bpe(TEXT, 295)


@pytest.fixture(scope="module")
def bpe(reference: Tokenizer) -> ByteBPE:
    return ByteBPE(reference)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(max_size=40).map(str.encode),
        st.text(LETTERS).map(str.encode),
    )
)
def test_any_bytes_have_the_ids_of_the_tokenizer_and_round_trip(
    reference: Tokenizer, bpe: ByteBPE, data: bytes
) -> None:
    ids = bpe.encode(to_tensor(data))
    assert ids.tolist() == reference.encode_bytes(data)
    assert bytes(bpe.decode(ids).tolist()) == data


@given(st.lists(st.text(LETTERS, max_size=30), min_size=1, max_size=6), st.sampled_from([1, 300]))
def test_texts_encoded_at_once_have_the_ids_of_each_alone(
    reference: Tokenizer, bpe: ByteBPE, texts: list[str], copies: int
) -> None:
    texts = texts * copies  # More than 4,096 bytes are encoded in another way.
    data = to_tensor("".join(text + "\n" for text in texts).encode())
    sizes = torch.tensor([len(text.encode()) + 1 for text in texts])
    ids, ends = bpe.encode_lines(data, sizes.cumsum(0) - 1)
    begins = [0, *(ends + 1).tolist()]
    for text, begin, end in zip(texts, begins, ends.tolist(), strict=False):
        assert ids[begin:end].tolist() == reference.encode(text)


def test_whole_texts_have_the_ids_of_the_tokenizer(valyrian: str, sources: str) -> None:
    for text, size in ((valyrian[:50_000], 500), (sources[:100_000], 1000)):
        tokenizer = train_bpe(text, size)
        bpe = ByteBPE(tokenizer)
        assert bpe.is_ordered
        assert bpe.encode(to_tensor(text.encode())).tolist() == tokenizer.encode(text)


def test_repeated_pieces_have_the_ids_of_the_tokenizer(
    reference: Tokenizer, bpe: ByteBPE, script: Any, small: Bundle
) -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices(LETTERS, k=rng.randrange(1, 12))).encode() for _ in range(40)]
    words += [b"\0", b"\0\0", b"\xe2", b"\xff\xff", b" ", b"the dragon's" * 3]
    words += [b" they" + b"e" * 5000]
    data = b"".join(rng.choices(words, k=3000))
    group, example = group_equal_pieces(*split(data))
    assert len(example) < len(group) / 4
    assert bpe.encode(to_tensor(data)).tolist() == reference.encode_bytes(data)
    text = data.decode("utf-8", "replace")
    assert script.encode(text) == small.tokenizer.encode(text)


def test_different_pieces_with_the_same_hash_stay_different(
    reference: Tokenizer, bpe: ByteBPE
) -> None:
    # Every polynomial modulo 2^64 gives these two words the same hash (Pachocki, Radoszewski 2013).
    parities = [i.bit_count() % 2 for i in range(2048)]
    thue_morse, inverse = bytes(b"et"[i] for i in parities), bytes(b"te"[i] for i in parities)
    data = b"the dragon " + thue_morse + b" " + inverse + b" " + thue_morse
    group, example = group_equal_pieces(*split(data))
    assert group.tolist() == example.tolist() == list(range(5))
    assert bpe.encode(to_tensor(data)).tolist() == reference.encode_bytes(data)
    assert group_equal_pieces(*split(b" ab ab a"))[0].tolist() in ([0, 0, 1], [1, 1, 0])


@pytest.mark.parametrize("kind", HOSTILE_TEXTS)
def test_hostile_text_has_the_ids_of_the_tokenizer(kind: str, script: Any, small: Bundle) -> None:
    for size in (17, 4000, 9000):  # from 4096 on: grouped pieces, and long ones in blocks
        data = HOSTILE_TEXTS[kind](size)
        ids = script.bpe.encode(to_tensor(data))
        assert ids.tolist() == small.tokenizer.encode_bytes(data)
        assert bytes(script.bpe.decode(ids).tolist()) == data


@pytest.mark.parametrize("letters", ["aaab", "ab", "abcde", "abcdefghijklmnopqrstuvwxyz"])
def test_merging_in_blocks_gives_the_ids_of_merging_at_once(letters: str) -> None:
    rng = random.Random(0)
    repeats = "".join(letter * rng.randrange(1, 40) for letter in rng.choices(letters, k=100))
    tokenizer = train_bpe(["".join(rng.choices(letters, k=10_000)), repeats], 500)
    bpe = ByteBPE(tokenizer)
    agreed = []
    unbroken = "".join(rng.choices(letters, k=2500))
    for text in (unbroken, repeats + unbroken, letters * 100, letters[0] * 4000):
        data = to_tensor(text.encode())
        expected = tokenizer.encode(text)
        for block in (4, 32, 128, 1024):  # blocks shorter than a token need not agree
            ids = bpe.merge_blocks(data, torch.zeros_like(data), block)
            agreed.append(ids.numel() > 0)
            assert ids[ids >= 0].tolist() in (expected, [])
        ids = bpe.merge_pieces(data, torch.zeros_like(data), 5000)
        assert ids.ge(0).sum() == len(expected)
    assert agreed[3]
    assert not all(agreed)


def test_piece_starts_do_not_depend_on_where_a_block_ends(bpe: ByteBPE) -> None:
    rng = random.Random(0)
    texts = [text.encode() for text in ("🐉", "漢", "\u3000", " ", "a", "'ll", "'ve", "'s", "'")]
    data = b"".join(rng.choices([*texts, b"\xf0\x9f", b"\x80"], k=1 << 20))  # about 70 blocks
    starts = torch.nonzero(bpe.find_piece_starts(to_tensor(data))).flatten()
    assert torch.equal(starts, split(data)[1])


def test_a_vocabulary_without_merges_encodes_bytes() -> None:
    tokenizer = train_bpe("", 257)
    assert ByteBPE(tokenizer).encode(to_tensor(b"abc")).tolist() == tokenizer.encode("abc")


def test_merges_out_of_order_give_the_ids_of_the_tokenizer() -> None:
    base = train_bpe("", 257)
    a, b, c, d = (base.byte_ids[ord(letter)] for letter in "abcd")
    tokens = (*base.tokens[:256], b"bc", b"abc", b"abcd", b"ab", b"aa")
    # Two merges create abc, and the second one comes after the merge that uses abc.
    merges = ((b, c), (a, 256), (257, d), (a, b), (259, c), (a, a), (260, a))
    tokenizer = Tokenizer((*tokens, b"aaa", b"<|endoftext|>"), merges, {"<|endoftext|>": 262})
    bpe = ByteBPE(tokenizer)
    assert not bpe.is_ordered
    rng = random.Random(0)
    for _ in range(300):
        data = "".join(rng.choices("aabcd", k=rng.randrange(1, 30))).encode()
        assert bpe.encode(to_tensor(data)).tolist() == tokenizer.encode_bytes(data), data


def test_malformed_utf8_is_replaced_as_in_python() -> None:
    # The first and the last byte of every range that UTF-8 distinguishes.
    edges = bytes.fromhex("00417F808F909FA0BFC0C1C2DFE0E1ECEDEEEFF0F1F3F4F5FF")
    sequences = [*itertools.product(range(256), repeat=2), *itertools.product(edges, repeat=4)]
    data = b"A".join(map(bytes, sequences))
    texts = [data, data[1:-1], b"", b"\xe2", b"\xf0\x90\x80", b"\x80", "ē".encode()]
    for text in texts:
        replaced = bytes(replace_malformed(to_tensor(text)).tolist())
        assert replaced == text.decode("utf-8", "replace").encode()
