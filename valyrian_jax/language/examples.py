"""Attested sentences, from `examples.csv`, and the sources that the tables name by keys."""

from functools import cache
from typing import NamedTuple

from valyrian_jax.language.checker.text import tokenize
from valyrian_jax.language.interlinear import gloss
from valyrian_jax.language.words.analysis import inflect
from valyrian_jax.language.words.lexicon import Lexeme, read_table
from valyrian_jax.language.words.vowels import shorten_last_vowel


class Example(NamedTuple):
    """A sentence that a source attests.

    Attributes:
        text: The sentence.
        english: Its translation in the source; "" if the source gives none.
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
    if lexeme.is_inferred or lexeme.pos == "phrase":
        return None
    forms = {reading.text.lower() for reading in inflect(lexeme)}
    has_form = {
        example: form.lower() in words
        for example, words in _split_examples()
        if any(word in forms or shorten_last_vowel(word) in forms for word in words)
    }
    ranked = sorted(has_form, key=lambda example: (not has_form[example], not example.english))
    return next((example for example in ranked if _has_word(example, lexeme)), None)


def _has_word(example: Example, lexeme: Lexeme) -> bool:
    """Test whether this word is in an example, as the grammar analyses it."""
    return any(word.lemma == lexeme.lemma for word in gloss(example.text).words)


@cache
def _split_examples() -> tuple[tuple[Example, tuple[str, ...]], ...]:
    """Return all examples with their words in small letters."""
    return tuple((e, tuple(tokenize(e.text.lower()))) for e in load_examples())


def name_sources(keys: str) -> tuple[str, ...]:
    """Return the names of sources: "TV ending" is Game of Thrones, and a remark."""
    return tuple(_load_sources()[key] for key in keys.split())


@cache
def _load_sources() -> dict[str, str]:
    return {row["key"]: row["name"] for row in read_table("sources.csv", ["key", "name"])}
