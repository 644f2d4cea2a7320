"""Random GPT-2 models of `transformers`, and the comparison with what is imported from them."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from bridge.gpt import to_module
from valyrian_jax.bundle.bundle import Bundle

TEXT = (
    "the quick dragon sees a lazy wolf, and the wolf jumps over seventeen rivers; don't they? " * 20
)
TOKENS = torch.arange(44).view(2, 22)


def make_gpt2(**changes: Any) -> GPT2LMHeadModel:
    """Return a random GPT-2 of odd sizes, with biases and norms that affect the logits."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 301, "n_positions": 22, "n_embd": 30, "n_layer": 3, "n_head": 5}
    ids = {"bos_token_id": None, "eos_token_id": None}
    model = GPT2LMHeadModel(GPT2Config(**{**sizes, **ids, "initializer_range": 0.2, **changes}))
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or ".ln_" in name:
            torch.nn.init.normal_(parameter, float("weight" in name), 0.2)
    return model.eval()


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


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
