"""The format after TorchScript: the two steps of generation as `torch.export` programs in one .pt2 file.

prefill: tokens [B, T] -> logits [B, V] after them, and their keys and values [L, 2, B, H, T, K].
decode: tokens [B, 1] and the keys and values of the S tokens before -> logits [B, V], keys and values of S + 1 tokens.

B, T and S are free, up to n_positions. Tokenizer and sampler are not in such a file; the bundle's tokenizer.json is.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim
from torch.export.pt2_archive._package import load_pt2, package_pt2

from bridge.export_metadata import publish_checked
from bridge.gpt import GPT, to_module
from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.errors import UserError

TOLERANCE = 1e-5  # of the largest logit, or of 1
COLUMNS = 8  # how many logits of each place the example keeps


class Prefill(nn.Module):
    """Read the beginning of a text."""

    def __init__(self, gpt: GPT) -> None:
        super().__init__()
        self.gpt = gpt

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, T] to logits [B, V], keys and values [L, 2, B, H, T, K]."""
        cache = self.gpt.empty_cache(tokens.shape[0], tokens.shape[1])
        return self.gpt.read(tokens, cache, 0), cache


class Decode(nn.Module):
    """Read one token more."""

    def __init__(self, gpt: GPT) -> None:
        super().__init__()
        self.gpt = gpt

    def forward(self, tokens: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, 1], keys and values [L, 2, B, H, S, K] to logits [B, V], keys and values of S + 1 tokens."""
        cache = F.pad(past, (0, 0, 0, 1))
        return self.gpt.read(tokens, cache, past.shape[4]), cache


def export(directory: Path, out: Path) -> None:
    """Write a bundle directory as a .pt2 file, then load it in a fresh process and compare it there.

    Raises:
        UserError: the bundle is refused, the name is wrong, or the programs give other logits than the module.
    """
    if out.suffix != ".pt2":
        raise UserError(
            f"cannot write {out}: the file of --format export must be called something.pt2"
        )
    source = load_bundle(directory)
    gpt = to_module(source)
    T = source.model.n_positions
    if T < 4:
        raise UserError(f"a context of {T} is too short for --format export, which needs 4")
    tokens = torch.arange(2 * T).view(2, T) % source.model.vocab_size
    free = Dim.DYNAMIC
    with torch.no_grad():
        first, then = (
            tokens[:, : T // 2].clone(),
            tokens[:, :1].clone(),
        )  # of a view, being one would be expected later
        prefill = torch.export.export(Prefill(gpt), (first,), dynamic_shapes=({0: free, 1: free},))
        shapes = ({0: free, 1: 1}, {2: free, 4: free})
        decode = torch.export.export(
            Decode(gpt), (then, Prefill(gpt)(first)[1]), dynamic_shapes=shapes
        )
        logits = gpt(tokens)
    papers = {
        name: (directory / name).read_text(encoding="utf-8")
        for name in ("config.json", "tokenizer.json")
    }
    papers["example.json"] = json.dumps(
        {"tokens": tokens.tolist(), "logits": logits[:, :, :COLUMNS].tolist()}
    )
    with publish_checked(out) as partial:
        package_pt2(
            str(partial),
            exported_programs={"prefill": prefill, "decode": decode},
            extra_files=papers,
        )


def check(path: Path) -> float:
    """Open a file and compute its example again, at several lengths: how far the logits are from those in the file.

    Raises:
        UserError: there is no such file, it is not one of ours, or the logits are too far apart.
    """
    try:
        archive = load_pt2(str(path))
        prefill, decode = (
            archive.exported_programs[name].module() for name in ("prefill", "decode")
        )
        example: dict[str, Any] = json.loads(archive.extra_files["example.json"])
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is not a file that `python -m bridge export --format export` wrote: {error}"
        ) from error
    tokens, expected = torch.tensor(example["tokens"]), torch.tensor(example["logits"])
    T, difference = tokens.shape[1], 0.0
    for B, length in ((1, 1), (1, T), (2, T // 2), (2, T - 1)):
        logits, past = prefill(tokens[:B, :length])
        difference = max(
            difference, float((logits[:, :COLUMNS] - expected[:B, length - 1]).abs().max())
        )
        for place in range(length, min(length + 3, T)):
            logits, past = decode(tokens[:B, place : place + 1], past)
            difference = max(
                difference, float((logits[:, :COLUMNS] - expected[:B, place]).abs().max())
            )
    if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise UserError(
            f"{path} gives other logits here than where it was made: they differ by {difference:.1e}"
        )
    return difference
