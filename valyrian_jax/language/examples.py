"""Attested sentences, from `examples.csv`, and the sources that the tables name by keys."""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from valyrian_jax.language.checker.text import tokenize
from valyrian_jax.language.interlinear import gloss
from valyrian_jax.language.words.analysis import analyze
from valyrian_jax.language.words.lexicon import Lexeme, read_table


class Example(NamedTuple):
    """A sentence that a source has.

    Attributes:
        text: The sentence.
        english: Its translation in the source; "" if it has none.
        source: Keys of the sources.
    """

    text: str
    english: str
    source: str


@cache
def load_examples() -> tuple[Example, ...]:
    """Load all examples in file order.

    Raises:
        UserError: `examples.csv` is malformed.
    """
    rows = read_table("examples.csv", ["text", "english", "source"])
    return tuple(Example(**row) for row in rows)


def find_example(lexeme: Lexeme, form: str = "") -> Example | None:
    """Find an attested sentence with a word, if possible with this form and a translation."""
    found = _index_examples().get((lexeme.lemma, lexeme.pos), ())
    has_form = {example: form.lower() in forms for example, forms in found}
    ranked = sorted(has_form, key=lambda e: (not has_form[e], not e.english))
    return next((example for example in ranked if _has_word(example, lexeme)), None)


def _has_word(example: Example, lexeme: Lexeme) -> bool:
    """Test whether the words of an example, as the grammar decides, include this one."""
    return any(word.lemma == lexeme.lemma for word in gloss(example.text).words)


@cache
def _index_examples() -> dict[tuple[str, str], list[tuple[Example, list[str]]]]:
    """Map every word to the examples in which it can occur, with its forms in them."""
    index: dict[tuple[str, str], dict[Example, list[str]]] = {}
    for example in load_examples():
        for key, form in _list_forms(example.text):
            index.setdefault(key, {}).setdefault(example, []).append(form)
    return {key: [*forms.items()] for key, forms in index.items()}


def _list_forms(text: str) -> Iterator[tuple[tuple[str, str], str]]:
    for word in tokenize(text):
        for reading in analyze(word):
            if not reading.lexeme.is_inferred:
                yield (reading.lexeme.lemma, reading.lexeme.pos), word.lower()


def name_sources(keys: str) -> tuple[str, ...]:
    """Return the names of sources: "TV ending" is Game of Thrones, and a remark."""
    return tuple(_load_sources()[key] for key in keys.split())


@cache
def _load_sources() -> dict[str, str]:
    return {row["key"]: row["name"] for row in read_table("sources.csv", ["key", "name"])}
