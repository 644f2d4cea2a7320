"""A run that starts from a bundle: what the bundle brings, and what the run may choose."""

from dataclasses import replace

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.config import Config, ModelConfig
from valyrian_jax.errors import UserError
from valyrian_jax.model.parameters import Params, nest, pad_tensors

_POSITIONS = "transformer.wpe.weight"


def initial_config(initial: Bundle, config: Config, context: int | None = None) -> Config:
    """The configuration of the run: the bundle's model and tokenizer, our dropout and padding.

    Args:
        initial: to start from.
        config: of the run.
        context: tokens, at most those of the bundle; None: as many.

    Raises:
        UserError: the context is longer than the bundle's.
    """
    longest = initial.model.n_positions
    if context is not None and context > longest:
        raise UserError(
            f"--model.n_positions {context}: the bundle has learnt {longest} positions, and nothing of those after "
            f"them; choose at most {longest}"
        )
    ours = config.model
    chosen = replace(
        initial.model, dropout=ours.dropout, vocab_multiple=ours.vocab_multiple, n_positions=context or longest
    )
    return replace(config, model=chosen, data=replace(config.data, tokenizer=""))


def initial_params(initial: Bundle, config: ModelConfig) -> Params:
    """The bundle's weights in NumPy, its position table cut to the context, its token tables padded."""
    cut = {**initial.tensors, _POSITIONS: initial.tensors[_POSITIONS][: config.n_positions]}
    return nest(pad_tensors(cut, config))
