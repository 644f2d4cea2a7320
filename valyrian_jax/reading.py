"""Reading a text or JSON file that anyone may have written: what is wrong with it is a UserError, whatever it is."""

import json
import os
from pathlib import Path
from typing import Any

from valyrian_jax.errors import UserError

LARGEST = 1 << 26  # bytes; JSON takes up to twenty times as many in memory. 260,000 tokens need half of this


def text(path: str | os.PathLike[str], kind: str = "", largest: int = LARGEST) -> str:
    """A file of UTF-8.

    Args:
        path: the file.
        kind: what it is, for messages ("the configuration").
        largest: size in bytes up to which it is read.

    Raises:
        UserError: it cannot be read, is larger, or is not UTF-8.
    """
    named = f"{kind} {path}".strip()
    try:
        with Path(path).open("rb") as file:
            data = file.read(largest + 1)
        if len(data) > largest:
            raise UserError(f"{named} has more than {largest:,} bytes, too many for what it should hold")
        return data.decode("utf-8")
    except OSError as error:
        raise UserError(f"cannot read {named}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        place = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise UserError(f"{named} is not UTF-8: {place}; convert it, or copy it again if it is damaged") from error
    except ValueError as error:  # a path that cannot be one, with a NUL in it
        raise UserError(f"cannot read {named}: {error}") from error


def json_value(path: str | os.PathLike[str], kind: str = "") -> Any:
    """The JSON value in a file.

    Raises:
        UserError: it cannot be read, or holds none.
    """
    content = text(path, kind)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
