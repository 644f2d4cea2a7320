"""GPT-2 checkpoints of other projects import as bundles with the same logits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from bridge.importers.gpt2 import read_gpt2
from tests.support.gpt2 import TEXT, assert_equal, edit_json, make_gpt2, replace_weights
from valyrian_jax.bundle.bundle import load_bundle, save_bundle
from valyrian_jax.config import load_config
from valyrian_jax.errors import UserError
from valyrian_jax.training.run import train


def test_an_imported_model_trains_on_and_opens_in_transformers(
    gpt2_directory: Path, tmp_path: Path
) -> None:
    reference = make_gpt2(n_layer=1)
    reference.save_pretrained(gpt2_directory)
    imported = read_gpt2(gpt2_directory).bundle
    assert_equal(imported, reference)
    save_bundle(imported, tmp_path / "imported")
    (tmp_path / "text.txt").write_text("\n\n".join([TEXT] * 12))
    settings = {
        "data.path": str(tmp_path / "text.txt"),
        "train.steps": 4,
        "train.eval_every": 2,
        "train.checkpoint_every": 4,
        "train.steps_per_dispatch": 2,
        "train.sample_every": 0,
        "wandb.mode": "off",
        "train.device": "cpu",
    }
    config = load_config(None, settings)
    result = train(config, tmp_path / "run", init=tmp_path / "imported")
    trained = load_bundle(result.directory / "bundle")
    assert trained.model.n_embd == 30
    name = "transformer.wte.weight"
    assert not np.array_equal(trained.tensors[name], imported.tensors[name])
    assert_equal(trained, GPT2LMHeadModel.from_pretrained(result.directory / "bundle").eval())
    assert trained.manifest["base_model"] == "gpt2"


def test_tied_and_untied_heads_are_read(gpt2_directory: Path) -> None:
    for tied in (True, False):
        model = make_gpt2(tie_word_embeddings=tied)
        model.save_pretrained(gpt2_directory)
        assert_equal(read_gpt2(gpt2_directory).bundle, model)
    # transformers does not tie a head that differs, whatever config.json says
    edit_json(gpt2_directory / "config.json", tie_word_embeddings=True)
    bundle, notes = read_gpt2(gpt2_directory)
    assert "the two are not tied" in notes[0]
    assert not bundle.model.tie_word_embeddings
    assert_equal(bundle, model)
    assert_equal(bundle, GPT2LMHeadModel.from_pretrained(gpt2_directory).eval())
    edit_json(gpt2_directory / "config.json", tie_word_embeddings=False)
    replace_weights(gpt2_directory, "pytorch_model.bin", model.transformer.state_dict())
    with pytest.raises(UserError, match=r"lm_head.weight is missing"):
        read_gpt2(gpt2_directory)


def test_variants_of_the_format_are_read(reference: GPT2LMHeadModel, gpt2_directory: Path) -> None:
    changes = {"activation_function": "gelu_pytorch_tanh", "initializer_range": 0}
    edit_json(gpt2_directory / "config.json", **changes)
    tokenizer = json.loads((gpt2_directory / "tokenizer.json").read_text())
    del tokenizer["model"]["type"]  # GPT-2's own file has none
    (gpt2_directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    head_only = {name: torch.nn.Parameter(p) for name, p in reference.state_dict().items()}
    del head_only["transformer.wte.weight"]
    replace_weights(gpt2_directory, "pytorch_model.bin", head_only)
    assert_equal(read_gpt2(gpt2_directory).bundle, reference)


@pytest.mark.parametrize(
    "name", ["gelu", "gelu_python", "gelu_new", "gelu_fast", "gelu_accurate", "gelu_python_tanh"]
)
def test_every_name_of_gelu_is_read(name: str, gpt2_directory: Path) -> None:
    model = make_gpt2(activation_function=name)
    model.save_pretrained(gpt2_directory)
    assert_equal(read_gpt2(gpt2_directory).bundle, model)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "llama"}, "model_type = 'llama', which is not supported; expected 'gpt2'"),
    ({"rms_norm_eps": 1e-6}, "rms_norm_eps = 1e-06, which is not supported; expected no such key"),
    ({"rope_theta": 1e4}, "rope_theta = 10000.0, which is not supported"),
    ({"position_embedding_type": "rotary"}, "position_embedding_type = 'rotary'"),
    ({"n_inner": 60}, "n_inner = 60; only 4 x n_embd is supported"),
    ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True"),
    ({"scale_attn_weights": False}, "scale_attn_weights = False, which is not supported"),
    ({"activation_function": "relu"}, "activation_function = 'relu': input should be 'gelu' or"),
    ({"auto_map": {"AutoModel": "m.M"}}, "auto_map = {'AutoModel': 'm.M'}"),
    ({"quantization_config": {"bits": 4}}, "quantization_config = {'bits': 4}"),
    ({"n_embd": None}, "it has no n_embd"),
]


@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=str)
def test_what_is_not_a_gpt2_is_refused_by_field_and_value(
    changes: dict[str, Any], message: str, gpt2_directory: Path
) -> None:
    edit_json(gpt2_directory / "config.json", **changes)
    with pytest.raises(UserError) as caught:
        read_gpt2(gpt2_directory)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_other_architectures_are_refused_by_what_they_lack(
    reference: GPT2LMHeadModel, gpt2_directory: Path
) -> None:
    for missing, message in (
        ("wpe", "only learned positions are supported, neither rotary"),
        (r"ln_1.bias", "as RMSNorm has: only LayerNorm is supported"),
        ("mlp.c_fc.weight", r"h.0.mlp.c_fc.weight is missing"),
    ):
        state = {name: t for name, t in reference.state_dict().items() if missing not in name}
        torch.save(state, gpt2_directory / "pytorch_model.bin")
        (gpt2_directory / "model.safetensors").unlink(missing_ok=True)
        with pytest.raises(UserError, match=message):
            read_gpt2(gpt2_directory)


def test_an_error_names_what_is_missing(
    reference: GPT2LMHeadModel, gpt2_directory: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_gpt2(tmp_path / "none")
    torch.save({"lr": 0.1}, gpt2_directory / "a.pt")
    with pytest.raises(UserError, match="other than named tensors"):
        read_gpt2(gpt2_directory / "a.pt")
    (gpt2_directory / "model.safetensors").rename(gpt2_directory / "b.safetensors")
    with pytest.raises(UserError, match=r"several files .* found a.pt, b.safetensors; name the"):
        read_gpt2(gpt2_directory)
    assert_equal(read_gpt2(gpt2_directory / "b.safetensors").bundle, reference)
    (gpt2_directory / "config.json").unlink()
    with pytest.raises(UserError, match="the weights have no configuration: expected"):
        read_gpt2(gpt2_directory / "b.safetensors")
    for name in ("a.pt", "b.safetensors"):
        (gpt2_directory / name).unlink()
    with pytest.raises(UserError, match=r"holds no weights; expected one of model.safetensors"):
        read_gpt2(gpt2_directory)
    bundle = gpt2_directory / "bundle"  # as in the directory of a run
    bundle.mkdir()
    (bundle / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=rf"holds no weights; .*; name {bundle}"):
        read_gpt2(gpt2_directory)
