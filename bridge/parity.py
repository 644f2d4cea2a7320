"""The proof that JAX, PyTorch, TorchScript and C++ compute the same: how far apart they are, stage by stage.

Everything is compared with JAX, on the CPU and at full matrix precision. The GPT-2 of `transformers`, which nobody here
wrote, is held to the same numbers as our own module. This is the only file of the bridge that imports the JAX side, and
it does so when it is called.
"""

import copy
import functools
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from bridge import torchscript
from bridge.generator import Generator, stream
from bridge.gpt import to_module
from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.bundle.text_generation import encode_prompt
from valyrian_jax.config import OptimConfig, SampleConfig, config_from_tree
from valyrian_jax.errors import UserError

FORMAT_VERSION = 1
ROWS = 8
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}  # of the largest value there is, or of 1
SUMS = 10  # gradients are sums over all tokens, and round as often
Arrays = dict[str, npt.NDArray[Any]]
TokensOf = Callable[[Sequence[str], SampleConfig], list[list[int]]]


class RuntimeOutputs(NamedTuple):
    """One runtime's answers: what the stages give, the gradient of the loss, the weights after one AdamW step."""

    stages: Arrays
    gradients: Arrays
    updated: Arrays


class Comparison(NamedTuple):
    """How far a runtime is from JAX in one respect."""

    runtime: str
    what: str
    difference: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the difference is allowed; one that is not a number never is."""
        return self.difference <= self.allowed


def verify(directory: Path, program: Path | None) -> dict[str, Any]:
    """Compare all runtimes on the weights of a bundle directory.

    Args:
        directory: the bundle.
        program: the C++ program, if it is built.

    Returns:
        What parity.json holds: versions, findings, the first stage that diverges, and whether all passed.

    Raises:
        UserError: the bundle is refused, or JAX is not installed.
    """
    try:
        import jax
        import optax  # noqa: F401

        from valyrian_jax.model import gpt  # noqa: F401
    except ImportError as error:
        raise UserError(
            "verify compares with JAX, which is not installed; install jax, flax and optax"
        ) from error
    proven = torchscript.fingerprint(directory)
    source = load_bundle(directory)
    cpu = jax.devices("cpu")[0]
    with (
        tempfile.TemporaryDirectory() as scratch,
        jax.default_matmul_precision("highest"),
        jax.default_device(cpu),
    ):
        file = Path(scratch, "model.pt")
        torchscript.write(directory, file)
        findings = [
            *compare_numbers(source, directory, file),
            *compare_tokens(source, file, program),
        ]
    if torchscript.fingerprint(directory) != proven:
        raise UserError(
            f"{directory} was replaced meanwhile, by a training run perhaps; verify it again"
        )
    failed = [finding for finding in findings if not finding.passed]
    return {
        "format_version": FORMAT_VERSION,
        "sha256": proven,
        "versions": {name: _version(name) for name in ("jax", "flax", "torch", "transformers")},
        "machine": platform.machine(),
        "passed": not failed,
        "first_divergence": f"{failed[0].runtime}: {failed[0].what}" if failed else None,
        "findings": [{**finding._asdict(), "passed": finding.passed} for finding in findings],
    }


def compare_numbers(source: Bundle, directory: Path, file: Path) -> Iterator[Comparison]:
    """Findings on stages, gradients and one AdamW step: our module and `transformers`, in float32 and float64.

    Of the TorchScript file, which has no other dtype and keeps its stages to itself, the logits.
    """
    tokens = np.random.default_rng(0).permutation(
        np.arange(ROWS * source.model.n_positions) % source.model.vocab_size
    )
    tokens = tokens.reshape(ROWS, source.model.n_positions)
    asked = source.manifest.get("config", {}).get("optim", {})
    optim = config_from_tree(
        {"optim": {**asked, "name": "adamw", "nesterov": False}}
    ).optim  # as torch has it
    modules = {"PyTorch": to_module(source), "transformers": transformers_gpt2(directory)}
    for dtype, tolerance in TOLERANCE.items():
        expected = measure_jax(source, tokens, optim, dtype)
        for name, module in modules.items():
            if module is not None:
                found = measure_torch(module.to(getattr(torch, dtype)), tokens, optim)
                yield from compare(f"{name} {dtype}", expected, found, tolerance)
                if dtype == "float64":
                    yield from compare_step(f"{name} {dtype}", expected, found, tolerance, optim.lr)
        if dtype == "float32":
            logits = torchscript.load(file)[0](torch.from_numpy(tokens)).numpy()
            yield compare_stage(
                "TorchScript float32", "logits", expected.stages["logits"], logits, tolerance
            )


def compare(
    runtime: str, expected: RuntimeOutputs, found: RuntimeOutputs, tolerance: float
) -> Iterator[Comparison]:
    """Findings on stages and gradients, in the order of the forward pass."""
    for stage, values in expected.stages.items():
        yield compare_stage(runtime, stage, values, found.stages[stage], tolerance)
    p, q = (torch.tensor(m.stages["logits"]).double().log_softmax(-1) for m in (expected, found))
    yield Comparison(
        runtime, "KL, largest", float((p.exp() * (p - q)).sum(-1).abs().max()), tolerance
    )
    other = (p.argmax(-1) != q.argmax(-1)).double().mean()
    yield Comparison(runtime, "top-1, share that differs", float(other), 0.0)
    for name, values in expected.gradients.items():
        allowed = SUMS * tolerance * float(np.abs(values).max())
        yield Comparison(
            runtime, f"gradient: {name}", _distance(values, found.gradients.get(name)), allowed
        )


def compare_stage(
    runtime: str, stage: str, expected: npt.NDArray[Any], found: npt.NDArray[Any], tolerance: float
) -> Comparison:
    """The finding on one stage."""
    return Comparison(
        runtime,
        stage,
        _distance(expected, found),
        tolerance * max(1.0, float(np.abs(expected).max())),
    )


def compare_step(
    runtime: str, expected: RuntimeOutputs, found: RuntimeOutputs, tolerance: float, lr: float
) -> Iterator[Comparison]:
    """Findings on the weights after one AdamW step.

    The first step moves a weight by lr x g / (|g| + 1e-8), so that what rounding does to a gradient near 0 counts up to
    1e8 times: the gradient's own difference, so enlarged, is allowed. In float32 that would allow anything.
    """
    for name, values in expected.updated.items():
        enlarged = lr * _distance(expected.gradients[name], found.gradients.get(name)) / 1e-8
        allowed = tolerance * max(1.0, float(np.abs(values).max())) + enlarged
        yield Comparison(
            runtime,
            f"weights after a step: {name}",
            _distance(values, found.updated.get(name)),
            allowed,
        )


def _distance(a: npt.NDArray[Any], b: npt.NDArray[Any] | None) -> float:
    return float("inf") if b is None else float(np.abs(a.reshape(-1) - b.reshape(-1)).max())


def measure_jax(
    source: Bundle, tokens: npt.NDArray[np.int64], optim: OptimConfig, dtype: str
) -> RuntimeOutputs:
    """The answers of `valyrian_jax`."""
    import jax
    import jax.numpy as jnp
    import optax

    from valyrian_jax.model.gpt import activations, forward
    from valyrian_jax.model.loss import cross_entropy
    from valyrian_jax.model.parameters import Params, from_tensors, to_tensors
    from valyrian_jax.training.optimizer import make_optimizer

    x = jnp.asarray(tokens, jnp.int32)

    def mean_loss(params: Params) -> jax.Array:
        return cross_entropy(forward(params, x, source.model)[:, :-1], x[:, 1:])

    @jax.jit
    def measure(params: Params) -> tuple[Any, Any, Any]:
        stages, gradients = activations(params, x, source.model), jax.grad(mean_loss)(params)
        optimizer = make_optimizer(optim, 1)
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        return stages, gradients, optax.apply_updates(params, updates)

    with jax.enable_x64(dtype == "float64"):
        params = from_tensors(
            {name: tensor.astype(dtype) for name, tensor in source.tensors.items()}
        )
        stages, gradients, updated = measure(params)
        return RuntimeOutputs(
            {name: np.asarray(stage) for name, stage in stages.items()},
            dict(to_tensors(gradients)),
            dict(to_tensors(updated)),
        )


def measure_torch(
    module: nn.Module, tokens: npt.NDArray[np.int64], optim: OptimConfig
) -> RuntimeOutputs:
    """The answers of a PyTorch module with GPT-2's names: ours, or that of `transformers`."""
    module = copy.deepcopy(module).requires_grad_(True)
    stages: Arrays = {}

    def keep(name: str, value: Any) -> None:
        stages[name] = (value[0] if isinstance(value, tuple) else value).detach().numpy()

    transformer: Any = module.transformer
    transformer.h[0].register_forward_pre_hook(lambda _, inputs: keep("embedding", inputs))
    for i, block in enumerate(transformer.h):
        block.register_forward_hook(lambda _, __, out, name=f"h.{i}": keep(name, out))
    transformer.ln_f.register_forward_hook(lambda _, __, out: keep("ln_f", out))

    ids = torch.from_numpy(tokens)
    out = module(ids)
    logits = out if isinstance(out, torch.Tensor) else out.logits
    keep("logits", logits)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    parameters = dict(module.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()))

    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt().item()
    for p, g in zip(parameters.values(), gradients, strict=True):
        p.grad = g * min(1.0, optim.clip_norm / norm)
    decayed = [p for p in parameters.values() if p.ndim == 2]
    others = [p for p in parameters.values() if p.ndim != 2]
    torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": optim.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=float(np.float32(optim.lr)),  # JAX's schedule is a float32 number
        betas=(optim.beta1, optim.beta2),
    ).step()
    return RuntimeOutputs(
        stages,
        {name: g.numpy() for name, g in zip(parameters, gradients, strict=True)},
        {name: p.detach().numpy() for name, p in parameters.items()},
    )


