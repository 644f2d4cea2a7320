"""Bundles are complete or refused, and `transformers` computes the same from them."""

import dataclasses
import json
import os
import struct
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from tests.support.bundles import CONFIG, TEXT, make_bundle
from valyrian_jax.bundle.bundle import load_bundle, save_bundle
from valyrian_jax.errors import UserError
from valyrian_jax.model import gpt
from valyrian_jax.model.parameters import from_tensors
from valyrian_jax.tokenizer import END_OF_TEXT, train_bpe

forward = jax.jit(gpt.forward, static_argnums=2)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_transformers_gives_the_same_logits_and_ids(
    tied: bool, activation: Any, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        CONFIG, tie_word_embeddings=tied, activation=activation, layer_norm_epsilon=1e-3
    )
    ours = make_bundle(config)
    save_bundle(ours, tmp_path / "bundle")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "bundle").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "bundle")
    assert tokenizer(TEXT)["input_ids"] == ours.tokenizer.encode(TEXT)
    assert tokenizer.decode(ours.tokenizer.encode(TEXT)) == TEXT
    assert tokenizer.eos_token_id == theirs.config.eos_token_id == ours.tokenizer.end_of_text
    tokens = np.array([ours.tokenizer.encode(TEXT)[i : i + 24] for i in range(4)])
    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens)).logits.numpy()
    actual = forward(from_tensors(ours.tensors), jnp.asarray(tokens, jnp.int32), config)
    assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.abs(expected).max() > 3


def test_a_gpt2_directory_from_transformers_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = transformers.GPT2Config(
        vocab_size=300, n_positions=20, n_embd=24, n_layer=2, n_head=3
    )
    theirs = transformers.GPT2LMHeadModel(settings).eval()
    theirs.save_pretrained(tmp_path / "foreign")
    train_bpe(TEXT, 300).save(tmp_path / "foreign" / "tokenizer.json")
    ours = load_bundle(tmp_path / "foreign")
    assert ours.model.tie_word_embeddings
    assert ours.manifest == {}
    tokens = np.arange(40).reshape(2, 20)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens)).logits.numpy()
    logits = forward(from_tensors(ours.tensors), jnp.asarray(tokens, jnp.int32), ours.model)
    assert np.abs(logits - expected).max() <= 1e-5


def test_names_without_prefix_and_old_mask_buffers_load(tmp_path: Path) -> None:
    ours = make_bundle(dataclasses.replace(CONFIG, tie_word_embeddings=True))
    save_bundle(ours, tmp_path / "b")
    (tmp_path / "b" / "manifest.json").unlink()
    weights = tmp_path / "b" / "model.safetensors"
    old = {name.removeprefix("transformer."): tensor for name, tensor in load_file(weights).items()}
    old["h.0.attn.bias"] = np.tril(np.ones((1, 1, 24, 24), np.float32))
    save_file(old, weights)
    loaded = load_bundle(tmp_path / "b")
    assert loaded.tensors.keys() == ours.tensors.keys()


def test_a_saved_bundle_loads_unchanged(tmp_path: Path) -> None:
    ours = make_bundle(step=7)
    save_bundle(ours, tmp_path / "b")
    loaded = load_bundle(tmp_path / "b")
    assert [*loaded.tensors] == sorted(ours.tensors)  # in every process
    assert loaded.model == ours.model
    assert loaded.tokenizer == ours.tokenizer
    assert loaded.manifest["step"] == 7
    for name, tensor in ours.tensors.items():
        np.testing.assert_array_equal(loaded.tensors[name], tensor)


def test_the_size_of_the_weights_is_checked_before_they_are_hashed(tmp_path: Path) -> None:
    save_bundle(make_bundle(), tmp_path / "b")
    weights = tmp_path / "b" / "model.safetensors"
    os.truncate(weights, 10**11)  # sparse: hashing it would take minutes
    with pytest.raises(UserError, match="more than .* bytes"):
        load_bundle(tmp_path / "b")


