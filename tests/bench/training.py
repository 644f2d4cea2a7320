"""A training step beside PyTorch's: the same shape, batch, dropout and rule (AdamW), from the same weights."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from measuring import Row, in_turns, peak_flops, processes, seconds

STEPS = 20  # timed in one go
VARIANTS = tuple(itertools.product(("transformers", "bridge"), ("eager", "compiled")))


def rows(rounds: int) -> Iterator[Row]:
    """A step at batch 12 and 32, without dropout and with."""
    peak = peak_flops(2)
    for batch, dropout in itertools.product((12, 32), (0.0, 0.2)):
        with processes(1 + len(VARIANTS)) as (here, *there):
            first = here(first_loss, batch)
            work: dict[str, Callable[[], float]] = {
                "ours": lambda b=batch, d=dropout: here(ours, b, d)
            }
            for (kind, how), process in zip(VARIANTS, there, strict=True):
                found = process(first_torch_loss, kind, how, batch)
                assert abs(found - first) < 1e-4, (kind, how, found, first)
                work[f"{kind}, {how}"] = lambda p=process, k=kind, h=how, b=batch, d=dropout: p(
                    theirs, k, h, b, d
                )
            found = in_turns(work, rounds)
        yield Row(
            f"training step, batch {batch}, dropout {dropout}",
            "ms a step",
            {name: [value * 1e3 for value in values] for name, values in found.items()},
            step_flops(batch) / peak * 1e3,
            f"{step_flops(batch) / 1e9:.2f} GFLOP at {peak / 1e9:.0f} GFLOP/s, as large products ran",
        )


def step_flops(batch: int) -> float:
    """6 N operations a token for N weights in products, 12 L D T for attention (Chowdhery et al. 2022, appendix B)."""
    c = config(batch, 0.0).model
    weights = c.n_layer * 12 * c.n_embd**2 + c.vocab_size * c.n_embd
    return batch * c.n_positions * (6 * weights + 12 * c.n_layer * c.n_embd * c.n_positions)


def config(batch: int, dropout: float) -> Any:
    from valyrian_jax.config import config_from_tree

    return config_from_tree(
        {
            "model": {"dropout": dropout},
            "train": {"batch_size": batch, "device": "cpu"},
            "optim": {"name": "adamw", "nesterov": False},
        }
    )


def batches(batch: int, count: int) -> Any:
    return np.random.default_rng(0).integers(0, 500, (count, batch, 65)).astype(np.int32)


@functools.cache
def initial() -> dict[str, Any]:
    """Weights to start from, the same in every process."""
    import jax

    from valyrian_jax.model.parameters import init_params, to_tensors

    return to_tensors(init_params(config(12, 0.0).model, jax.random.key(0)))


def first_loss(batch: int) -> float:
    import jax.numpy as jnp

    from valyrian_jax.model.gpt import forward
    from valyrian_jax.model.loss import cross_entropy
    from valyrian_jax.model.parameters import from_tensors

    first = jnp.asarray(batches(batch, 1)[0])
    logits = forward(from_tensors(initial()), first[:, :-1], config(batch, 0.0).model)
    return float(cross_entropy(logits, first[:, 1:]))


@functools.cache
def prepared(batch: int, dropout: float) -> Callable[[], None]:
    import jax.numpy as jnp

    from valyrian_jax.model.parameters import from_tensors
    from valyrian_jax.training.optimizer import make_optimizer
    from valyrian_jax.training.train_step import init_state, make_train_step

    settings = config(batch, dropout)
    optimizer = make_optimizer(settings.optim, 10_000)
    train_step = make_train_step(settings, optimizer)
    now = [init_state(settings, optimizer, from_tensors(initial()))]
    data = jnp.asarray(batches(batch, 10))

    def run() -> None:
        for _ in range(STEPS // 10):
            now[0], metrics = train_step(now[0], data)
            metrics.loss.block_until_ready()

    run()
    return run


def ours(batch: int, dropout: float) -> float:
    """Seconds of a step, ten steps a dispatch."""
    return seconds(prepared(batch, dropout)) / STEPS


@functools.cache
def torch_loss(kind: str, how: str, dropout: float) -> Any:
    """A module with our first weights, and its loss of a batch."""
    import torch

    torch.set_num_threads(2)
    weights = {name: torch.from_numpy(np.array(tensor)) for name, tensor in initial().items()}
    if kind == "transformers":
        import transformers

        c = config(12, dropout).model
        module: Any = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                **{
                    name: getattr(c, name)
                    for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
                },
                **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout),
                activation_function=c.activation,
                **dict.fromkeys(("bos_token_id", "eos_token_id"), c.vocab_size - 1),
                tie_word_embeddings=False,
                use_cache=False,
            )
        )
    else:
        from bridge.gpt import GPT

        module = GPT(config(12, dropout).model)
        if dropout:  # all but the one on attention weights, which this module has no place for
            for layer in [m for block in module.transformer.h for m in (block.attn, block.mlp)]:
                layer.register_forward_hook(
                    lambda m, _, out: torch.nn.functional.dropout(out, dropout, m.training)
                )
    module.load_state_dict(weights)
    module.train()

    def loss(tokens: Any) -> Any:
        out = module(tokens[:, :-1])
        scores = out.logits if kind == "transformers" else out
        return torch.nn.functional.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten())

    return module, torch.compile(loss) if how == "compiled" else loss


def first_torch_loss(kind: str, how: str, batch: int) -> float:
    import torch

    return torch_loss(kind, how, 0.0)[1](torch.from_numpy(batches(batch, 1)[0]).long()).item()


@functools.cache
def prepared_torch(kind: str, how: str, batch: int, dropout: float) -> Callable[[], None]:
    import torch

    module, loss = torch_loss(kind, how, dropout)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True
    )
    data = torch.from_numpy(batches(batch, 10)).long()

    def run() -> None:
        for i in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            loss(data[i % 10]).backward()
            optimizer.step()

    run()
    return run


def theirs(kind: str, how: str, batch: int, dropout: float) -> float:
    """Seconds of a step."""
    return seconds(prepared_torch(kind, how, batch, dropout)) / STEPS
