"""Train the default model in plain PyTorch: the contestant of `time_to_entropy.py`.

python tests/bench/torch_training.py OUT [--seed 0] [--tiny]

The shape, the batches, the schedule and the number of steps are those of the configuration; the
module is transformers' GPT-2 and the optimizer PyTorch's AdamW. Each evaluation adds a line to
OUT/metrics.jsonl, with the names that a run of `train.py` gives them.
"""

import json
import math
import sys
import tempfile
from pathlib import Path

import click
import torch

sys.path.insert(0, str(Path(__file__).parent))
from baseline import evaluate, token_losses
from training import make_transformers_module

from valyrian_jax.config import Config, load_config
from valyrian_jax.data.dataset import Dataset, open_dataset

ROOT = Path(__file__).parents[2]
TINY = {"train.steps": 20, "train.eval_every": 10}


def schedule(step: int, config: Config) -> float:
    """Return the learning rate of a step: a warm-up, and then a cosine."""
    optim, steps = config.optim, config.train.steps
    warm_up = optim.warmup * steps
    if step < warm_up:
        return optim.lr * (step + 1) / warm_up
    cosine = (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2
    return optim.lr * (optim.min_lr_ratio + (1 - optim.min_lr_ratio) * cosine)


def make_optimizer(module: torch.nn.Module, config: Config) -> torch.optim.Optimizer:
    """Return AdamW with decay on matrices alone."""
    matrices = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.optim.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    betas = config.optim.beta1, config.optim.beta2
    return torch.optim.AdamW(groups, lr=config.optim.lr, betas=betas, fused=True)


def train(module: torch.nn.Module, dataset: Dataset, config: Config, file: Path) -> None:
    """Train, and add a line to a file at every evaluation."""
    optimizer, settings = make_optimizer(module, config), config.train
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule(step, config)
        batch = torch.from_numpy(dataset.batches(step, 1)[0]).long()
        loss = token_losses(module, batch).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), config.optim.clip_norm)
        optimizer.step()
        if (step + 1) % settings.eval_every == 0 or step + 1 == settings.steps:
            write_evaluation(module, dataset, step + 1, file)
            module.train()


def write_evaluation(module: torch.nn.Module, dataset: Dataset, step: int, file: Path) -> None:
    """Evaluate on the whole held-out set and add a line."""
    nats, eval_set = evaluate(module, dataset), dataset.eval_set
    bits = nats * int(eval_set.windows.counted.sum()) / math.log(2) / eval_set.text_bytes
    line = {
        "step": step,
        "held_out/bits_per_byte": bits,
        "held_out/entropy_bits_per_byte": dataset.entropy,
    }
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(line) + "\n")


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seed", default=0, help="Seed of the weights and the batches.")
@click.option("--config", "preset", default="valyrian", help="Name of a preset in configs/.")
@click.option("--tiny", is_flag=True, help="Rehearse with a few steps.")
def main(out: Path, seed: int, preset: str, tiny: bool) -> None:
    """Train the model of a preset, and write its evaluations to OUT/metrics.jsonl."""
    file = ROOT / "configs" / f"{'tiny' if tiny else preset}.toml"
    config = load_config(file, {"train.seed": seed} | (TINY if tiny else {}))
    with tempfile.TemporaryDirectory() as directory:
        dataset = open_dataset(config, None, Path(directory))
    torch.manual_seed(seed)
    module = make_transformers_module(config.model, config.model.dropout, "gelu_new")
    module.config.initializer_range = config.model.init_std
    module.apply(module._init_weights)
    out.mkdir(parents=True, exist_ok=True)
    train(module, dataset, config, out / "metrics.jsonl")


if __name__ == "__main__":
    main()
