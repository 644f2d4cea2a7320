"""Check that JAX, PyTorch, TorchScript and C++ compute the same function, within tolerances.

Every runtime is compared with JAX, stage by stage, on the CPU and at full matrix precision. The
GPT-2 of `transformers`, an independent implementation, must agree to the same tolerances.
`bridge.parity_runtimes` computes the numbers, and `bridge.parity_report` holds the result. The
parts run one after another, and each loads the weights again, because a large model would not fit
otherwise (see `bridge.parity_plan`).
"""

import functools
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bridge import torchscript
from bridge.export_metadata import Progress, ignore_progress
from bridge.generator import Generator
from bridge.gguf.export import write_weights
from bridge.parity_draws import explain_difference
from bridge.parity_plan import ROWS, Plan, plan_comparison
from bridge.parity_report import Comparison, hash_bundle, make_report
from bridge.parity_runtimes import (
    MODULE_LOADERS,
    Program,
    RuntimeOutputs,
    load_jax_model,
    make_generator_loaders,
    measure_jax,
    measure_torch,
    move_gradients,
    pin_jax,
    return_freed_memory,
)
from bridge.torch_settings import pin_torch_settings
from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.bundle.text_generation import encode_prompt
from valyrian_jax.config import SampleConfig, config_from_tree
from valyrian_jax.errors import UserError

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}  # relative to the largest value, or to 1
GRADIENT_FACTOR = 10  # A gradient sums over all tokens, so it rounds more often.


def verify(
    directory: Path,
    program: Path | None,
    progress: Progress = ignore_progress,
    runner: Path | None = None,
) -> dict[str, Any]:
    """Compare all runtimes on the weights of a bundle; return the contents of parity.json.

    Args:
        directory: Directory of the bundle.
        program: `valyrian-generate`, the C++ program with libtorch; None if it is not built.
        progress: Function that is called with the name of each part before it runs.
        runner: `valyrian-run`, the C++ program for GGUF files; None if it is not built.

    Raises:
        UserError: The bundle is invalid or changes during the comparison, or JAX is not installed.
    """
    return_freed_memory()
    with pin_jax(), pin_torch_settings(), tempfile.TemporaryDirectory() as scratch:
        sha256 = hash_bundle(directory)
        progress("writing the TorchScript file")
        file = Path(scratch, "model.pt")
        torchscript.write(directory, file)
        bundle = replace(load_bundle(directory), tensors={})
        plan = plan_comparison(bundle.model)
        programs = [Program("C++", program, file)] if program else []
        if runner and bundle.tokenizer.merges:  # llama.cpp requires merges in a file.
            programs.append(Program("C++ from GGUF", runner, file.with_suffix(".gguf")))
            write_weights(directory, programs[-1].file)
        comparisons = [
            *compare_numbers(bundle, directory, file, plan, progress),
            *compare_tokens(directory, file, programs, plan, progress),
        ]
    if hash_bundle(directory) != sha256:
        raise UserError(
            f"{directory} changed during the comparison, perhaps by a training run; verify it again"
        )
    return make_report(sha256, comparisons, plan.left_out)


def compare_numbers(
    bundle: Bundle,
    directory: Path,
    file: Path,
    plan: Plan,
    progress: Progress = ignore_progress,
) -> Iterator[Comparison]:
    """Compare stages and gradients in float32 and float64, and one AdamW step in float64.

    Only the logits of the TorchScript file are compared: it is float32 and has no other outputs.
    """
    shape = plan.rows, plan.length
    ids = np.arange(math.prod(shape)) % bundle.model.vocab_size
    tokens = np.random.default_rng(0).permutation(ids).reshape(shape)
    settings = bundle.manifest.get("config", {}).get("optim", {})
    adamw = {**settings, "name": "adamw", "nesterov": False}  # torch's AdamW has no Nesterov
    for dtype in plan.dtypes:
        tolerance = TOLERANCE[dtype]
        optim = config_from_tree({"optim": adamw}).optim if dtype == "float64" else None
        progress(f"JAX {dtype}: stages and gradients")
        reference = move_gradients(
            measure_jax(load_bundle(directory), tokens, optim, dtype),
            file.with_name(f"{dtype}.npz"),
        )
        for name, load_module in MODULE_LOADERS.items():
            runtime = f"{name} {dtype}"
            progress(f"{runtime}: stages and gradients")
            module = load_module(directory)
            if module is not None:
                outputs = measure_torch(module.to(getattr(torch, dtype)), tokens, optim)
                yield from compare_outputs(runtime, reference, outputs, tolerance)
                if optim:
                    yield from compare_update(runtime, reference, outputs, tolerance, optim.lr)
                del module, outputs
        if dtype == "float32":
            progress("TorchScript float32: logits")
            logits = torchscript.load(file)[0](torch.from_numpy(tokens)).numpy()
            expected = reference.stages["logits"]
            yield compare_stage("TorchScript float32", "logits", expected, logits, tolerance)
        del reference


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


