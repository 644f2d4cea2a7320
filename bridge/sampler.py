"""The sampler of `valyrian_jax.generation.sampler` as scriptable functions.

The steps and their order are the same: no end of the document before `min_new_tokens`, repetition
penalty, temperature, top-k, softmax, min-p, nucleus, and a draw in id order. Each token uses one
uniform number, which Threefry (JAX's generator) computes from the seed and the token's index. The
numbers are equal bit for bit; the probabilities are equal up to rounding.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from valyrian_jax.config import SampleConfig
from valyrian_jax.errors import UserError


class SamplingParams(NamedTuple):
    """Settings of the sampler, except the seed; `end_of_text` is the id of `<|endoftext|>`."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    min_new_tokens: int
    end_of_text: int


def make_params(sample: SampleConfig, end_of_text: int) -> SamplingParams:
    """Return the settings of a configuration; its prompt, seed and stop strings are not used."""
    return SamplingParams(
        sample.temperature,
        sample.top_k,
        sample.top_p,
        sample.min_p,
        sample.repetition_penalty,
        sample.min_new_tokens,
        end_of_text,
    )


def threefry(key: tuple[int, int], x: tuple[int, int]) -> tuple[int, int]:
    """Return Threefry-2x32 with 20 rounds (Salmon et al. 2011) of two 32-bit words.

    This is the generator of `jax.random`.
    """
    mask = 0xFFFFFFFF
    rotations = (13, 15, 26, 6, 17, 29, 16, 24)
    keys = [key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA]
    a, b = (x[0] + key[0]) & mask, (x[1] + key[1]) & mask
    for i in range(20):
        r = rotations[i % 8]
        a = (a + b) & mask
        b = ((b << r) | (b >> (32 - r))) & mask ^ a
        if i % 4 == 3:
            injection = i // 4 + 1
            a = (a + keys[injection % 3]) & mask
            b = (b + keys[(injection + 1) % 3] + injection) & mask
    return a, b


def random_bits(seed: int, index: int) -> int:
    """Return the 23 random bits that decide token `index`, the fraction of a float32."""
    # key(seed) is (0, seed); the inner call is fold_in, the outer one gives the random bits.
    a, b = threefry(threefry((0, seed), (0, index)), (0, 0))
    return (a ^ b) >> 9


def uniform(seed: int, index: int) -> float:
    """Return the number in [0, 1) that decides token `index`.

    It equals jax.random.uniform(fold_in(key(seed), index)), bit for bit.
    """
    return random_bits(seed, index) / 8388608.0


def edit_logits(
    logits: Tensor, index: int, params: SamplingParams, window: Tensor | None
) -> Tensor:
    """Forbid the end of the document before `min_new_tokens`, and apply the repetition penalty.

    The window, int64 [B, W], has the tokens that gave the logits [B, V]. It may be None only
    without a penalty. A token that occurs twice is penalized once.
    """
    if index < params.min_new_tokens:
        logits = logits.index_fill(
            1, torch.tensor([params.end_of_text], device=logits.device), -math.inf
        )
    penalty = params.repetition_penalty
    if penalty != 1:
        if window is None:
            raise ValueError("repetition_penalty needs the tokens of the window; pass window")
        if window.dim() != 2 or window.shape[0] != logits.shape[0]:
            raise ValueError(
                f"window does not fit the logits: expected tokens of {logits.shape[0]} rows, found "
                f"the shape {list(window.shape)}; pass the window of every row"
            )
        # On the CPU, because a GPU multiplies by the reciprocal, which rounds differently.
        logits, window = logits.cpu(), window.cpu()
        seen = logits.gather(1, window)  # as in CTRL (Keskar et al. 2019)
        penalized = torch.where(seen > 0, seen / penalty, seen * penalty)
        logits = logits.scatter(1, window, penalized)
    return logits


