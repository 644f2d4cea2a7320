"""Generation in Python: the next token of every row, as a stream that the caller can steer."""

import contextlib
from collections.abc import Generator as Stream
from collections.abc import Sequence

import torch
from torch import Tensor

from bridge.generator import Batch, Generator, pad_rows, should_shrink
from bridge.sampler import check_settings, make_params
from bridge.torch_settings import pin_torch_settings
from valyrian_jax.bundle.text_generation import TokenColumns
from valyrian_jax.config import SampleConfig


def generate_with_logits(
    generator: Generator,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sample: SampleConfig,
) -> Stream[tuple[Tensor, Tensor], Sequence[int] | None]:
    """Continue prompts of any lengths together; each gives the tokens that it gives alone.

    Args:
        generator: The model.
        prompts: B prompts of at least one token id each; they can be longer than the window.
        seeds: Seed of each prompt.
        sample: Settings of the sampler; its prompt, seed and stop strings are not used.

    Yields:
        For every new token the logits [B, V] and the tokens drawn from them, int64 [B]. The caller
        may send the indices of the rows that it still needs; the other rows are then meaningless.

    Raises:
        UserError: The logits of a token are not finite.
        ValueError: A prompt is empty, a setting is out of range, or a seed is missing.
    """
    if not prompts or not all(map(len, prompts)):
        raise ValueError("empty prompt: expected at least one token; pass the end-of-text token")
    if len(seeds) != len(prompts):
        raise ValueError(
            f"the seeds do not fit the prompts: expected {len(prompts)}, found {len(seeds)}; pass "
            "a seed for each prompt"
        )
    params = make_params(sample, generator.end_of_text)
    seeds = [int(seed) for seed in seeds]
    check_settings(params, seeds)
    device = generator.gpt.transformer.wte.weight.device
    with pin_torch_settings():
        tokens = pad_rows([list(prompt) for prompt in prompts], device)
        counts = [len(prompt) for prompt in prompts]
        batch = Batch(tokens, counts, seeds, generator.new_cache(len(prompts)))
    rows = list(range(len(prompts)))  # those in the batch
    for index in range(sample.max_new_tokens):
        with pin_torch_settings():  # Never across a yield: the caller's code runs there.
            logits, drawn, batch = generator.extend(batch, index, params)
            if len(rows) < len(prompts):
                indices = torch.tensor(rows, device=device)
                logits = logits.new_zeros(len(prompts), logits.shape[1]).index_copy(
                    0, indices, logits
                )
                drawn = drawn.new_zeros(len(prompts)).index_copy(0, indices, drawn)
        needed = yield logits, drawn
        if needed is not None and should_shrink(len(rows), len(needed)):
            with pin_torch_settings():
                batch = generator.select_rows(batch, [rows.index(row) for row in needed])
            rows = list(needed)


def stream(
    generator: Generator,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sample: SampleConfig,
) -> TokenColumns:
    """Continue prompts with a seed each; yield the next token of every row, int32 [B].

    This is a `TokenGenerator` of `valyrian_jax.bundle.text_generation`.
    """
    steps, needed = generate_with_logits(generator, prompts, seeds, sample), None
    with contextlib.suppress(StopIteration):
        while True:
            _, drawn = steps.send(needed)
            needed = yield drawn.to(torch.int32).cpu().numpy()
