"""The settings of a text as keyword arguments of a method: their types, help and meaning."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, TypeVar

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import resolve_sample_config
from valyrian_jax.config import SampleConfig, to_plain

Method = TypeVar("Method", bound=Callable[..., Any])


class SampleSettings(TypedDict, total=False):
    """Settings of a text; a setting that is None or left out is that of the run."""

    seed: int | None
    max_new_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    min_new_tokens: int | None
    stop: str | Sequence[str] | None


def show_settings(method: Method) -> Method:
    """Let `help` list what a method takes as **settings, with the defaults of a run."""
    signature, defaults = inspect.signature(method), SampleConfig()
    *others, _ = signature.parameters.values()
    settings = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=getattr(defaults, name), annotation=kind
        )
        for name, kind in SampleSettings.__annotations__.items()
    ]
    vars(method)["__signature__"] = signature.replace(parameters=[*others, *settings])
    return method


def resolve_settings(bundle: Bundle, settings: SampleSettings) -> SampleConfig:
    """Complete settings by those of the bundle's run, and check them.

    Raises:
        TypeError: There is no setting of such a name.
        UserError: A setting is out of range.
    """
    names = SampleSettings.__annotations__
    for name in settings.keys() - names:
        raise TypeError(f"unexpected keyword argument {name!r}: expected {', '.join(names)}")
    # The settings are checked as JSON, which has no NumPy numbers.
    overrides = {name: to_plain(value) for name, value in settings.items() if value is not None}
    return resolve_sample_config(bundle, overrides)