def filter_probabilities(
    logits: Tensor, temperature: float, top_k: int, top_p: float, min_p: float = 0.0
) -> Tensor:
    """Return the probabilities [B, V] of the tokens that may be drawn, and 0 for the others.

    `valyrian_jax.config.SampleConfig` describes the settings; the temperature is above 0.
    """
    # The stable sort breaks ties by the lower id.
    scores, order = (logits / temperature).sort(dim=-1, descending=True, stable=True)
    if 0 < top_k < scores.shape[1]:
        scores[:, top_k:] = -float("inf")
    probabilities = scores.softmax(-1)
    if min_p > 0:
        probabilities = probabilities.masked_fill(probabilities < min_p * probabilities[:, :1], 0.0)
    if top_p < 1:
        preceding = probabilities.cumsum(-1) - probabilities
        is_dropped = preceding >= top_p
        is_dropped[:, 0] = False  # One token remains, however small top_p is.
        probabilities.masked_fill_(is_dropped, 0.0)
    return torch.zeros_like(probabilities).scatter_(-1, order, probabilities)


def sample(probabilities: Tensor, u: Tensor) -> Tensor:
    """Return the first token [B], in id order, whose running sum exceeds u [B] times the total."""
    running = probabilities.cumsum(-1)
    return torch.searchsorted(running, u[:, None] * running[:, -1:], right=True)[:, 0]


def sample_tokens(
    logits: Tensor, index: int, params: SamplingParams, seeds: list[int], window: Tensor | None
) -> Tensor:
    """Draw token `index` of every row from logits [B, V]: int64 [B].

    The draw runs on the CPU, so that all devices of PyTorch draw the same token. `edit_logits`
    describes the window.

    Raises:
        UserError: The logits are not finite; single ones may be minus infinity.
    """
    check_logits(logits)
    device = logits.device
    if index < params.min_new_tokens or params.repetition_penalty != 1:
        logits = edit_logits(logits.float(), index, params, window)
        check_logits(logits)
    if params.temperature == 0:
        return logits.argmax(-1).to(device)
    # Bits, because TorchScript first rounds a list of floats to the default type.
    bits = torch.tensor(
        [random_bits(seed, index) for seed in seeds], dtype=torch.int64, device="cpu"
    )
    u = bits.to(torch.float32) / 8388608.0
    probabilities = filter_probabilities(
        logits.float().cpu(), params.temperature, params.top_k, params.top_p, params.min_p
    )
    return sample(probabilities, u).to(device)


def check_logits(logits: Tensor) -> None:
    """Raise a UserError unless logits [..., V] give probabilities."""
    # The maximum of a row with a NaN is NaN.
    # TorchScript cannot read `valyrian_jax.bundle.text_generation.NOT_FINITE`: this is a copy.
    if not math.isfinite(float(logits.amax(-1).sum(dtype=torch.float64))):
        raise UserError(
            "the logits are not finite: expected finite numbers, found NaN or infinity, because "
            "the weights overflow float32; use other weights, or train again with a lower "
            "--optim.lr"
        )


def check_settings(params: SamplingParams, seeds: list[int]) -> None:
    """Raise a ValueError unless all settings are in the ranges that the sampler defines."""
    temperature, top_k, top_p, min_p, penalty, min_new_tokens, _ = params
    is_valid = temperature == 0 or 0.001 <= temperature < math.inf
    advice = "0 takes the most probable token"
    check_range("temperature", is_valid, "0 or at least 0.001", f"{temperature}", advice)
    is_valid, counts = 0 <= top_k < 2147483648, "0 to 2147483647"
    check_range("top_k", is_valid, counts, f"{top_k}", "0 keeps all tokens")
    is_valid, expected = 0 < top_p < math.inf, "a finite number above 0"
    check_range("top_p", is_valid, expected, f"{top_p}", "1 keeps all tokens")
    check_range("min_p", 0 <= min_p <= 1, "0 to 1", f"{min_p}", "0 keeps all tokens")
    is_valid = 0.001 <= penalty <= 1000
    check_range("repetition_penalty", is_valid, "0.001 to 1000", f"{penalty}", "1 turns it off")
    is_valid = 0 <= min_new_tokens < 2147483648
    check_range(
        "min_new_tokens", is_valid, counts, f"{min_new_tokens}", "0 lets a text end at once"
    )
    for seed in seeds:
        is_valid = 0 <= seed < 4294967296
        check_range("seed", is_valid, "0 to 2^32 - 1", f"{seed}", "pass another one")


def check_range(name: str, is_valid: bool, expected: str, found: str, advice: str) -> None:
    """Raise a ValueError that names a setting unless it is valid."""
    if not is_valid:
        raise ValueError(f"{name} is out of range: expected {expected}, found {found}; {advice}")
