"""The form of a text: plain, JSON or Parquet, recognised by its content."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from valyrian_jax.config import BLANK_LINE
from valyrian_jax.data.reading.json_texts import JsonForm, check_key, detect_json
from valyrian_jax.data.reading.parquet import check_column
from valyrian_jax.data.reading.separators import describe_end_of_text_lines
from valyrian_jax.data.reading.text_reader import (
    PARQUET_MAGIC,
    TextStream,
    open_text,
    refuse_other_formats,
)
from valyrian_jax.errors import UserError
from valyrian_jax.files import STANDARD_INPUT, is_url

TextForm = JsonForm | Literal["Parquet"]
"""The form of a text; "" is plain."""
Note = Callable[[str], None]
"""A function that takes a line about a text."""


def check_texts(paths: Iterable[str | Path], text_key: str, separator: str, note: Note) -> None:
    """Check the beginnings of all texts before a long job; see `documents.read_documents`.

    A pipe and standard input can be read only once, so they are checked when they are read.
    """
    for path in paths:
        if is_url(path) or (str(path) != STANDARD_INPUT and not Path(path).is_fifo()):
            with open_text(path) as stream:
                check_text(stream, text_key, separator, note)


def check_text(stream: TextStream, text_key: str, separator: str, note: Note) -> TextForm:
    """Return the form of a text, as `check_form` does, and pass on a note about its separator."""
    form = check_form(stream, text_key)
    if line := describe_separator(form, stream.head.decode("utf-8", "replace"), separator):
        note(line)
    return form


def check_form(stream: TextStream, text_key: str) -> TextForm:
    """Return the form of a text, after checking that the text can be read."""
    if stream.head.startswith(PARQUET_MAGIC):
        check_column(stream, text_key)
        return "Parquet"
    refuse_other_formats(stream)
    form = detect_json(stream.head) if text_key else ""
    if form == "other":
        raise UserError(
            f"{stream.name} is one value of JSON over several lines; expected one object per line, "
            "or one array of objects, with the text under a key: convert it, or set the key to '' "
            "(--data.text_key or --text-key) to read the JSON itself as plain text"
        )
    if form:
        check_key(stream, form, text_key)
    return form


def describe_separator(form: TextForm, text: str, separator: str) -> str:
    """Return a note on the separator of a text; "" if there is nothing to say."""
    if not form:
        return describe_end_of_text_lines(text, separator)
    is_set = separator != BLANK_LINE
    return f"the separator {separator!r} is not used: it is for plain text only" if is_set else ""
