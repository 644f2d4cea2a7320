"""GPT-2 checkpoints from other projects import as bundles with the same logits."""

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from bridge.gpt import to_module
from bridge.importers import checkpoint_files
from bridge.importers.checkpoint_files import read_checkpoint
from bridge.importers.gpt2 import read_gpt2
from bridge.importers.mapped_file import copy_mapped
from bridge.importers.vocabulary import set_end_of_text
from valyrian_jax.bundle.bundle import Bundle, load_bundle, save_bundle
from valyrian_jax.config import load_config
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer, train_bpe
from valyrian_jax.training.run import train

TEXT = (
    "the quick dragon sees a lazy wolf, and the wolf jumps over seventeen rivers; don't they? " * 20
)
TOKENS = torch.arange(44).view(2, 22)
State = dict[str, Tensor]


def make_gpt2(**changes: Any) -> GPT2LMHeadModel:
    """A random GPT-2 of odd sizes, with biases and norms that affect the logits."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 301, "n_positions": 22, "n_embd": 30, "n_layer": 3, "n_head": 5}
    ids = {"bos_token_id": None, "eos_token_id": None}
    model = GPT2LMHeadModel(GPT2Config(**{**sizes, **ids, "initializer_range": 0.2, **changes}))
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or ".ln_" in name:
            torch.nn.init.normal_(parameter, float("weight" in name), 0.2)
    return model.eval()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(TEXT, 301)


@pytest.fixture
def gpt2_directory(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A directory with a tokenizer only."""
    (tmp_path / "gpt2").mkdir()
    tokenizer.save(tmp_path / "gpt2" / "tokenizer.json")
    return tmp_path / "gpt2"


@pytest.fixture
def reference(gpt2_directory: Path) -> GPT2LMHeadModel:
    """A random GPT-2, saved in `gpt2_directory`."""
    model = make_gpt2(layer_norm_epsilon=2e-5)
    model.save_pretrained(gpt2_directory)
    return model


def get_logits(bundle: Bundle) -> Tensor:
    return to_module(bundle)(TOKENS)


def assert_equal(bundle: Bundle, reference: torch.nn.Module) -> None:
    """Check the logits to 1e-4 of the largest; they agree far better."""
    with torch.no_grad():
        expected = reference(TOKENS).logits[..., : bundle.model.vocab_size]
    assert (get_logits(bundle) - expected).abs().max() <= 1e-5 * expected.abs().max()


def replace_weights(directory: Path, name: str, content: Any) -> None:
    """Write the only file of weights in a directory."""
    (directory / "model.safetensors").unlink()
    torch.save(content, directory / name)


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


def rename(state: Mapping[str, Tensor], function: Callable[[str], str]) -> State:
    return {function(name): tensor for name, tensor in state.items()}


def wrap_modules(name: str) -> str:
    """Return the name of a parameter whose block and whose MLP are wrapped."""
    name = name.replace(".attn.", "._checkpoint_wrapped_module.attn.")
    return name.replace(".mlp.", "._orig_mod.mlp._fsdp_wrapped_module.")


