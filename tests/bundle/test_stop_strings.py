"""A text ends before the first stop string in its bytes, whatever its tokens are."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast, StopStringCriteria

from valyrian_jax.bundle.text_generation import (
    StopScanner,
    decode_tokens,
    generate_texts,
    stream_text,
)
from valyrian_jax.config import SampleConfig
from valyrian_jax.tokenizer import train_bpe

TOKENIZER = train_bpe("abab ab. ab. ñuha ñuha" * 9, 264)
END = TOKENIZER.end_of_text


def cut_slowly(data: bytes, stop: Sequence[bytes]) -> bytes:
    """Return the bytes before the stop string that is complete first, adding a byte at a time."""
    for end in range(len(data) + 1):
        complete = [text for text in stop if data[:end].endswith(text)]
        if complete:
            return data[: end - max(map(len, complete))]
    return data


def read(ids: Sequence[int], stop: Sequence[str]) -> str:
    return "".join(stream_text(TOKENIZER, ids, stop))


TOKENS = st.lists(st.integers(0, 263), max_size=12) | st.text("ab. ñ", max_size=12).map(
    TOKENIZER.encode
)
STOP = st.lists(st.text("ab. ñ", min_size=1, max_size=4), max_size=3)


@given(TOKENS, STOP)
def test_a_text_ends_where_it_does_byte_by_byte(ids: list[int], stop: list[str]) -> None:
    data = b"".join(TOKENIZER.decode_bytes([i]) for i in ids if i != END)
    ids = [i for i in ids if i != END]
    expected = cut_slowly(data, [text.encode() for text in stop])
    assert read(ids, stop) == expected.decode("utf-8", "replace")
    assert b"".join(decode_tokens(TOKENIZER, ids, stop)) == expected


@given(st.binary(max_size=12).map(lambda data: bytes(97 + b % 3 for b in data)), STOP)
def test_only_bytes_that_could_become_a_stop_string_are_held(data: bytes, stop: list[str]) -> None:
    scanner, released = StopScanner(stop), b""
    for i in range(len(data)):
        released += scanner.add(data[i : i + 1])
        if scanner.has_stopped:
            break
        held = data[len(released) : i + 1]
        beginnings = {text.encode()[:n] for text in stop for n in range(1, len(text.encode()))}
        assert not held or held in beginnings
        assert not any(data[start : i + 1] in beginnings for start in range(len(released)))


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("aaab", ["aab"], "a"),
        ("abcabd", ["abd"], "abc"),
        ("xabcd", ["abcd", "bc"], "xa"),  # bc is complete first.
        ("xabc", ["bc", "abc"], "x"),  # Both end together: the longer one counts.
        ("ab. ab.", ["."], "ab"),
        ("ab", ["abc"], "ab"),
        ("ñuha", ["uh"], "ñ"),
        ("a🐉b", ["🐉"], "a"),
        ("", ["a"], ""),
        ("a", ["a"], ""),
        ("line\n\nnext", ["\n\n"], "line"),
        ("<|endoftext|>a", ["<|endoftext|>"], ""),  # ordinary text
    ],
)
def test_the_text_ends_before_the_first_stop_string(
    text: str, stop: list[str], expected: str
) -> None:
    assert read(TOKENIZER.encode(text), stop) == expected
    assert read(TOKENIZER.encode_bytes(text.encode()), stop) == expected
    bytes_alone = [TOKENIZER.byte_ids[b] for b in text.encode()]
    assert read(bytes_alone, stop) == expected


def test_the_first_stop_string_does_not_depend_on_chunks() -> None:
    for chunks in ([b"xabcd"], [b"xab", b"cd"], [b"xabc", b"d"]):
        scanner = StopScanner(["abcd", "bc"])
        released = b""
        for chunk in chunks:
            released += b"" if scanner.has_stopped else scanner.add(chunk)
        assert (released, scanner.has_stopped, scanner.finish()) == (b"xa", True, b"")


def test_malformed_bytes_before_a_stop_string_are_replaced() -> None:
    ids = [TOKENIZER.byte_ids[b] for b in b"a\xc4.b"]
    assert read(ids, ["."]) == "a\ufffd"
    assert read(ids, ["\ufffd"]) == "a\ufffd.b"  # It is not in the bytes.
    assert [*decode_tokens(TOKENIZER, ids, ["."])] == [b"a", b"\xc4"]


def test_tokens_are_shown_whole_but_for_the_last() -> None:
    ids = TOKENIZER.encode("ab. ab")
    assert max(map(len, decode_tokens(TOKENIZER, ids))) > 1
    whole = [*decode_tokens(TOKENIZER, ids)]
    shown = [*decode_tokens(TOKENIZER, ids, ["b. a"])]
    assert b"".join(shown) == b"a"
    assert [*decode_tokens(TOKENIZER, ids, ["never"])] == whole


def test_text_streams_as_soon_as_it_cannot_become_a_stop_string() -> None:
    read_ids: list[int] = []

    def arrive(text: str) -> Iterator[int]:
        for i in (TOKENIZER.byte_ids[b] for b in text.encode()):
            read_ids.append(i)
            yield i

    pieces = stream_text(TOKENIZER, arrive("xaab!..."), ["aac", "!"])
    seen = [(piece, len(read_ids)) for piece in pieces if piece]
    assert seen == [("x", 1), ("aab", 4)]
    assert len(read_ids) == 5  # Nothing is read after the stop string.


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    TOKENIZER.save(file)
    return PreTrainedTokenizerFast(tokenizer_file=str(file))


@settings(max_examples=50)
@given(st.text("ab.", min_size=1, max_size=8), st.text("ab.", min_size=1, max_size=3))
def test_transformers_stops_at_the_same_token(
    reference: PreTrainedTokenizerFast, text: str, stop: str
) -> None:
    ids, criterion = TOKENIZER.encode(text), StopStringCriteria(reference, [stop])
    scanner = StopScanner([stop])
    for count, i in enumerate(ids, 1):
        scanner.add(TOKENIZER.decode_bytes([i]))
        assert scanner.has_stopped == bool(criterion(torch.tensor([ids[:count]]), None)[0])
        if scanner.has_stopped:
            break


def generate(
    prompts: Sequence[Sequence[int]], seeds: Sequence[int], sample: SampleConfig
) -> Iterator[np.ndarray]:
    """Yield in row r the bytes of a text that depends on its seed."""
    texts = [f"{seed}ab.{seed}b".encode() * 50 for seed in seeds]
    for i in range(sample.max_new_tokens):
        yield np.array([TOKENIZER.byte_ids[text[i]] for text in texts], np.int32)


def test_each_row_ends_at_its_own_stop_string_which_a_prompt_does_not_contain() -> None:
    sample = SampleConfig(max_new_tokens=20, stop=("b.2", "7"))
    texts = generate_texts(generate, TOKENIZER, ["b.", "ñ7", ""], [2, 1, 37], sample, batch_size=2)
    assert texts == ["b.2a", "ñ7" + ("1ab.1b" * 4)[:20], "3"]
