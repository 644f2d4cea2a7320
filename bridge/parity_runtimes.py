"""The outputs of each runtime that `bridge.parity` compares: numbers and generated tokens.

This is the only file of the bridge that imports JAX, and it does so inside its functions.
"""

import ctypes
import functools
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bridge import torchscript
from bridge.generator import Generator
from bridge.gpt import to_module
from bridge.streaming import stream
from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.bundle.language_model import LanguageModel
from valyrian_jax.bundle.text_generation import TokenGenerator, encode_prompt
from valyrian_jax.config import OptimConfig, SampleConfig
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer

Arrays = dict[str, npt.NDArray[Any]]
# The sampler's settings, in the order of TorchScript's arguments.
SAMPLER_SETTINGS = (
    "temperature",
    "top_k",
    "top_p",
    "seed",
    "min_p",
    "repetition_penalty",
    "min_new_tokens",
)
_M_MMAP_THRESHOLD = -3  # of mallopt
PromptGenerator = Callable[[Sequence[str], SampleConfig], list[list[int]]]


class Program(NamedTuple):
    """A C++ program, and the file that it runs."""

    runtime: str
    path: Path
    file: Path


class RuntimeOutputs(NamedTuple):
    """What one runtime computes from the same weights and tokens."""

    stages: Arrays  # output of every stage, in the order of the forward pass
    gradients: Mapping[str, npt.NDArray[Any]]  # gradient of the mean loss, by parameter
    updated: Arrays  # weights after one AdamW step, by parameter; empty if none was taken


@contextmanager
def pin_jax() -> Iterator[None]:
    """Run JAX on the CPU, at full matrix precision and with its usual settings."""
    try:
        import jax
        import optax  # noqa: F401

        from valyrian_jax.model.jax_settings import pin_jax_settings
    except ImportError as error:
        raise UserError(
            "verify compares with JAX, which is not installed; install jax, flax and optax"
        ) from error
    with (
        pin_jax_settings(),
        jax.default_matmul_precision("highest"),
        jax.default_device(jax.devices("cpu")[0]),
    ):
        yield


def measure_jax(
    bundle: Bundle, tokens: npt.NDArray[np.int64], optim: OptimConfig | None, dtype: str
) -> RuntimeOutputs:
    """Return the outputs of `valyrian_jax`; with `optim`, also those of one AdamW step."""
    import jax
    import jax.numpy as jnp
    import optax

    from valyrian_jax.model.activations import activations
    from valyrian_jax.model.gpt import forward
    from valyrian_jax.model.loss import cross_entropy
    from valyrian_jax.model.parameters import Params, from_tensors, to_tensors
    from valyrian_jax.training.optimizer import make_optimizer

    x, model = jnp.asarray(tokens, jnp.int32), bundle.model

    def mean_loss(params: Params) -> jax.Array:
        return cross_entropy(forward(params, x, model)[:, :-1], x[:, 1:])

    @jax.jit
    def measure(params: Params) -> tuple[Any, Any, Any]:
        stages, gradients = activations(params, x, model), jax.grad(mean_loss)(params)
        if optim is None:
            return stages, gradients, {}
        optimizer = make_optimizer(optim, 1)
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        return stages, gradients, optax.apply_updates(params, updates)

    with jax.enable_x64(dtype == "float64"):
        params = from_tensors(
            {name: tensor.astype(dtype, copy=False) for name, tensor in bundle.tensors.items()}
        )
        del bundle  # The caller keeps no reference, so the weights are in memory only once.
        stages, gradients, updated = measure(params)
        return RuntimeOutputs(
            {name: np.asarray(stage) for name, stage in stages.items()},
            dict(to_tensors(gradients)),
            dict(to_tensors(updated)),
        )


def move_gradients(outputs: RuntimeOutputs, file: Path) -> RuntimeOutputs:
    """Write the gradients to a file, from which each is read when it is used."""
    np.savez(file, **outputs.gradients)  # type: ignore[arg-type]
    return outputs._replace(gradients=np.load(file))