def transformers_gpt2(directory: Path) -> nn.Module | None:
    """The GPT-2 of `transformers` with the weights of a bundle directory; None where it is not installed."""
    try:
        from transformers import GPT2LMHeadModel
        from transformers.utils import logging
    except ImportError:
        return None
    logging.disable_progress_bar()
    return GPT2LMHeadModel.from_pretrained(
        directory, local_files_only=True, dtype=torch.float32
    ).eval()


def compare_tokens(source: Bundle, file: Path, program: Path | None) -> Iterator[Comparison]:
    """Findings on generated tokens: PyTorch, TorchScript and, where it is built, C++."""
    runtimes = generators(source, file, program)
    reference = runtimes.pop("JAX")
    prompts = example_prompts(source)
    for temperature, top_k, top_p, seed in torchscript.EXAMPLES:
        sample = SampleConfig(
            "", source.model.n_positions * 3 // 2, temperature, top_k, top_p, seed
        )
        expected = reference(prompts, sample)
        for name, generate in runtimes.items():
            different = sum(
                a != b for a, b in zip(expected, generate(prompts, sample), strict=True)
            )
            what = f"texts of {len(prompts)} that differ (temperature {temperature}, top-k {top_k}, top-p {top_p})"
            yield Comparison(name, what, different, 0)


