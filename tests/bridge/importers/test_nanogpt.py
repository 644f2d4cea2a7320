"""Checkpoints of nanoGPT import as bundles with the same logits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel

from bridge.importers.gpt2 import read_gpt2
from tests.support.gpt2 import assert_equal, make_gpt2
from valyrian_jax.errors import UserError


def make_nanogpt(model: GPT2LMHeadModel, bias: bool = True) -> dict[str, Any]:
    """Return a GPT-2 as the checkpoint that nanoGPT would write: Linear weights are [out, in]."""
    state = {}
    for name, tensor in model.state_dict().items():
        if bias or not name.endswith(".bias"):
            is_linear = ".h." in name and tensor.ndim == 2
            state[f"_orig_mod.{name}"] = tensor.T.contiguous() if is_linear else tensor
    state["_orig_mod.transformer.h.0.attn.bias"] = torch.ones(1, 1, 22, 22).tril()
    config = model.config
    return {
        "model": state,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(9)}}, "param_groups": [{"lr": 1e-3}]},
        "model_args": {
            "n_layer": config.n_layer,
            "n_head": config.n_head,
            "n_embd": config.n_embd,
            "block_size": config.n_positions,
            "bias": bias,
            "vocab_size": config.vocab_size,
            "dropout": 0.1,
        },
        "iter_num": 5,
        "best_val_loss": torch.tensor(3.2),
        "config": {"dataset": "shakespeare", "learning_rate": 1e-3},
    }


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("vocab_size", [301, 384])
def test_nanogpt_checkpoints_are_read(bias: bool, vocab_size: int, gpt2_directory: Path) -> None:
    model = make_gpt2(vocab_size=vocab_size, activation_function="gelu", resid_pdrop=0.1)
    for name, parameter in model.named_parameters():
        if not bias and name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    torch.save(make_nanogpt(model, bias), gpt2_directory / "ckpt.pt")
    for path in (gpt2_directory, gpt2_directory / "ckpt.pt"):
        bundle, notes = read_gpt2(path)
        assert_equal(bundle, model)
        assert replace(bundle.model, vocab_size=301) == bundle.model
        assert "pass --activation gelu_new" in notes[0]
        assert [note.startswith("cut 83 rows") for note in notes[1:]] == [True] * (vocab_size > 301)
    assert bundle.model.dropout == 0.1


@pytest.mark.parametrize("part", ["ln_f.weight", "h.1.attn.c_proj.weight", "h.1."])
def test_a_missing_weight_of_a_checkpoint_without_biases_is_named_without_a_bias(
    part: str, gpt2_directory: Path
) -> None:
    content = make_nanogpt(make_gpt2(activation_function="gelu"), bias=False)
    lacking = [name for name in content["model"] if part in name]
    for name in lacking:
        del content["model"][name]
    torch.save(content, gpt2_directory / "ckpt.pt")
    with pytest.raises(UserError) as caught:
        read_gpt2(gpt2_directory)
    missing = sorted(f"{name.removeprefix('_orig_mod.')} is missing" for name in lacking)
    assert str(caught.value) == (
        f"weights do not fit the model: {'; '.join(missing)}; check that they belong to this "
        "configuration"
    )


def test_the_activation_of_nanogpt_can_be_given(gpt2_directory: Path) -> None:
    model = make_gpt2(activation_function="gelu_new")
    torch.save(make_nanogpt(model), gpt2_directory / "ckpt.pt")
    bundle, notes = read_gpt2(gpt2_directory, activation="gelu_new")
    assert_equal(bundle, model)
    assert notes == ()
    model.save_pretrained(gpt2_directory)
    with pytest.raises(UserError, match="--activation gelu is for nanoGPT"):
        read_gpt2(gpt2_directory, activation="gelu")


MODEL_ARGS: list[tuple[Any, str]] = [
    ({"rotary": True}, "model_args has rotary = True; only nanoGPT's n_layer"),
    ({"norm_type": "rmsnorm"}, "model_args has norm_type = 'rmsnorm'"),
    ({"vocab_size": 65}, "model_args has vocab_size = 65; only byte-level vocabularies"),
    ({"block_size": None}, "model_args has no block_size"),
    ({"block_size": 1}, "model_args: block_size = 1: input should be greater"),
    ({"n_head": "5"}, "model_args: n_head = '5': input should be a valid integer"),
    ({"n_layer": 4}, "h.3.attn.c_attn.weight is missing"),
]


@pytest.mark.parametrize(("changes", "message"), MODEL_ARGS, ids=str)
def test_other_model_args_are_refused_by_name_and_value(
    changes: dict[str, Any], message: str, gpt2_directory: Path
) -> None:
    content = make_nanogpt(make_gpt2())
    content["model_args"] |= changes
    torch.save(content, gpt2_directory / "ckpt.pt")
    with pytest.raises(UserError) as caught:
        read_gpt2(gpt2_directory)
    assert message in str(caught.value)


def test_a_checkpoint_without_a_tokenizer_asks_for_one(
    gpt2_directory: Path, tmp_path: Path
) -> None:
    model = make_gpt2(activation_function="gelu")
    torch.save(make_nanogpt(model), tmp_path / "ckpt.pt")
    with pytest.raises(UserError, match="has no tokenizer: .*pass one with --tokenizer"):
        read_gpt2(tmp_path / "ckpt.pt")
    for tokenizer in (gpt2_directory, gpt2_directory / "tokenizer.json"):
        assert_equal(read_gpt2(tmp_path / "ckpt.pt", tokenizer).bundle, model)
