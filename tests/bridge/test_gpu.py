"""The PyTorch side on a GPU: pytest --gpu -n0 tests/bridge/test_gpu.py."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from bridge.gpt import to_module
from valyrian_jax.bundle.bundle import Bundle

pytestmark = pytest.mark.gpu
# temperature, top_k, top_p, seed
SETTINGS = ((0.0, 0, 1.0, 0), (0.8, 0, 0.95, 7), (1.0, 20, 1.0, 3))


@pytest.fixture(scope="module")
def script_on_gpu(file: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(str(file), map_location="cuda")


def test_logits_equal_those_of_the_cpu(small: Bundle) -> None:
    module, tokens = to_module(small).eval(), torch.randint(small.model.vocab_size, (4, 16))
    with torch.no_grad():
        expected = module(tokens)
        logits = module.cuda()(tokens.cuda()).cpu()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_torchscript_file_gives_the_text_of_the_cpu(
    script: Any, script_on_gpu: Any, settings: Any
) -> None:
    for prompt in ("the dragon", ""):
        expected = script.generate_text(prompt, 60, *settings)
        assert script_on_gpu.generate_text(prompt, 60, *settings) == expected


def test_streaming_gives_the_tokens_of_the_cpu(script: Any, script_on_gpu: Any) -> None:
    def stream(module: Any, device: str) -> list[int]:
        tokens, cache = torch.tensor([[5, 6, 7]], device=device), module.new_cache(1)
        for index in range(20):
            logits, cache = module.step(tokens, cache)
            tokens = torch.cat([tokens, module.sample(logits, index, 0.8, 0, 0.95, 1)[:, None]], 1)
        return tokens[0].tolist()

    assert stream(script_on_gpu, "cuda") == stream(script, "cpu")