def compare_tokens(
    directory: Path,
    file: Path,
    programs: Sequence[Program],
    plan: Plan,
    progress: Progress,
) -> Iterator[Comparison]:
    """Compare generated tokens of PyTorch, TorchScript and the C++ programs that are built.

    A text that differs counts only if rounding does not explain it (see `bridge.parity_draws`).
    """
    progress("prompts from the model")
    bundle = load_bundle(directory)
    prompts, tokenizer = make_prompts(bundle, plan), bundle.tokenizer
    del bundle
    samples = [
        SampleConfig("", plan.new_tokens, *settings) for settings in torchscript.EXAMPLE_SETTINGS
    ]
    tokens = {}
    for name, load_generator in make_generator_loaders(directory, file, programs).items():
        progress(f"{name}: {len(samples)} x {len(prompts)} texts")
        generate = load_generator()
        tokens[name] = [generate(prompts, sample) for sample in samples]
        del generate
    references = tokens.pop("JAX")
    load_model = functools.cache(lambda: load_jax_model(load_bundle(directory)))
    ids = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    for index, (reference, sample) in enumerate(zip(references, samples, strict=True)):
        for name, generated in tokens.items():
            changes = [
                explain_difference(load_model(), prompt, texts, sample, TOLERANCE["float32"])
                for prompt, *texts in zip(ids, reference, generated[index], strict=True)
                if texts[0] != texts[1]
            ]
            yield from compare_texts(name, len(prompts), changes, sample)


def compare_texts(
    runtime: str, count: int, changes: Sequence[float], sample: SampleConfig
) -> Iterator[Comparison]:
    """Compare texts; `changes` has the change of logits that explains each text that differs."""
    settings, tolerance = describe_settings(sample), TOLERANCE["float32"]
    explained = [change for change in changes if change <= tolerance]
    quantity = f"texts of {count} that differ beyond rounding ({settings})"
    yield Comparison(runtime, quantity, len(changes) - len(explained), 0)
    if explained:
        quantity = f"change of logits that explains {len(explained)} texts of {count} ({settings})"
        yield Comparison(runtime, quantity, max(explained), tolerance)


def describe_settings(sample: SampleConfig) -> str:
    """Return the main settings of the sampler, and the others that are on."""
    main = ("temperature", "top_k", "top_p")
    others = ("min_p", "repetition_penalty", "min_new_tokens")
    is_on = [name for name in others if getattr(sample, name) != getattr(SampleConfig, name)]
    return ", ".join(
        f"{name.replace('_', '-')} {getattr(sample, name)}" for name in (*main, *is_on)
    )


def make_prompts(bundle: Bundle, plan: Plan) -> list[str]:
    """Return one-line prompts from the model itself: longer than the context, short, and empty.

    If the model is too large to fill its context, the first prompt repeats what it generated.
    """
    context = bundle.model.n_positions
    start = torch.full((plan.texts, 1), bundle.tokenizer.end_of_text)
    length = context + ROWS if plan.new_tokens > context else plan.new_tokens
    tokens = Generator(bundle).generate(start, length, 1.0, 0, 1.0, 1)
    rows = tokens[:, 1:].tolist()
    long = rows[0] * math.ceil((context + ROWS) / length)
    prompts = [long, *(row[: 3 * i] for i, row in enumerate(rows[1:]))]
    return [" ".join(bundle.tokenizer.decode(ids).split()) for ids in prompts]


def max_difference(a: npt.NDArray[Any], b: npt.NDArray[Any] | None) -> float:
    """Return the largest absolute difference; infinity if b is None."""
    return float("inf") if b is None else float(np.abs(a.reshape(-1) - b.reshape(-1)).max())
