"""A plain PyTorch run to be measured against: transformers' GPT-2 of the default shape, AdamW, 2,000 steps of batch 12.

python tests/bench/baseline.py OUT.json

The recipe is the usual one for a model of this size: rate 1e-3 to 1e-4 by a cosine after 100 steps of warm-up, betas
0.9 and 0.99, decay 0.1 on matrices, clipping at 1, dropout 0.2, weights normal(0, 0.02).
"""

import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

from valyrian_jax.config import config_from_tree
from valyrian_jax.data.dataset import open_dataset

STEPS, BATCH, RATE, LOWEST, WARM_UP = 2000, 12, 1e-3, 1e-4, 100


def main() -> None:
    settings = config_from_tree({})
    c = settings.model
    with tempfile.TemporaryDirectory() as directory:
        dataset = open_dataset(settings, None, Path(directory))
    torch.manual_seed(0)
    module = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            **{
                name: getattr(c, name)
                for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
            },
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.2),
            **dict.fromkeys(("bos_token_id", "eos_token_id"), c.vocab_size - 1),
            tie_word_embeddings=False,
            use_cache=False,
        )
    )
    matrices = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), fused=True)
    for step in range(STEPS):
        part = max(0.0, (step - WARM_UP) / (STEPS - WARM_UP))
        rate = (
            LOWEST + (RATE - LOWEST) * (1 + math.cos(math.pi * part)) / 2
            if part
            else RATE * (step + 1) / WARM_UP
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = torch.from_numpy(dataset.batches(step, 1, slice(BATCH))[0]).long()
        loss = nats(module, batch).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    module.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for tokens, counted in zip(*dataset.eval_set.windows, strict=True):
            found = nats(module, torch.from_numpy(tokens).long()).numpy()
            total, count = total + float(np.sum(found, where=counted)), count + int(counted.sum())
    Path(sys.argv[1]).write_text(json.dumps({"nats_per_token": total / count}))
    print(total / count)


def nats(module: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every target [B, T]."""
    scores = module(tokens[:, :-1]).logits
    return torch.nn.functional.cross_entropy(
        scores.transpose(1, 2), tokens[:, 1:], reduction="none"
    )


if __name__ == "__main__":
    main()
