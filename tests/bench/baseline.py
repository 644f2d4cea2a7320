"""Train a PyTorch baseline: transformers' GPT-2 of the default shape, 2,000 steps of batch 12.

python tests/bench/baseline.py OUT.json

The recipe is the usual one for this size: AdamW with betas 0.9 and 0.99, decay 0.1 on matrices, a
learning rate from 1e-3 to 1e-4 by a cosine after 100 steps of warm-up, clipping at 1, dropout 0.2,
weights from normal(0, 0.02).
"""

import json
import math
import tempfile
from pathlib import Path

import click
import numpy as np
import torch
from training import make_transformers_module

from valyrian_jax.config import config_from_tree
from valyrian_jax.data.dataset import Dataset, open_dataset

STEPS, BATCH, LEARNING_RATE, FINAL_RATE, WARM_UP = 2000, 12, 1e-3, 1e-4, 100


def learning_rate(step: int) -> float:
    if step <= WARM_UP:
        return LEARNING_RATE * (step + 1) / WARM_UP
    progress = (step - WARM_UP) / (STEPS - WARM_UP)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return FINAL_RATE + (LEARNING_RATE - FINAL_RATE) * cosine


def train(module: torch.nn.Module, dataset: Dataset) -> None:
    matrices = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.99), fused=True)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        batch = torch.from_numpy(dataset.batches(step, 1, slice(BATCH))[0]).long()
        loss = token_losses(module, batch).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()


def evaluate(module: torch.nn.Module, dataset: Dataset) -> float:
    """Return the loss on the held-out set, in nats per token."""
    module.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for tokens, counted in zip(*dataset.eval_set.windows, strict=True):
            losses = token_losses(module, torch.from_numpy(tokens).long()).numpy()
            total, count = total + float(np.sum(losses, where=counted)), count + int(counted.sum())
    return total / count


def token_losses(module: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of every target [B, T]."""
    logits = module(tokens[:, :-1]).logits
    return torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), tokens[:, 1:], reduction="none"
    )


@click.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
def main(out: Path) -> None:
    """Train the baseline and write its held-out loss to OUT, a JSON file."""
    config = config_from_tree({})
    with tempfile.TemporaryDirectory() as directory:
        dataset = open_dataset(config, None, Path(directory))
    torch.manual_seed(0)
    module = make_transformers_module(config.model, 0.2, "gelu_new")
    train(module, dataset)
    loss = evaluate(module, dataset)
    out.write_text(json.dumps({"nats_per_token": loss}))
    print(loss)


if __name__ == "__main__":
    main()
