"""Drawing tokens to the contract of `valyrian_jax.generation.sampler`, in scriptable functions.

The same numbers in the same order: temperature, top-k, softmax, nucleus, and a draw in id order with one uniform number
a token, which JAX's own generator (Threefry) makes from the seed and the token's index.
"""

import torch
from torch import Tensor


def threefry(key: tuple[int, int], x: tuple[int, int]) -> tuple[int, int]:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011) on words of 32 bits, as `jax.random` uses it."""
    word = 0xFFFFFFFF
    rotations = (13, 15, 26, 6, 17, 29, 16, 24)
    keys = [key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA]
    a, b = (x[0] + key[0]) & word, (x[1] + key[1]) & word
    for i in range(20):
        r = rotations[i % 8]
        a = (a + b) & word
        b = ((b << r) | (b >> (32 - r))) & word ^ a
        if i % 4 == 3:
            turn = i // 4 + 1
            a = (a + keys[turn % 3]) & word
            b = (b + keys[(turn + 1) % 3] + turn) & word
    return a, b


def uniform(seed: int, index: int) -> float:
    """The number in [0, 1) that decides token `index`: jax.random.uniform(fold_in(key(seed), index)), bit for bit."""
    a, b = threefry(threefry((0, seed), (0, index)), (0, 0))
    return float((a ^ b) >> 9) / 8388608.0  # 23 bits, the fraction of a float32


def filter_probabilities(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Probabilities [B, V] of the tokens that may be drawn, 0 for the others; logits [B, V], temperature > 0."""
    falling, order = (logits / temperature).sort(
        dim=-1, descending=True, stable=True
    )  # ties by lower id
    if 0 < top_k < falling.shape[1]:
        falling[:, top_k:] = -float("inf")
    falling = falling.softmax(-1)
    if top_p < 1:
        before = falling.cumsum(-1) - falling
        dropped = before >= top_p
        dropped[:, 0] = False  # one stays, however small top_p is
        falling.masked_fill_(dropped, 0.0)
    return torch.zeros_like(falling).scatter_(-1, order, falling)


def sample(kept: Tensor, u: Tensor) -> Tensor:
    """The first token [B], in id order, whose running sum of probabilities exceeds u [B] times their total."""
    running = kept.cumsum(-1)
    return torch.searchsorted(running, u[:, None] * running[:, -1:], right=True)[:, 0]


def sample_tokens(
    logits: Tensor, index: int, temperature: float, top_k: int, top_p: float, seed: int
) -> Tensor:
    """Token `index` of every row from its logits [B, V]: int64 [B]; row r draws with seed + r.

    Drawn on the CPU wherever the logits are: there sums run from left to right, on a GPU in an order of its own.
    """
    if temperature == 0:
        return logits.argmax(-1)
    u = torch.tensor(
        [uniform((seed + row) % 4294967296, index) for row in range(logits.shape[0])],
        dtype=torch.float32,
    )
    return sample(filter_probabilities(logits.float().cpu(), temperature, top_k, top_p), u).to(
        logits.device
    )


def check_settings(temperature: float, top_k: int, top_p: float, seed: int) -> None:
    """Refuse what the contract does not define.

    Raises:
        ValueError: naming the setting.
    """
    if not (temperature == 0 or 0.001 <= temperature < float("inf")):
        raise ValueError("temperature must be 0 or at least 0.001")
    if top_k < 0:
        raise ValueError("top_k must not be negative; 0 keeps all tokens")
    if not top_p > 0:
        raise ValueError("top_p must be above 0; 1 keeps all tokens")
    if not 0 <= seed < 4294967296:
        raise ValueError("seed must be from 0 to 2^32 - 1")