NAMES: dict[str, Callable[[GPT2LMHeadModel], State]] = {
    "no prefix": lambda model: model.transformer.state_dict(),
    "DataParallel": lambda model: torch.nn.DataParallel(model).state_dict(),
    "Lightning": lambda model: torch.nn.ModuleDict({"model": model}).state_dict(),
    "torch.compile": lambda model: rename(model.state_dict(), lambda name: f"_orig_mod.{name}"),
    "four of them": lambda model: rename(
        model.state_dict(), lambda name: f"module.model._orig_mod.model.{name}"
    ),
    "the base model in a wrapper": lambda model: rename(
        model.transformer.state_dict(), lambda name: f"_orig_mod.{name}"
    ),
    "wrapped blocks": lambda model: rename(model.state_dict(), wrap_modules),
    "both the module and its wrapper": lambda model: {
        **model.state_dict(),
        **rename(model.state_dict(), lambda name: f"_orig_mod.{name}"),
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_names_with_the_prefixes_of_wrappers_are_read(
    name: str, reference: GPT2LMHeadModel, gpt2_directory: Path
) -> None:
    replace_weights(gpt2_directory, "pytorch_model.bin", NAMES[name](reference))
    assert_equal(read_gpt2(gpt2_directory).bundle, reference)


def test_two_tensors_of_one_parameter_must_be_equal(
    reference: GPT2LMHeadModel, gpt2_directory: Path
) -> None:
    state = reference.state_dict() | {"module.ln_f.bias": torch.ones(30)}
    replace_weights(gpt2_directory, "pytorch_model.bin", state)
    with pytest.raises(UserError, match=r"ln_f.bias and module.ln_f.bias are the same parameter"):
        read_gpt2(gpt2_directory)


CONTAINERS: dict[str, Callable[[State], Any]] = {
    "model_state_dict": lambda state: {"model_state_dict": state, "epoch": 3},
    "state_dict": lambda state: {"state_dict": state, "hyper_parameters": {"lr": 0.1}},
    "module": lambda state: {"module": state, "optimizer": {"state": {}}},
    "nested": lambda state: {"model": {"state_dict": state}, "loss": torch.tensor(1.0)},
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("file", ["pytorch_model.bin", "last.pt", "weights.pth"])
def test_weights_inside_of_a_training_state_are_read(
    name: str, file: str, reference: GPT2LMHeadModel, gpt2_directory: Path
) -> None:
    replace_weights(gpt2_directory, file, CONTAINERS[name](reference.state_dict()))
    torch.save({"lr": 0.1}, gpt2_directory / "optimizer.pt")
    assert_equal(read_gpt2(gpt2_directory).bundle, reference)
    assert_equal(read_gpt2(gpt2_directory / file).bundle, reference)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_sharded_weights_are_read_and_a_missing_shard_is_reported(
    suffix: str, reference: GPT2LMHeadModel, gpt2_directory: Path, tmp_path: Path
) -> None:
    sharded = tmp_path / "sharded"
    reference.save_pretrained(sharded, max_shard_size="40KB")
    shards = sorted(sharded.glob("*.safetensors"))
    assert len(shards) > 2
    if suffix == "bin":
        index = (sharded / "model.safetensors.index.json").read_text()
        (sharded / "model.safetensors.index.json").unlink()
        (sharded / "pytorch_model.bin.index.json").write_text(index.replace(".safetensors", ".bin"))
        for shard in shards:
            torch.save(load_file(shard), shard.with_suffix(".bin"))
            shard.unlink()
    tokenizer = gpt2_directory / "tokenizer.json"
    assert_equal(read_gpt2(sharded, tokenizer).bundle, reference)
    next(sharded.glob(f"*.{suffix}")).unlink()
    with pytest.raises(UserError, match="is missing"):
        read_gpt2(sharded, tokenizer)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_other_precisions_become_float32(
    dtype: torch.dtype, file: str, reference: GPT2LMHeadModel, gpt2_directory: Path
) -> None:
    path = gpt2_directory / "model.safetensors"
    state = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    if file == path.name:
        save_file(state, path)
    else:
        replace_weights(gpt2_directory, file, state)
    imported = read_gpt2(gpt2_directory).bundle
    assert {tensor.dtype for tensor in imported.tensors.values()} == {np.dtype("float32")}
    assert_equal(imported, reference.to(dtype).float())


@pytest.mark.parametrize("file", ["pytorch_model.bin", "last.pt"])
def test_safetensors_under_another_name_are_read(
    file: str, reference: GPT2LMHeadModel, gpt2_directory: Path
) -> None:
    (gpt2_directory / "model.safetensors").rename(gpt2_directory / file)
    assert_equal(read_gpt2(gpt2_directory).bundle, reference)


def test_the_format_of_old_pytorch_versions_is_read(
    reference: GPT2LMHeadModel, gpt2_directory: Path
) -> None:
    (gpt2_directory / "model.safetensors").unlink()
    state = reference.transformer.state_dict()
    torch.save(state, gpt2_directory / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert_equal(read_gpt2(gpt2_directory).bundle, reference)


def test_mask_buffers_are_ignored_and_biases_are_not(
    reference: GPT2LMHeadModel, gpt2_directory: Path
) -> None:
    masks = {
        f"transformer.h.{i}.attn.{name}": tensor
        for i in range(3)
        for name, tensor in {
            "bias": torch.ones(1, 1, 22, 22, dtype=torch.uint8).tril(),
            "masked_bias": torch.tensor(-1e4),
        }.items()
    }
    replace_weights(gpt2_directory, "pytorch_model.bin", reference.state_dict() | masks)
    assert_equal(read_gpt2(gpt2_directory).bundle, reference)
    wrong = reference.state_dict() | {"transformer.h.0.attn.bias": torch.ones(30)}
    torch.save(wrong, gpt2_directory / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"h.0.attn.bias is unknown"):
        read_gpt2(gpt2_directory)


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


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


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


def test_nothing_but_tensors_and_plain_values_is_unpickled(
    reference: GPT2LMHeadModel, gpt2_directory: Path, tmp_path: Path
) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "harmed",))

    weights = gpt2_directory / "pytorch_model.bin"
    replace_weights(gpt2_directory, weights.name, reference.state_dict())
    for content in (b"", b"junk"):
        weights.write_bytes(content)
        with pytest.raises(UserError, match="damaged or holds more than tensors"):
            read_gpt2(gpt2_directory)
    weights.write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(UserError, match="holds a pickled|damaged or holds more than tensors"):
        read_gpt2(gpt2_directory)
    torch.save({"a": Harmful()}, weights)
    with pytest.raises(UserError, match="holds a pickled|damaged or holds more than tensors"):
        read_gpt2(gpt2_directory)
    assert not (tmp_path / "harmed").exists()
    # a configuration as an object of a class, as some training programs save it
    torch.save({"model": reference.state_dict(), "config": reference.config}, weights)
    with pytest.raises(UserError, match=r"holds a pickled transformers\S+GPT2Config, expected"):
        read_gpt2(gpt2_directory)


def test_files_of_other_formats_are_named(gpt2_directory: Path) -> None:
    path = gpt2_directory / "pytorch_model.bin"
    for content, name in (
        (b"GGUF\3\0\0\0", "a GGUF file"),
        (struct.pack("<3i", 20240326, 3, 1024), "a checkpoint of llm.c"),
    ):
        path.write_bytes(content + bytes(1000))
        with pytest.raises(UserError, match=f"is {name}, expected a state_dict of PyTorch"):
            read_gpt2(gpt2_directory)
    with zipfile.ZipFile(path, "w") as archive:
        for member in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"model/{member}", b"")
    with pytest.raises(UserError, match="is a TorchScript file"):
        read_gpt2(gpt2_directory)
    path.write_bytes(b"junk" * 100)
    with pytest.raises(UserError) as caught:
        read_gpt2(gpt2_directory)
    assert "weights_only" not in str(caught.value)  # whose advice is to run what is in the file


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
    with pytest.raises(UserError, match="no directory at"):
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


# Vocabularies that differ from the token tables.


def test_padded_rows_are_cut_and_a_note_says_whether_they_were_trained(
    gpt2_directory: Path, tokenizer: Tokenizer
) -> None:
    for tied in (True, False):
        model = make_gpt2(vocab_size=384, tie_word_embeddings=tied)
        with torch.no_grad():
            model.transformer.wte.weight[301:] = model.transformer.wte.weight[301:302].clone()
            model.lm_head.weight[301:] = 0.01 * model.lm_head.weight[301:302].clone()
        model.save_pretrained(gpt2_directory)
        bundle, notes = read_gpt2(gpt2_directory)
        assert bundle.model.vocab_size == tokenizer.vocab_size == 301
        assert_equal(bundle, model)
        assert "cut 83 rows of padding" in notes[0]
        assert "never the target of any token" in notes[0]
    make_gpt2(vocab_size=304).save_pretrained(gpt2_directory)
    _, notes = read_gpt2(gpt2_directory)
    assert "cut 3 rows of padding" in notes[0]
    assert "do not tell whether they were trained" in notes[0]


@pytest.mark.parametrize("size", [300, 303, 1400])
def test_tokenizers_of_other_models_are_refused(size: int, gpt2_directory: Path) -> None:
    make_gpt2(vocab_size=size).save_pretrained(gpt2_directory)
    with pytest.raises(UserError, match=f"tokenizer has 301 tokens, the model {size}"):
        read_gpt2(gpt2_directory)


def rename_end(directory: Path, name: str) -> None:
    path = directory / "tokenizer.json"
    path.write_text(path.read_text().replace("<|endoftext|>", name))


@pytest.mark.usefixtures("reference")
def test_a_token_that_ends_a_text_has_one_name(gpt2_directory: Path, tokenizer: Tokenizer) -> None:
    rename_end(gpt2_directory, "</s>")
    for file, value in (("tokenizer_config", "</s>"), ("special_tokens_map", {"content": "</s>"})):
        path = gpt2_directory / f"{file}.json"
        path.write_text(json.dumps({"eos_token": value}))
        bundle, notes = read_gpt2(gpt2_directory)
        assert notes == ("</s>, which ends a text, is now called <|endoftext|>",)
        assert bundle.tokenizer == tokenizer
        path.unlink()


def test_a_token_that_ends_a_text_is_added(
    reference: GPT2LMHeadModel, gpt2_directory: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    rename_end(gpt2_directory, "<|other|>")
    bundle, notes = read_gpt2(gpt2_directory)
    assert "added <|endoftext|> to the tokenizer" in notes[0]
    assert "mean of all other rows" in notes[1]
    assert bundle.tokenizer.end_of_text == 301
    with torch.no_grad():
        expected = reference(TOKENS).logits
    logits = get_logits(bundle)
    assert (logits[..., :301] - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (logits[..., 301] - expected.mean(-1)).abs().max() <= 1e-5 * expected.abs().max()
    save_bundle(bundle, tmp_path / "b")
    assert load_bundle(tmp_path / "b").tokenizer.special == {"<|other|>": 300, "<|endoftext|>": 301}
    # a padded row takes the token
    padded = make_gpt2(vocab_size=302)
    padded.save_pretrained(gpt2_directory)
    bundle, notes = read_gpt2(gpt2_directory)
    assert len(notes) == 1
    assert_equal(bundle, padded)


@pytest.mark.usefixtures("reference")
def test_a_vocabulary_may_hold_the_end_without_saying_that_it_is_special(
    gpt2_directory: Path, tokenizer: Tokenizer
) -> None:
    edit_json(gpt2_directory / "tokenizer.json", added_tokens=[])
    bundle, notes = read_gpt2(gpt2_directory)
    assert (bundle.tokenizer, notes) == (tokenizer, ())


def test_an_end_that_merges_can_make_is_refused() -> None:
    tokens, merges, name = [bytes([b]) for b in range(256)], [], b"<|endoftext|>"
    last = name[0]
    for byte in name[1:]:
        merges.append((last, byte))
        last = len(tokens)
        tokens.append(tokens[merges[-1][0]] + bytes([byte]))
    for special, end in (({}, None), ({"</s>": len(tokens)}, "</s>")):
        ordinary = Tokenizer((*tokens, *map(str.encode, special)), tuple(merges), special)
        with pytest.raises(UserError, match=r"has <\|endoftext\|> as a token of ordinary text"):
            set_end_of_text(ordinary, end)


# nanoGPT.


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
    assert str(caught.value) == "weights do not fit the model: " + "; ".join(missing)


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


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_weights_that_do_not_fit_into_memory_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {"wte.weight": torch.zeros(1000)}
    path = tmp_path / name
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    assert read_checkpoint(path).tensors["wte.weight"].shape == (1000,)
    monkeypatch.setattr(checkpoint_files, "memory_bytes", lambda: 4_000)
    with pytest.raises(UserError, match=f"importing .*{name} does not fit into memory"):
        read_checkpoint(path)


# Files that change while they are read: once they are open, before their weights are read.


@pytest.fixture
def when_open(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """A function that has something done before the weights of the next file are read."""

    def when_open(action: Callable[[], None]) -> None:
        monkeypatch.setattr(checkpoint_files, "memory_bytes", lambda: action() or 1 << 30)

    return when_open


@pytest.mark.parametrize("rest", [0, 4096, 1 << 21], ids=["empty", "one page", "half"])
def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(
    rest: int, tmp_path: Path, when_open: Callable[[Callable[[], None]], None]
) -> None:
    path = tmp_path / "model.pt"
    torch.save({"wte.weight": torch.ones(1 << 20)}, path)
    when_open(lambda: os.truncate(path, rest))
    with pytest.raises(UserError, match="the file became shorter while it was read"):
        read_checkpoint(path)


def test_a_file_that_is_replaced_while_it_is_read_gives_its_old_weights(
    tmp_path: Path, when_open: Callable[[Callable[[], None]], None]
) -> None:
    path, other, weights = tmp_path / "model.pt", tmp_path / "other", torch.arange(5000) / 7
    torch.save({"wte.weight": weights}, path)
    other.write_bytes(b"")
    when_open(lambda: other.replace(path) and None)
    array = read_checkpoint(path).tensors["wte.weight"]
    assert path.stat().st_size == 0
    assert np.array_equal(array, weights.numpy())


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(100_000.0).view(250, 400).T,
        torch.arange(24.0).view(4, 6)[1:, 2:4],
        torch.arange(4.0)[2].expand(3, 5),
        torch.nn.Parameter(torch.ones(3)),
        torch.tensor(3, dtype=torch.int64),
        torch.arange(9, dtype=torch.bfloat16),
        torch.ones(5, dtype=torch.bool)[::2],
        torch.zeros(0, 4),
    ],
    ids=lambda tensor: f"{tensor.dtype} {[*tensor.shape]}",
)
def test_a_copy_of_a_mapped_tensor_equals_it(tensor: Tensor) -> None:
    copy = copy_mapped(tensor)
    assert torch.equal(copy, tensor)
    assert copy.dtype == tensor.dtype
    assert (
        copy.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr() or not copy.numel()
    )
