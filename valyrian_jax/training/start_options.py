"""How a run starts: from a configuration, from a bundle, or from a run to resume.

This module does not import JAX, which takes a second, so a command reports mistakes at once.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from valyrian_jax.config import (
    Config,
    PathLike,
    check_input,
    check_path,
    config_from_tree,
    config_to_tree,
    load_config,
)
from valyrian_jax.errors import UserError
from valyrian_jax.run_directory import find_bundle, find_run, load_run_config

# Settings of the model that a bundle does not contain, or that can differ from the bundle's.
_SETTINGS_WITH_INIT = ("model.dropout", "model.vocab_multiple", "model.n_positions")


class RunStart(NamedTuple):
    """The arguments of `valyrian_jax.training.run.train`, which describes them."""

    config: Config
    out: Path | None
    resume: Path | None
    init: Path | None
    context: int | None


def resolve_start(
    settings: Mapping[str, Any],
    config: Config | PathLike | None = None,
    out: PathLike | None = None,
    init: PathLike | None = None,
    resume: PathLike | None = None,
) -> RunStart:
    """Return how a run starts.

    Args:
        settings: Settings by dotted key; they take precedence over the configuration.
        config: Configuration of a new run, or its file; None: the defaults.
        out: Directory of a new run; None: a new one.
        init: Bundle, or run with one, that a new run starts from.
        resume: Directory of a run to resume. "auto": resume the run in `out`, or start it there.

    Raises:
        UserError: Two arguments cannot be combined, there is no such run, or a value is wrong.
    """
    if isinstance(config, Mapping):
        raise UserError(
            'config expects a file or a Config, found a dict; pass settings as **{"optim.lr": 1e-3}'
        )
    if resume in ("auto", Path("auto")):
        if out is None:
            raise UserError("resume = auto continues the run in out, or starts it; pass out too")
        if (check_path(out, "out") / "config.toml").exists():
            config, out, init, resume = None, None, None, out
        else:
            resume = None
    if resume is not None and not (config is out is init is None):
        raise UserError("resume uses the settings of the run; leave out config, out and init")
    if init is not None:
        _check_settings_with_init(settings)
    if resume is not None:
        config = load_resume_config(check_path(resume, "resume"), settings)
    elif isinstance(config, Config):
        config = config_from_tree(config_to_tree(config), settings)
    else:
        file = None if config is None else check_input(config, "config")
        config = load_config(file, settings)
    context = settings.get("model.n_positions") if init is not None else None
    return RunStart(
        config,
        None if out is None else check_path(out, "out"),
        None if resume is None else check_path(resume, "resume"),
        None if init is None else find_bundle(check_input(init, "init")),
        context,
    )


def _check_settings_with_init(settings: Iterable[str]) -> None:
    for key in settings:
        is_model = key.startswith("model.") and key not in _SETTINGS_WITH_INIT
        if is_model or key == "data.tokenizer":
            raise UserError(
                f"{key} cannot be combined with init, whose bundle sets model and tokenizer; leave "
                "it out"
            )


def load_resume_config(directory: Path, overrides: Mapping[str, Any]) -> Config:
    """Return the configuration of a run to resume, with overrides."""
    tree = config_to_tree(load_run_config(find_run(directory)))
    return config_from_tree(tree, overrides, f"{directory / 'config.toml'}")
