"""Check that JAX, PyTorch, TorchScript and C++ compute the same function, within tolerances.

Every runtime is compared with JAX, stage by stage, on the CPU and at full matrix precision. The
GPT-2 of `transformers`, an independent implementation, must agree to the same tolerances.
`bridge.parity_runtimes` computes the numbers, and `bridge.parity_report` holds the result.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bridge import torchscript
from bridge.generator import Generator
from bridge.gpt import to_module
from bridge.parity_report import Comparison, hash_bundle, make_report
from bridge.parity_runtimes import (
    RuntimeOutputs,
    load_transformers_gpt2,
    make_generators,
    measure_jax,
    measure_torch,
    pin_jax,
)
from bridge.torch_settings import pin_torch_settings
from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.config import SampleConfig, config_from_tree
from valyrian_jax.errors import UserError

ROWS = 8
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}  # relative to the largest value, or to 1
GRADIENT_FACTOR = 10  # a gradient is a sum over all tokens, which rounds as often


def verify(directory: Path, program: Path | None) -> dict[str, Any]:
    """Compare all runtimes on the weights of a bundle.

    Args:
        directory: Directory of the bundle.
        program: The C++ program; None if it is not built.

    Returns:
        The contents of parity.json: versions, comparisons, and whether all of them passed.

    Raises:
        UserError: The bundle is invalid or changes meanwhile, or JAX is not installed.
    """
    with pin_jax(), pin_torch_settings(), tempfile.TemporaryDirectory() as scratch:
        sha256 = hash_bundle(directory)
        bundle = load_bundle(directory)
        file = Path(scratch, "model.pt")
        torchscript.write(directory, file)
        comparisons = [
            *compare_numbers(bundle, directory, file),
            *compare_tokens(bundle, file, program),
        ]
    if hash_bundle(directory) != sha256:
        raise UserError(
            f"{directory} changed during the comparison, perhaps by a training run; verify it again"
        )
    return make_report(sha256, comparisons)


def compare_numbers(bundle: Bundle, directory: Path, file: Path) -> Iterator[Comparison]:
    """Compare stages, gradients and one AdamW step in float32 and float64.

    Only the logits of the TorchScript file are compared: it is float32 and has no other outputs.
    """
    shape = ROWS, bundle.model.n_positions
    ids = np.arange(ROWS * bundle.model.n_positions) % bundle.model.vocab_size
    tokens = np.random.default_rng(0).permutation(ids).reshape(shape)
    settings = bundle.manifest.get("config", {}).get("optim", {})
    adamw = {**settings, "name": "adamw", "nesterov": False}  # torch's AdamW has no Nesterov
    optim = config_from_tree({"optim": adamw}).optim
    modules = {"PyTorch": to_module(bundle), "transformers": load_transformers_gpt2(directory)}
    for dtype, tolerance in TOLERANCE.items():
        reference = measure_jax(bundle, tokens, optim, dtype)
        for name, module in modules.items():
            if module is not None:
                outputs = measure_torch(module.to(getattr(torch, dtype)), tokens, optim)
                runtime = f"{name} {dtype}"
                yield from compare_outputs(runtime, reference, outputs, tolerance)
                if dtype == "float64":
                    yield from compare_update(runtime, reference, outputs, tolerance, optim.lr)
        if dtype == "float32":
            logits = torchscript.load(file)[0](torch.from_numpy(tokens)).numpy()
            expected = reference.stages["logits"]
            yield compare_stage("TorchScript float32", "logits", expected, logits, tolerance)


def compare_outputs(
    runtime: str, reference: RuntimeOutputs, outputs: RuntimeOutputs, tolerance: float
) -> Iterator[Comparison]:
    """Compare the stages, in the order of the forward pass, and the gradients."""
    for stage, values in reference.stages.items():
        yield compare_stage(runtime, stage, values, outputs.stages[stage], tolerance)
    p, q = (torch.tensor(x.stages["logits"]).double().log_softmax(-1) for x in (reference, outputs))
    kl = (p.exp() * (p - q)).sum(-1).abs().max()
    yield Comparison(runtime, "KL, largest", float(kl), tolerance)
    is_different = (p.argmax(-1) != q.argmax(-1)).double()
    yield Comparison(runtime, "top-1, share that differs", float(is_different.mean()), 0.0)
    for name, values in reference.gradients.items():
        difference = max_difference(values, outputs.gradients.get(name))
        allowed = GRADIENT_FACTOR * tolerance * float(np.abs(values).max())
        yield Comparison(runtime, f"gradient: {name}", difference, allowed)


def compare_stage(
    runtime: str,
    stage: str,
    expected: npt.NDArray[Any],
    values: npt.NDArray[Any],
    tolerance: float,
) -> Comparison:
    """Compare one stage; the tolerance is relative to the largest value, or to 1."""
    allowed = tolerance * max(1.0, float(np.abs(expected).max()))
    return Comparison(runtime, stage, max_difference(expected, values), allowed)


def compare_update(
    runtime: str, reference: RuntimeOutputs, outputs: RuntimeOutputs, tolerance: float, lr: float
) -> Iterator[Comparison]:
    """Compare the weights after one AdamW step.

    The first step moves a weight by lr x g / (|g| + 1e-8), which magnifies the rounding of a
    gradient near 0 by up to lr x 1e8. The allowed difference includes the gradient's difference
    magnified by that. In float32 this would allow any difference, so only float64 is compared.
    """
    for name, values in reference.updated.items():
        rounding = max_difference(reference.gradients[name], outputs.gradients.get(name))
        magnified = lr * rounding / 1e-8
        allowed = tolerance * max(1.0, float(np.abs(values).max())) + magnified
        difference = max_difference(values, outputs.updated.get(name))
        yield Comparison(runtime, f"weights after a step: {name}", difference, allowed)


def compare_tokens(bundle: Bundle, file: Path, program: Path | None) -> Iterator[Comparison]:
    """Compare generated tokens of PyTorch, TorchScript and, if it is built, C++."""
    generators = make_generators(bundle, file, program)
    generate_reference = generators.pop("JAX")
    prompts = make_prompts(bundle)
    for settings in torchscript.EXAMPLE_SETTINGS:
        sample = SampleConfig("", bundle.model.n_positions * 3 // 2, *settings)
        reference = generate_reference(prompts, sample)
        temperature, top_k, top_p, _ = settings
        quantity = (
            f"texts of {len(prompts)} that differ "
            f"(temperature {temperature}, top-k {top_k}, top-p {top_p})"
        )
        for name, generate in generators.items():
            pairs = zip(reference, generate(prompts, sample), strict=True)
            yield Comparison(name, quantity, sum(a != b for a, b in pairs), 0)


def make_prompts(bundle: Bundle) -> list[str]:
    """Return one-line prompts from the model itself: empty, short, and longer than the context."""
    start = torch.full((ROWS, 1), bundle.tokenizer.end_of_text)
    tokens = Generator(bundle).generate(start, bundle.model.n_positions + ROWS, 1.0, 0, 1.0, 1)
    rows = tokens[:, 1:].tolist()
    prompts = [rows[0], *(row[: 3 * i] for i, row in enumerate(rows[1:]))]
    return [" ".join(bundle.tokenizer.decode(ids).split()) for ids in prompts]


def max_difference(a: npt.NDArray[Any], b: npt.NDArray[Any] | None) -> float:
    """Return the largest absolute difference; infinity if there is no b."""
    return float("inf") if b is None else float(np.abs(a.reshape(-1) - b.reshape(-1)).max())
