"""Set phrases: fixed words that have a meaning as a whole, from `set_phrases.csv`.

They are greetings, answers, and expressions that the lexicon cannot list as one word.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from valyrian_jax.language.words.lexicon import read_table


class SetPhrase(NamedTuple):
    """A set phrase.

    Attributes:
        words: Its words, in lower case.
        kind: How it is used: greeting, answer, order, question, cause or adverb.
        gloss: English meaning.
        source: Keys of the sources, which the README lists.
    """

    words: tuple[str, ...]
    kind: str
    gloss: str
    source: str


@cache
def load_set_phrases() -> tuple[SetPhrase, ...]:
    """Load all set phrases in file order.

    Raises:
        UserError: `set_phrases.csv` is malformed.
    """
    rows = read_table("set_phrases.csv", ["phrase", "kind", "gloss", "source"])
    return tuple(
        SetPhrase(tuple(row["phrase"].split()), row["kind"], row["gloss"], row["source"])
        for row in rows
    )


@cache
def set_phrase_words() -> frozenset[str]:
    """Return the words of all set phrases; some of them mean nothing alone (`ilas`)."""
    return frozenset(word for phrase in load_set_phrases() for word in phrase.words)


def find_set_phrases(words: Sequence[str], end: int, kinds: Collection[str]) -> Iterator[int]:
    """Yield the index of the first word of every phrase of these kinds that ends before `end`."""
    for phrase in load_set_phrases():
        start = end - len(phrase.words)
        if phrase.kind in kinds and start >= 0 and tuple(words[start:end]) == phrase.words:
            yield start