def return_freed_memory() -> None:
    """Tell glibc to return freed arrays to the system; by default it keeps those below 32 MB."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def measure_torch(
    module: nn.Module, tokens: npt.NDArray[np.int64], optim: OptimConfig | None
) -> RuntimeOutputs:
    """Return the outputs of a PyTorch module with GPT-2's names: ours or that of `transformers`.

    With `optim`, the module takes one AdamW step, which changes its weights.
    """
    module.requires_grad_(True)
    stages: Arrays = {}

    def record(name: str, value: Any) -> None:
        stages[name] = (value[0] if isinstance(value, tuple) else value).detach().numpy()

    transformer: Any = module.transformer
    transformer.h[0].register_forward_pre_hook(lambda _, inputs: record("embedding", inputs))
    for i, block in enumerate(transformer.h):
        block.register_forward_hook(lambda _, __, out, name=f"h.{i}": record(name, out))
    transformer.ln_f.register_forward_hook(lambda _, __, out: record("ln_f", out))

    ids = torch.from_numpy(tokens)
    out = module(ids)
    logits = out if isinstance(out, Tensor) else out.logits
    record("logits", logits)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    parameters = dict(module.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    updated: Arrays = {}
    if optim:
        step_adamw(list(parameters.values()), gradients, optim)
        updated = {name: p.detach().numpy() for name, p in parameters.items()}
    by_name = {name: g.numpy() for name, g in zip(parameters, gradients, strict=True)}
    return RuntimeOutputs(stages, by_name, updated)


def step_adamw(
    parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor], optim: OptimConfig
) -> None:
    """Clip the gradients and take one AdamW step in place, as `valyrian_jax.training` does."""
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt().item()
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = g * min(1.0, optim.clip_norm / norm)
    groups = [
        {"params": [p for p in parameters if p.ndim == 2], "weight_decay": optim.weight_decay},
        {"params": [p for p in parameters if p.ndim != 2], "weight_decay": 0.0},
    ]
    torch.optim.AdamW(groups, lr=optim.lr, betas=(optim.beta1, optim.beta2)).step()


def load_transformers_gpt2(directory: Path) -> nn.Module | None:
    """Load a bundle as the GPT-2 of `transformers`; None if `transformers` is not installed."""
    try:
        from transformers import GPT2LMHeadModel
        from transformers.utils import logging
    except ImportError:
        return None
    logging.disable_progress_bar()
    return GPT2LMHeadModel.from_pretrained(
        directory, local_files_only=True, dtype=torch.float32
    ).eval()


# Functions from a bundle directory to a module; None if `transformers` is not installed.
MODULE_LOADERS: dict[str, Callable[[Path], nn.Module | None]] = {
    "PyTorch": lambda directory: to_module(load_bundle(directory)),
    "transformers": load_transformers_gpt2,
}


def make_generator_loaders(
    directory: Path, file: Path, programs: Sequence[Program]
) -> dict[str, Callable[[], PromptGenerator]]:
    """Return by runtime a function that loads it.

    The loaded runtime is a function from prompts to the new tokens of each prompt.
    """
    loaders: dict[str, Callable[[], PromptGenerator]] = {
        "JAX": lambda: _load_jax_generator(load_bundle(directory)),
        "PyTorch": lambda: _load_torch_generator(load_bundle(directory)),
        "TorchScript": lambda: functools.partial(run_script, torchscript.load(file)[0]),
    }
    for program in programs:
        run = functools.partial(run_program, program.path, program.file)
        loaders[program.runtime] = functools.partial(_return_generator, run)
    return loaders


def _return_generator(generate: PromptGenerator) -> PromptGenerator:
    """Return a generator that needs no loading: a program reads its file itself."""
    return generate


def _load_jax_generator(bundle: Bundle) -> PromptGenerator:
    from valyrian_jax.generation.generate import make_generator

    return functools.partial(run_stream, make_generator(bundle), bundle.tokenizer)


def load_jax_model(bundle: Bundle) -> LanguageModel:
    """Return the model in JAX, the reference for the tokens that can be drawn."""
    from valyrian_jax.api import Model

    return Model(bundle)


def _load_torch_generator(bundle: Bundle) -> PromptGenerator:
    generate = functools.partial(stream, Generator(bundle))
    return functools.partial(run_stream, generate, bundle.tokenizer)


def run_stream(
    generate: TokenGenerator, tokenizer: Tokenizer, prompts: Sequence[str], sample: SampleConfig
) -> list[list[int]]:
    """Generate with a streaming function, one prompt at a time."""
    return [
        [int(row[0]) for row in generate([encode_prompt(tokenizer, prompt)], [sample.seed], sample)]
        for prompt in prompts
    ]


def run_script(script: Any, prompts: Sequence[str], sample: SampleConfig) -> list[list[int]]:
    """Generate with a TorchScript module, which also encodes the prompts."""
    settings = [getattr(sample, name) for name in SAMPLER_SETTINGS]
    new_tokens = []
    for prompt in prompts:
        ids = script.encode(prompt) or [script.end_of_text]
        out = script.generate(torch.tensor([ids]), sample.max_new_tokens, *settings)
        new_tokens.append(out[0, len(ids) :].tolist())
    return new_tokens


def run_program(
    program: Path, file: Path, prompts: Sequence[str], sample: SampleConfig
) -> list[list[int]]:
    """Generate with a C++ program, which reads one prompt per line and writes its new ids."""
    options = [
        f"--{name.replace('_', '-')}={getattr(sample, name)}"
        for name in ("max_new_tokens", *SAMPLER_SETTINGS)
    ]
    process = subprocess.run(
        [program, file, "--ids", "--prompts", "-", *options],
        input="\n".join([*prompts, ""]),
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        reason = process.stderr.strip() or "no message"
        raise UserError(
            f"{program} failed with status {process.returncode}: {reason}; build it again"
        )
    lines = process.stdout.splitlines()
    if len(lines) != len(prompts):
        raise UserError(
            f"{program} is not one of our programs: expected {len(prompts)} lines for as many "
            f"prompts, found {len(lines)}; pass valyrian-generate with --program, and valyrian-run "
            "with --runner"
        )
    return [[int(i) for i in line.split()] for line in lines]
