"""What may be combined when a run starts: a configuration, a bundle to start from, a run to resume.

It does not import JAX, which takes a second, so that a command reports mistakes at once.
"""

from collections.abc import Iterable
from typing import Any

from valyrian_jax.errors import UserError

# Settings of the model that a bundle does not contain, or that can differ from the bundle's.
_SETTINGS_WITH_INIT = ("model.dropout", "model.vocab_multiple", "model.n_positions")


def check_start_options(
    settings: Iterable[str], config: Any, out: Any, init: Any, resume: Any
) -> None:
    """Check that the options of a start go together; those left out are None.

    Args:
        settings: Names of the settings that take precedence over the configuration.
        config: Configuration of a new run.
        out: Directory of a new run.
        init: Bundle that a new run starts from.
        resume: Directory of a run to resume.

    Raises:
        UserError: Two of them cannot be combined.
    """
    if resume is not None and not (config is out is init is None):
        raise UserError("resume uses the settings of the run; leave out config, out and init")
    for key in settings if init is not None else ():
        is_model = key.startswith("model.") and key not in _SETTINGS_WITH_INIT
        if is_model or key == "data.tokenizer":
            raise UserError(
                f"{key} cannot be combined with init, whose bundle sets model and tokenizer; leave "
                "it out"
            )
