"""GGUF files of llama.cpp's converter become bundles; damaged and hostile ones end in one line."""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as StorageType
from gguf import TokenType

from bridge.gguf import export as gguf_export
from bridge.importers.gpt2 import ImportedModel, read_gpt2
from tests.support.fuzzing import limit_memory, limit_time
from tests.support.gguf_files import GgufParts, encode_string, pack, unpack
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.errors import UserError

ARRAY, STRING, UINT8 = 9, 8, 0
TOKENS, TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"


@pytest.fixture(scope="module")
def tied(make: Callable[..., Bundle]) -> Bundle:
    return make(tie_word_embeddings=True)


@pytest.fixture(scope="module")
def content(tied: Bundle, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of the tied model."""
    directory = tmp_path_factory.mktemp("gguf")
    save_bundle(tied, directory / "bundle")
    gguf_export.write(directory / "bundle", directory / "model.gguf")
    return (directory / "model.gguf").read_bytes()


@pytest.fixture
def foreign(content: bytes) -> GgufParts:
    """The same as llama.cpp's converter writes it: without keys of ours."""
    parts = unpack(content)
    for key in [key for key in parts.entries if key.startswith(("valyrian.", "general.sampling"))]:
        del parts.entries[key]
    return parts


def read(parts: GgufParts | bytes, directory: Path) -> ImportedModel:
    path = directory / "model.gguf"
    path.write_bytes(parts if isinstance(parts, bytes) else pack(parts))
    return read_gpt2(path)


def add_tensor(parts: GgufParts, name: str, tensor: np.ndarray[Any, Any]) -> None:
    parts.tensors.append((name, tensor.shape[::-1], StorageType.F32, len(parts.data)))
    parts.data += tensor.tobytes() + bytes(-tensor.nbytes % 32)


def replace_table(parts: GgufParts, tensor: np.ndarray[Any, Any]) -> None:
    parts.tensors = [info for info in parts.tensors if info[0] != "token_embd.weight"]
    add_tensor(parts, "token_embd.weight", tensor)


def test_a_file_of_the_converter_gives_the_same_bundle(
    foreign: GgufParts, tied: Bundle, tmp_path: Path
) -> None:
    bundle, notes = read(foreign, tmp_path)
    assert notes == ()
    assert bundle.model == replace(tied.model, init_std=0.02)
    assert bundle.tokenizer == tied.tokenizer
    assert bundle.manifest == {"imported_from": "model"}
    del foreign.entries[TYPES], foreign.entries["tokenizer.ggml.pre"]  # as older files
    assert read(foreign, tmp_path).bundle.tokenizer == tied.tokenizer
    for name, tensor in tied.tensors.items():
        assert np.array_equal(bundle.tensors[name], tensor), name


def test_a_head_that_equals_the_embedding_is_tied_and_another_one_is_not(
    foreign: GgufParts, tied: Bundle, tmp_path: Path
) -> None:
    table = tied.tensors["transformer.wte.weight"]
    add_tensor(foreign, "output.weight", table)
    assert read(foreign, tmp_path).bundle.tensors.keys() == tied.tensors.keys()
    foreign.tensors.pop()
    add_tensor(foreign, "output.weight", table + 1)
    bundle, notes = read(foreign, tmp_path)
    assert np.array_equal(bundle.tensors["lm_head.weight"], table + 1)
    assert not bundle.model.tie_word_embeddings
    assert notes == ("the head differs from the token embedding, so the two are not tied",)


def test_unused_tokens_are_cut_and_added_ones_are_special(
    foreign: GgufParts, tied: Bundle, tmp_path: Path
) -> None:
    parts, table = foreign, tied.tensors["transformer.wte.weight"]
    tokens = [*unpack_strings(parts, TOKENS), "<user>", "[PAD301]", "[PAD302]", "[PAD303]"]
    types = [TokenType.NORMAL] * 299 + [TokenType.CONTROL, TokenType.USER_DEFINED]
    parts.set(TOKENS, tokens)
    parts.set(TYPES, [*map(int, types), *[int(TokenType.UNUSED)] * 3])
    replace_table(parts, np.concatenate([table, table[:4] + 1]))
    bundle, notes = read(parts, tmp_path)
    assert bundle.tokenizer.special == {"<|endoftext|>": 299, "<user>": 300}
    assert np.array_equal(bundle.tensors["transformer.wte.weight"][300], table[0] + 1)
    assert bundle.model.vocab_size == 301
    assert [note[:40] for note in notes] == ["cut 3 rows of padding from the vocabular"]


def unpack_strings(parts: GgufParts, key: str) -> list[str]:
    data, strings, position = parts.entries[key][1], [], 12
    while position < len(data):
        size = struct.unpack_from("<Q", data, position)[0]
        strings.append(data[position + 8 : position + 8 + size].decode())
        position += 8 + size
    return strings


def test_bfloat16_is_read(foreign: GgufParts, tied: Bundle, tmp_path: Path) -> None:
    table = tied.tensors["transformer.wte.weight"]
    replace_table(foreign, table)
    name, dimensions, _, offset = foreign.tensors.pop()
    foreign.tensors.append((name, dimensions, StorageType.BF16, offset))
    upper = (table.view(np.uint32) >> 16).astype(np.uint16)
    foreign.data = foreign.data[:offset] + upper.tobytes()
    expected = (upper.astype(np.uint32) << 16).view(np.float32)
    bundle = read(foreign, tmp_path).bundle
    assert np.array_equal(bundle.tensors["transformer.wte.weight"], expected)


def test_a_tokenizer_can_be_passed_instead(
    foreign: GgufParts, tied: Bundle, directory: Path, tmp_path: Path
) -> None:
    foreign.set("tokenizer.ggml.pre", "llama-bpe")
    with pytest.raises(UserError, match="pre = llama-bpe, expected gpt-2; pass another"):
        read(foreign, tmp_path)
    assert read_gpt2(tmp_path / "model.gguf", directory).bundle.tokenizer == tied.tokenizer


Edit = Callable[[GgufParts], Any]


def set_tensor(index: int, **changes: Any) -> Edit:
    def edit(parts: GgufParts) -> None:
        fields = dict(zip(("name", "dims", "code", "offset"), parts.tensors[index], strict=True))
        name, dims, code, offset = (fields | changes).values()
        parts.tensors[index] = (name, dims, code, offset)

    return edit


def set_entry(key: str, value: Any) -> Edit:
    return lambda parts: parts.set(key, value)


def set_raw(key: str, code: int, data: bytes) -> Edit:
    return lambda parts: parts.entries.update({key: (code, data)})


def set_field(**changes: Any) -> Edit:
    return lambda parts: vars(parts).update(changes)


HOSTILE: dict[str, tuple[Edit, str]] = {
    "llama": (set_entry("general.architecture", "llama"), "= llama, expected gpt2; only GPT-2"),
    "an architecture that is a list": (set_entry("general.architecture", [1]), "expected gpt2"),
    "no architecture": (lambda p: p.entries.pop("general.architecture"), "= none, expected gpt2"),
    "a part of a split": (set_entry("split.count", 2), "merge the files"),
    "a list of splits": (set_entry("split.count", [1, 1]), "split.count"),
    "version 1": (set_field(version=1), "expected version 2 or 3, found 1"),
    "big-endian": (set_field(version=3 << 24), "big-endian"),
    "2^40 entries": (set_field(counts=(1, 2**40)), "entries, found 1,099,511,627,776"),
    "2^63 tensors": (set_field(counts=(2**63, 1)), "tensors, found"),
    "more entries than there are": (set_field(counts=(0, 9999)), "not a supported GGUF file"),
    "a string of 2^60 bytes": (set_raw("a", STRING, struct.pack("<Q", 2**60)), "cut off"),
    "a key of 2,000 bytes": (set_entry("a" * 2000, 1), "name of a key has 2,000"),
    "a string that is not UTF-8": (set_raw("a", STRING, encode_string(b"\xff")), "not UTF-8"),
    "2^62 numbers": (set_raw("a", ARRAY, struct.pack("<IQ", 10, 2**62)), "cut off"),
    "2^62 strings": (set_raw("a", ARRAY, struct.pack("<IQ", STRING, 2**62)), "strings, expected"),
    "a million empty strings": (
        set_raw("a", ARRAY, struct.pack("<IQ", STRING, 1 + (1 << 20)) + bytes(9 << 20)),
        "strings, expected at most",
    ),
    "2,000 nested lists": (
        set_raw("a", ARRAY, struct.pack("<IQ", ARRAY, 1) * 2000),
        "a value of type 9",
    ),
    "a value of type 77": (set_raw("a", 77, b""), "a value of type 77"),
    "an alignment of 0": (set_entry("general.alignment", 0), "general.alignment is 0"),
    "an alignment of 24": (set_entry("general.alignment", 24), "general.alignment is 24"),
    "an alignment of 2^31": (set_entry("general.alignment", 2**31), "general.alignment is 2147"),
    "an alignment that is a list": (set_entry("general.alignment", [32]), "general.alignment"),
    "no blocks": (set_entry("gpt2.block_count", 0), "gpt2.block_count"),
    "4 billion blocks": (set_entry("gpt2.block_count", 2**32 - 1), "gpt2.block_count"),
    "blocks as a list": (set_entry("gpt2.block_count", [2, 2]), "gpt2.block_count: expected"),
    "blocks as a string": (set_entry("gpt2.block_count", "2"), "gpt2.block_count: expected"),
    "another number of blocks": (set_entry("gpt2.block_count", 1), "is damaged|do not fit"),
    "heads that do not divide": (set_entry("gpt2.attention.head_count", 5), "must divide"),
    "an MLP of another width": (set_entry("gpt2.feed_forward_length", 5), "expected 96"),
    "an MLP that is a list": (set_entry("gpt2.feed_forward_length", [96, 96]), "expected 96"),
    "fewer heads of keys": (set_entry("gpt2.attention.head_count_kv", 1), "expected 3"),
    "an epsilon of NaN": (
        set_entry("gpt2.attention.layer_norm_epsilon", float("nan")),
        "epsilon",
    ),
    "an epsilon of 0": (set_entry("gpt2.attention.layer_norm_epsilon", 0.0), "epsilon"),
    "an integer as epsilon": (set_entry("gpt2.attention.layer_norm_epsilon", 1), "epsilon"),
    "a context of 2^32 - 1": (set_entry("gpt2.context_length", 2**32 - 1), "damaged|do not fit"),
    "a tensor twice": (lambda p: p.tensors.append(p.tensors[0]), "occurs twice"),
    "an unknown tensor": (set_tensor(4, name="blk.0.attn_q.weight"), "do not fit"),
    "no embedding": (set_tensor(0, name="rope_freqs.weight"), "has no token_embd.weight"),
    "no axes": (set_tensor(0, dims=[]), "has 0 axes"),
    "2^32 - 1 axes": (set_tensor(0, dims=[1] * 5), "has 5 axes"),
    "a size of 0": (set_tensor(0, dims=[0, 300]), "expected positive sizes"),
    "sizes whose product overflows": (set_tensor(0, dims=[2**32, 2**32]), "within its"),
    "2^63 rows": (set_tensor(0, dims=[24, 2**63]), "within its"),
    "another shape": (set_tensor(0, dims=[300, 24]), "vocab_size = 24"),
    "a type that is not read": (set_tensor(0, code=StorageType.Q4_K), "has the type Q4_K"),
    "a type that nobody knows": (set_tensor(0, code=999), "has the type 999"),
    "rows that are not whole blocks": (set_tensor(0, code=StorageType.Q8_0), "multiple of 32"),
    "an offset past the end": (set_tensor(0, offset=2**62), "within its"),
    "an offset that wraps around": (set_tensor(0, offset=2**64 - 32), "within its"),
    "an offset between": (set_tensor(1, offset=33), "multiple of 32"),
    "two tensors that share bytes": (set_tensor(1, offset=32), "share bytes"),
    "a cut file": (lambda p: set_field(data=p.data[:-1])(p), "within its"),
    "numbers that are not finite": (lambda p: set_field(data=b"\xff" * len(p.data))(p), "finite"),
    "another tokenizer": (set_entry("tokenizer.ggml.model", "llama"), "= llama, expected gpt2"),
    "no tokenizer": (lambda p: p.entries.pop("tokenizer.ggml.model"), "= none, expected gpt2"),
    "no tokens": (lambda p: p.entries.pop(TOKENS), f"{TOKENS}: expected a list of strings"),
    "a token": (set_entry(TOKENS, "a"), f"{TOKENS}: expected a list of strings"),
    "types of other tokens": (set_entry(TYPES, [1] * 299), TYPES),
    "types that are strings": (set_entry(TYPES, ["1"] * 300), TYPES),
    "types that are fractions": (
        set_raw(TYPES, ARRAY, struct.pack("<IQ", 6, 300) + bytes(1200)),
        TYPES,
    ),
    "only unused tokens": (set_entry(TYPES, [5] * 300), "single bytes have no token"),
    "one token 300 times": (set_entry(TOKENS, ["a"] * 300), "each once"),
    "merges that are numbers": (set_entry("tokenizer.ggml.merges", [1]), "merges: expected"),
    "merges of unknown tokens": (set_entry("tokenizer.ggml.merges", ["a zzz"]), "not in the voc"),
    "a merge of one token": (set_entry("tokenizer.ggml.merges", ["a"]), "not a byte-level BPE"),
    "another config": (set_entry("valyrian.config", "{}"), "config.json"),
    "a config that is a list": (set_entry("valyrian.config", "[]"), "expected a JSON object"),
    "a config that is a number": (set_entry("valyrian.config", 1), "expected a JSON object"),
    "a config that is not JSON": (set_entry("valyrian.config", "[" * 10**6), "is not JSON"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    edit, match = HOSTILE[name]
    parts = unpack(content)
    edit(parts)
    with limit_memory(), limit_time(), pytest.raises(UserError, match=match) as error_info:
        read(parts, tmp_path)
    assert len(str(error_info.value)) < 3000
    assert "\n" not in str(error_info.value)


def test_a_config_that_disagrees_with_the_keys_of_llama_cpp_is_refused(
    content: bytes, tmp_path: Path
) -> None:
    changed = content.replace(b'"n_positions": 24', b'"n_positions": 25')
    with pytest.raises(UserError, match="n_positions = 25, the keys of llama.cpp 24"):
        read(changed, tmp_path)
    changed = content.replace(b'"layer_norm_epsilon": 0.001', b'"layer_norm_epsilon": 1e-50')
    with pytest.raises(UserError, match="layer_norm_epsilon = 1e-50, the keys of llama.cpp 0.001"):
        read(changed, tmp_path)


def test_a_file_that_is_cut_anywhere_is_refused(content: bytes, tmp_path: Path) -> None:
    for size in [*range(4, 3000, 97), *range(3000, len(content), 9973)]:
        with pytest.raises(UserError, match="model.gguf"):
            read(content[:size], tmp_path)


BAD_CERTIFICATES = {
    "{}": "damaged certificate",
    "[" * 10**5: "damaged certificate",
    '{"format_version": 99}': "damaged certificate|format 99",
}


@pytest.mark.parametrize("certificate", BAD_CERTIFICATES)
def test_check_refuses_damaged_certificates(
    certificate: str, content: bytes, tmp_path: Path
) -> None:
    parts = unpack(content)
    parts.set("valyrian.certificate", certificate)
    (tmp_path / "model.gguf").write_bytes(pack(parts))
    with limit_time(), pytest.raises(UserError, match=BAD_CERTIFICATES[certificate]):
        gguf_export.check(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"tokens": [299', b'"tokens": [399'), (b'"tokens": [299, ', b'"tokens": [298, ')],
)
def test_check_refuses_examples_that_do_not_fit(
    old: bytes, new: bytes, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "model.gguf").write_bytes(content.replace(old, new))
    with pytest.raises(UserError, match="damaged example texts|generates another text"):
        gguf_export.check(tmp_path / "model.gguf")
