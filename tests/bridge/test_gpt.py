"""The PyTorch model against the GPT-2 of `transformers`, and its cache against itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bridge.gpt import to_module
from valyrian_jax.bundle.bundle import Bundle, save_bundle


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_logits_are_those_of_transformers(
    make: Callable[..., Bundle], tied: bool, activation: Any, tmp_path: Path
) -> None:
    source = make(tie_word_embeddings=tied, activation=activation)
    save_bundle(source, tmp_path / "bundle")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "bundle").double().eval()
    tokens = torch.randint(0, 300, (3, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = theirs(tokens).logits, to_module(source).double()(tokens)
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()
    assert expected.abs().max() > 1


def test_reading_in_parts_gives_the_logits_of_reading_at_once(small: Bundle) -> None:
    gpt = to_module(small).double()
    tokens = torch.randint(0, 300, (2, 24), generator=torch.Generator().manual_seed(1))
    expected = gpt(tokens)
    for cuts in ([24], [1] * 24, [5, 1, 1, 9, 8], [23, 1], [1, 23]):
        cache, start = gpt.empty_cache(2, 24), 0
        for size in cuts:
            logits = gpt.read(tokens[:, start : start + size], cache, start)
            start += size
            assert (logits - expected[:, start - 1]).abs().max() < 1e-12


def test_weights_can_be_trained_in_pytorch_too(small: Bundle) -> None:
    gpt = to_module(small).requires_grad_(True)
    gpt(torch.zeros(1, 3, dtype=torch.int64)).logsumexp(-1).sum().backward()
    assert all(p.grad is not None for p in gpt.parameters())
