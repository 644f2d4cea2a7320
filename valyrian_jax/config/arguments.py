"""Arguments of the Python API: a wrong one ends in one line, as a wrong option does."""

import functools
import os
import reprlib
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from valyrian_jax.errors import UserError, escape
from valyrian_jax.files import is_url, localize, refuse_url

PathLike = str | os.PathLike[str]
_NOT_LISTS = str, bytes, bytearray, Mapping, Set


def check_argument(value: Any, expected: Any, name: str, advice: str) -> Any:
    """Return an argument, as plain values of Python, after checking its type and its range.

    Args:
        value: The argument; see `to_plain`.
        expected: Type that it must have, with the limits of a number; True is not a number.
        name: Its name, for the message.
        advice: What to pass instead, for the message.
    """
    try:
        return _make_adapter(expected).validate_python(to_plain(value))
    except ValidationError as error:
        problem = error.errors()[0]
        place = name + "".join(f"[{index}]" for index in problem["loc"])
        shown, reason = escape(reprlib.repr(problem["input"])), problem["msg"]
        raise UserError(f"{place} = {shown}: {reason[0].lower()}{reason[1:]}; {advice}") from error


@functools.cache
def _make_adapter(expected: Any) -> TypeAdapter[Any]:
    return TypeAdapter(expected, config=ConfigDict(strict=True))


def check_path(value: PathLike, name: str) -> Path:
    """Return an argument that names a file or directory."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    refuse_url(value, name)
    return Path(check_argument(value, str, name, "pass a path, as a str or a pathlib.Path"))


def check_input(value: PathLike, name: str) -> Path:
    """Return an argument that names a file or directory to read; a URL becomes a local copy."""
    return localize(value) if is_url(value) else check_path(value, name)


def to_plain(value: Any) -> Any:
    """Convert arrays, NumPy numbers and iterables to plain values of Python.

    Strings, bytes, mappings and sets stay as they are: they are not lists.
    """
    if callable(convert := getattr(value, "tolist", None)):
        return convert()
    is_list = isinstance(value, Iterable) and not isinstance(value, _NOT_LISTS)
    if is_list:
        return [*map(to_plain, value)]
    return value
