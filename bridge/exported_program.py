"""A .pt2 file with the two steps of generation as `torch.export` programs.

prefill: tokens [B, T] -> logits [B, V] after them; keys and values [L, 2, B, H, T, K].
decode: tokens [B, 1]; keys and values of the S previous tokens -> logits [B, V]; keys and values of
S + 1 tokens.

B, T and S are dynamic, up to n_positions. The file has no sampler; its tokenizer is the bundle's
tokenizer.json, stored as an extra file.
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim
from torch.export.pt2_archive._package import load_pt2, package_pt2

from bridge.export_metadata import Progress, ignore_progress, publish_checked
from bridge.gpt import GPT, to_module
from bridge.sampler import check_logits
from bridge.torch_settings import pin_torch_settings
from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.errors import UserError
from valyrian_jax.files import is_stream, open_regular, read_text

TOLERANCE = 1e-5  # Relative to the largest logit, or to 1 if that is larger.
EXAMPLE_LOGITS = 8  # Logits of each position that the example stores: the first ones.


class Prefill(nn.Module):
    """The first step: read a prompt."""

    def __init__(self, gpt: GPT) -> None:
        super().__init__()
        self.gpt = gpt

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map tokens [B, T] to logits [B, V] and the keys and values [L, 2, B, H, T, K]."""
        cache = self.gpt.make_cache(tokens.shape[0], tokens.shape[1])
        return self.gpt.forward_cached(tokens, cache, 0), cache


class Decode(nn.Module):
    """Every later step: read one more token."""

    def __init__(self, gpt: GPT) -> None:
        super().__init__()
        self.gpt = gpt

    def forward(self, tokens: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Map tokens [B, 1] and a cache [L, 2, B, H, S, K] to logits [B, V] and a longer cache."""
        cache = F.pad(past, (0, 0, 0, 1))
        return self.gpt.forward_cached(tokens, cache, past.shape[4]), cache


def export(directory: Path, out: Path, progress: Progress = ignore_progress) -> None:
    """Write a bundle as a .pt2 file, like `bridge.torchscript.export`, and check it."""
    if out.suffix != ".pt2" and not is_stream(out):
        raise UserError(
            f"cannot write {out}: --format export expects a name that ends in .pt2; change -o"
        )
    with publish_checked(out, ".pt2", progress) as partial:
        write(directory, partial, progress)


@pin_torch_settings()
def write(directory: Path, path: Path, progress: Progress = ignore_progress) -> None:
    """Write a bundle as a .pt2 file, like `export`, but without the check."""
    progress("loading the weights")
    programs, extra_files = _make_programs(directory, progress)
    progress("writing the file")
    with path.open("wb") as file:
        package_pt2(file, exported_programs=programs, extra_files=extra_files)


def _make_programs(
    directory: Path, progress: Progress
) -> tuple[dict[str, torch.export.ExportedProgram], dict[str, str]]:
    """Return the programs of a bundle, and the extra files to store with them, by file name."""
    bundle = load_bundle(directory)
    T, vocab_size = bundle.model.n_positions, bundle.model.vocab_size
    if T < 4:
        raise UserError(
            f"cannot export {directory}: --format export expects a context of at least 4 tokens, "
            f"found {T}; use --format torchscript"
        )
    gpt = to_module(bundle)
    progress("tracing the programs")
    tokens = torch.arange(2 * T).view(2, T) % vocab_size
    with torch.no_grad():
        logits = gpt(tokens)
        check_logits(logits)
        programs = _export_programs(gpt, tokens)
    extra_files = {name: read_text(directory / name) for name in ("config.json", "tokenizer.json")}
    example = {"tokens": tokens.tolist(), "logits": logits[:, :, :EXAMPLE_LOGITS].tolist()}
    extra_files["example.json"] = json.dumps(example)
    return programs, extra_files


def _export_programs(gpt: GPT, tokens: Tensor) -> dict[str, torch.export.ExportedProgram]:
    # torch.export would specialise on a view, so clone it.
    prompt, next_token = tokens[:, : tokens.shape[1] // 2].clone(), tokens[:, :1].clone()
    _, past = Prefill(gpt)(prompt)
    prompt_sizes = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    token_sizes, past_sizes = {0: Dim.DYNAMIC, 1: 1}, {2: Dim.DYNAMIC, 4: Dim.DYNAMIC}
    export = torch.export.export
    return {
        "prefill": export(Prefill(gpt), (prompt,), dynamic_shapes=(prompt_sizes,)),
        "decode": export(Decode(gpt), (next_token, past), dynamic_shapes=(token_sizes, past_sizes)),
    }


@pin_torch_settings()
def check(path: Path) -> float:
    """Compute the example again, at several lengths; return the largest difference of a logit.

    Raises:
        UserError: The file cannot be read, or it computes other logits than at export.
    """
    try:
        with open_regular(path) as file:
            archive = load_pt2(file)
        prefill, decode = (
            archive.exported_programs[name].module() for name in ("prefill", "decode")
        )
        tokens, expected = _read_example(archive.extra_files["example.json"])
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"cannot read {path}: {error}; expected a file that "
            "`python -m bridge export --format export` wrote"
        ) from error

    def difference(logits: Tensor, position: int) -> float:
        rows = expected[: logits.shape[0], position]
        return float((logits[:, :EXAMPLE_LOGITS] - rows).abs().max())

    T, differences = tokens.shape[1], []
    for B, length in ((1, 1), (1, T), (2, T // 2), (2, T - 1)):
        logits, past = prefill(tokens[:B, :length])
        differences.append(difference(logits, length - 1))
        for position in range(length, min(length + 3, T)):
            logits, past = decode(tokens[:B, position : position + 1], past)
            differences.append(difference(logits, position))
    largest = float(torch.tensor(differences).max())  # NaN if any difference is NaN
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    if not largest <= allowed < math.inf:
        raise UserError(
            f"{path} computes other logits than when it was exported: expected a difference of at "
            f"most {allowed:.1e}, found {largest:.1e}; export the bundle again"
        )
    return largest


def _read_example(text: str) -> tuple[Tensor, Tensor]:
    """Return the tokens [2, T] of the example and the first logits of each [2, T, ...]."""
    example = json.loads(text)
    tokens, logits = torch.tensor(example["tokens"]), torch.tensor(example["logits"])
    if tokens.dim() != 2 or logits.dim() != 3 or logits.shape[:2] != tokens.shape:
        raise ValueError("example.json holds no rows of tokens with their logits")
    return tokens, logits