def test_a_weights_file_with_many_names_is_refused_by_its_header(tmp_path: Path) -> None:
    save_bundle(make_bundle(), tmp_path / "b")
    (tmp_path / "b" / "manifest.json").unlink()
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    for count, message in ((60_000, "expected a header of"), (5_000, "and [0-9,]+ more")):
        header = json.dumps({f"tensor {i}": empty for i in range(count)}).encode()
        content = struct.pack("<Q", len(header)) + header
        (tmp_path / "b" / "model.safetensors").write_bytes(content)
        with pytest.raises(UserError, match=message) as caught:
            load_bundle(tmp_path / "b")
        assert len(str(caught.value)) < 3_000


def test_the_message_lists_every_problem_with_the_weights(tmp_path: Path) -> None:
    ours = make_bundle()
    broken = dict(ours.tensors)
    del broken["transformer.ln_f.bias"]
    broken["extra"] = np.zeros(3, np.float32)
    broken["lm_head.weight"] = broken["lm_head.weight"].T
    broken["transformer.wte.weight"] = np.full_like(broken["transformer.wte.weight"], np.nan)
    with pytest.raises(UserError) as caught:
        save_bundle(dataclasses.replace(ours, tensors=broken), tmp_path / "b")
    for problem in (
        "transformer.ln_f.bias is missing",
        "extra is unknown",
        "lm_head.weight has shape (32, 300), expected (300, 32)",
        "transformer.wte.weight contains values that are not finite",
    ):
        assert problem in str(caught.value)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "generation_config.json"]
)
def test_a_changed_or_missing_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    save_bundle(make_bundle(), tmp_path / "b")
    file = tmp_path / "b" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"{name} does not match the manifest"):
        load_bundle(tmp_path / "b")
    file.unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        load_bundle(tmp_path / "b")


CONFIG_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "llama"}, "model_type = 'llama'"),
    ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True"),
    (
        {"activation_function": "relu"},
        "activation_function = 'relu': input should be 'gelu' or 'gelu_new'",
    ),
    ({"n_inner": 17}, "n_inner = 17; only 4 x n_embd"),
    ({"n_head": 5}, "n_head = 5 must divide"),
    ({"n_layer": "3"}, "n_layer = '3': input should be a valid integer"),
    ({"vocab_size": 301}, "has shape"),
]


@pytest.mark.parametrize(("changes", "message"), CONFIG_CHANGES)
def test_an_unsupported_model_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save_bundle(make_bundle(), tmp_path / "b")
    (tmp_path / "b" / "manifest.json").unlink()  # other directories have none
    path = tmp_path / "b" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError) as caught:
        load_bundle(tmp_path / "b")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no bundle at"):
        load_bundle(tmp_path / "none")
    save_bundle(make_bundle(), tmp_path / "b")
    manifest = tmp_path / "b" / "manifest.json"
    good = json.loads(manifest.read_text())
    for change, message in (
        ({"format_version": 99}, "has bundle format 99; this version reads up to 1"),
        ({"sha256": {"../x": "0"}}, "outside the bundle"),
        ({"sha256": 3}, "is damaged"),
    ):
        manifest.write_text(json.dumps(good | change))
        with pytest.raises(UserError, match=message):
            load_bundle(tmp_path / "b")
    manifest.unlink()
    weights = tmp_path / "b" / "model.safetensors"
    os.truncate(weights, 100)
    with pytest.raises(UserError, match="safetensors is damaged"):
        load_bundle(tmp_path / "b")
    weights.unlink()
    with pytest.raises(UserError, match=r"is not a bundle: .* found no model.safetensors"):
        load_bundle(tmp_path / "b")


def test_transformers_knows_the_end_of_text_token(tmp_path: Path) -> None:
    save_bundle(make_bundle(), tmp_path / "b")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "b")
    assert tokenizer.convert_tokens_to_ids(END_OF_TEXT) == 299


def test_a_model_too_large_for_memory_is_refused_before_its_weights_are_read(
    tmp_path: Path,
) -> None:
    save_bundle(make_bundle(), tmp_path / "b")
    (tmp_path / "b" / "manifest.json").unlink()
    content = json.loads((tmp_path / "b" / "config.json").read_text())
    content |= {"n_embd": 1 << 20, "n_head": 1}
    (tmp_path / "b" / "config.json").write_text(json.dumps(content))
    (tmp_path / "b" / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="^loading .* does not fit into memory: expected at most"):
        load_bundle(tmp_path / "b")
