"""Compare a training step with PyTorch: same shape, batch, dropout, optimizer and weights."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from measuring import Row, measure_flops, measure_in_turns, start_workers, time_call

if TYPE_CHECKING:
    from valyrian_jax.config import Config, ModelConfig

STEPS = 20  # timed together
STEPS_PER_DISPATCH = 10
VARIANTS = tuple(itertools.product(("transformers", "bridge"), ("eager", "compiled")))


def measure(rounds: int) -> Iterator[Row]:
    """Measure a step at batch 12 and 32, without and with dropout.

    Each competitor has a process, so that JAX and PyTorch do not share threads.
    """
    flops = measure_flops(2)
    for batch, dropout in itertools.product((12, 32), (0.0, 0.2)):
        with start_workers(1 + len(VARIANTS)) as (jax_worker, *torch_workers):
            loss = jax_worker(first_loss, batch)
            tasks = {"ours": functools.partial(jax_worker, time_jax_step, batch, dropout)}
            for (kind, mode), worker in zip(VARIANTS, torch_workers, strict=True):
                torch_loss = worker(first_torch_loss, kind, mode, batch)
                assert abs(torch_loss - loss) < 1e-4, (kind, mode, torch_loss, loss)
                tasks[f"{kind}, {mode}"] = functools.partial(
                    worker, time_torch_step, kind, mode, batch, dropout
                )
            seconds = measure_in_turns(tasks, rounds)
        work = step_flops(batch)
        yield Row(
            f"training step, batch {batch}, dropout {dropout}",
            "ms a step",
            {name: [value * 1e3 for value in values] for name, values in seconds.items()},
            work / flops * 1e3,
            f"{work / 1e9:.2f} GFLOP at {flops / 1e9:.0f} GFLOP/s, the speed of large products",
        )


def step_flops(batch: int) -> float:
    """Return the FLOP of a step (Chowdhery et al. 2022, appendix B).

    They are 6 N per token for N weights in products, and 12 L D T for attention.
    """
    c = make_config(batch, 0.0).model
    weights = c.n_layer * 12 * c.n_embd**2 + c.vocab_size * c.n_embd
    return batch * c.n_positions * (6 * weights + 12 * c.n_layer * c.n_embd * c.n_positions)


def make_config(batch: int, dropout: float) -> "Config":
    from valyrian_jax.config import config_from_tree

    return config_from_tree(
        {
            "model": {"dropout": dropout},
            "train": {"batch_size": batch, "device": "cpu"},
            "optim": {"name": "adamw", "nesterov": False},
        }
    )


def make_batches(batch: int, count: int) -> Any:
    return np.random.default_rng(0).integers(0, 500, (count, batch, 65)).astype(np.int32)


@functools.cache
def init_weights() -> dict[str, Any]:
    """Return initial weights, the same in every process."""
    import jax

    from valyrian_jax.model.parameters import init_params, to_tensors

    return to_tensors(init_params(make_config(12, 0.0).model, jax.random.key(0)))


def first_loss(batch: int) -> float:
    import jax.numpy as jnp

    from valyrian_jax.model.gpt import forward
    from valyrian_jax.model.loss import cross_entropy
    from valyrian_jax.model.parameters import from_tensors

    tokens = jnp.asarray(make_batches(batch, 1)[0])
    logits = forward(from_tensors(init_weights()), tokens[:, :-1], make_config(batch, 0.0).model)
    return float(cross_entropy(logits, tokens[:, 1:]))


@functools.cache
def make_jax_task(batch: int, dropout: float) -> Callable[[], None]:
    """Return a function that trains `STEPS` steps, already compiled."""
    import jax.numpy as jnp

    from valyrian_jax.model.parameters import from_tensors
    from valyrian_jax.training.optimizer import make_optimizer
    from valyrian_jax.training.train_step import init_state, make_train_step

    config = make_config(batch, dropout)
    optimizer = make_optimizer(config.optim, 10_000)
    train_step = make_train_step(config, optimizer)
    state = init_state(config, optimizer, from_tensors(init_weights()))
    batches = jnp.asarray(make_batches(batch, STEPS_PER_DISPATCH))

    def run() -> None:
        nonlocal state
        for _ in range(STEPS // STEPS_PER_DISPATCH):
            state, metrics = train_step(state, batches)
            metrics.loss.block_until_ready()

    run()
    return run


def time_jax_step(batch: int, dropout: float) -> float:
    """Return the seconds of a step."""
    return time_call(make_jax_task(batch, dropout)) / STEPS


def make_transformers_module(c: "ModelConfig", dropout: float, activation: str) -> Any:
    """Return transformers' GPT-2 with the shape of a model."""
    import transformers

    shape = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            **{name: getattr(c, name) for name in shape},
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout),
            activation_function=activation,
            **dict.fromkeys(("bos_token_id", "eos_token_id"), c.vocab_size - 1),
            tie_word_embeddings=False,
            use_cache=False,
        )
    )


def make_bridge_module(c: "ModelConfig", dropout: float) -> Any:
    """Return the bridge's module with dropout after its layers, but not on attention weights."""
    import torch

    from bridge.gpt import GPT

    module = GPT(c)
    if dropout:
        for layer in [m for block in module.transformer.h for m in (block.attn, block.mlp)]:
            layer.register_forward_hook(
                lambda m, _, out: torch.nn.functional.dropout(out, dropout, m.training)
            )
    return module


@functools.cache
def make_torch_loss(kind: str, mode: str, dropout: float) -> tuple[Any, Callable[[Any], Any]]:
    """Return a module with our initial weights, and the function of its loss."""
    import torch

    torch.set_num_threads(2)
    c = make_config(12, dropout).model
    if kind == "transformers":
        module = make_transformers_module(c, dropout, c.activation)
    else:
        module = make_bridge_module(c, dropout)
    weights = {name: torch.from_numpy(np.array(a)) for name, a in init_weights().items()}
    module.load_state_dict(weights)
    module.train()

    def loss(tokens: Any) -> Any:
        out = module(tokens[:, :-1])
        logits = out.logits if kind == "transformers" else out
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    return module, torch.compile(loss) if mode == "compiled" else loss


def first_torch_loss(kind: str, mode: str, batch: int) -> float:
    import torch

    _, loss = make_torch_loss(kind, mode, 0.0)
    return loss(torch.from_numpy(make_batches(batch, 1)[0]).long()).item()


@functools.cache
def make_torch_task(kind: str, mode: str, batch: int, dropout: float) -> Callable[[], None]:
    """Return a function that trains `STEPS` steps, already compiled."""
    import torch

    module, loss = make_torch_loss(kind, mode, dropout)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True
    )
    batches = torch.from_numpy(make_batches(batch, 10)).long()

    def run() -> None:
        for i in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            loss(batches[i % 10]).backward()
            optimizer.step()

    run()
    return run


def time_torch_step(kind: str, mode: str, batch: int, dropout: float) -> float:
    """Return the seconds of a step."""
    return time_call(make_torch_task(kind, mode, batch, dropout)) / STEPS