def generators(source: Bundle, file: Path, program: Path | None) -> dict[str, TokensOf]:
    """Every runtime as a function from prompts to the new tokens of each."""
    from valyrian_jax.generation.generate import stream_tokens
    from valyrian_jax.model.parameters import from_tensors

    jax_generate = functools.partial(stream_tokens, from_tensors(source.tensors), source.model)
    torch_generate = functools.partial(stream, Generator(source))
    script, _ = torchscript.load(file)

    def one_by_one(generate: Any) -> TokensOf:
        return lambda prompts, sample: [
            [int(row[0]) for row in generate(encode_prompt(source.tokenizer, prompt), sample, 1)]
            for prompt in prompts
        ]

    def scripted(prompts: Sequence[str], s: SampleConfig) -> list[list[int]]:
        starts = [script.encode(prompt) or [script.end_of_text] for prompt in prompts]
        settings = s.max_new_tokens, s.temperature, s.top_k, s.top_p, s.seed
        outs = [script.generate(torch.tensor([start]), *settings)[0].tolist() for start in starts]
        return [out[len(start) :] for start, out in zip(starts, outs, strict=True)]

    def compiled(prompts: Sequence[str], s: SampleConfig) -> list[list[int]]:
        options = {
            name.replace("_", "-"): value for name, value in asdict(s).items() if name != "prompt"
        }
        command = [
            str(program),
            str(file),
            "--ids",
            "--prompts",
            "-",
            *(f"--{k}={v}" for k, v in options.items()),
        ]
        done = subprocess.run(
            command, input="\n".join([*prompts, ""]), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise UserError(
                f"{program} ended with status {done.returncode}: {done.stderr.strip() or 'no message'}"
            )
        lines = done.stdout.splitlines()
        if len(lines) != len(prompts):
            raise UserError(
                f"{program} printed {len(lines)} lines for {len(prompts)} prompts: no valyrian-generate"
            )
        return [[int(i) for i in line.split()] for line in lines]

    runtimes = {
        "JAX": one_by_one(jax_generate),
        "PyTorch": one_by_one(torch_generate),
        "TorchScript": scripted,
    }
    return {**runtimes, "C++": compiled} if program else runtimes


def example_prompts(source: Bundle) -> list[str]:
    """Texts of one line from the model itself: none, short ones, and one longer than the context."""
    generator = Generator(source)
    start = torch.full((ROWS, 1), source.tokenizer.end_of_text)
    rows = generator.generate(start, source.model.n_positions + ROWS, 1.0, 0, 1.0, 1)[
        :, 1:
    ].tolist()
    cut = [rows[0], *(row[: 3 * i] for i, row in enumerate(rows[1:]))]
    return [" ".join(source.tokenizer.decode(ids).split()) for ids in cut]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
