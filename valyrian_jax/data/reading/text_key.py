"""The key of the text in objects of JSON, or its column in Parquet."""

from collections.abc import Mapping

from valyrian_jax.errors import UserError

_MAX_SHOWN, _MAX_CHARACTERS = 20, 40  # of keys in a message


def check_text_key(name: str, text_key: str, has_text: Mapping[str, bool]) -> None:
    """Check that there is text under the requested key or column.

    `has_text` says for every key of the text named `name` whether it has text.
    """
    if has_text.get(text_key):
        return
    texts = [key for key in has_text if has_text[key]]
    if texts:
        found, advice = "text under", "name one of them with --data.text_key (or --text-key)"
    else:
        found, advice = "other values under", "name another text"
    shown = (repr(key[:_MAX_CHARACTERS]) for key in (texts or [*has_text])[:_MAX_SHOWN])
    keys = ", ".join(shown) or "no key"
    raise UserError(
        f"{name} has no text under {text_key!r}: expected a key of JSON or a column of Parquet of "
        f"that name, found {found} {keys}; {advice}"
    )
