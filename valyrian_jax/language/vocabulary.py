"""Which words may stand where: pools of lexemes by sense and frame, in lexicon order, and seeded choices from them."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate
from random import Random
from typing import NamedTuple, TypeVar

from valyrian_jax.errors import UserError
from valyrian_jax.language.lexicon import Lexeme, load_lexicon

T = TypeVar("T")
Senses = tuple[str, ...]
Constraints = tuple[Senses, ...]  # a word must have a sense of each list; an empty list and "any" ask nothing

NOUN_KINDS = ("noun", "name", "pron")


class Chance:
    """Reproducible choices: only `Random.random()`, whose values Python guarantees, and walks along running sums."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed).random

    def happens(self, probability: float) -> bool:
        """True with this probability."""
        return self._random() < probability

    def pick(self, items: Sequence[T], weights: Sequence[float]) -> T:
        """One item, with probability proportional to its weight."""
        sums = list(accumulate(weights))
        return items[min(bisect_right(sums, self._random() * sums[-1]), len(items) - 1)]

    def pick_key(self, weights: Mapping[str, float]) -> str:
        """One key of a table of weights."""
        return self.pick(list(weights), list(weights.values()))

    def pick_frequent(self, items: Sequence[T]) -> T:
        """One item, the first ones most often: weight 1 / (rank + 2), the Zipf-Mandelbrot law of word frequencies."""
        return self.pick(items, [1 / (rank + 2) for rank in range(1, len(items) + 1)])


class Use(NamedTuple):
    """A verb in one of its frames: the kind of frame, and the senses of its places (subject, object ...)."""

    verb: Lexeme
    kind: str
    places: tuple[Senses, ...]


def suits(lexeme: Lexeme, constraints: Constraints) -> bool:
    """Whether the lexeme has a sense of every list."""
    return all(not senses or "any" in senses or set(senses) & set(lexeme.senses) for senses in constraints)


@cache
def nouns(kinds: tuple[str, ...], constraints: Constraints) -> tuple[Lexeme, ...]:
    """Nouns, names or pronouns (`kinds`) that the generator may use and that meet the constraints."""
    return tuple(x for x in load_lexicon() if x.pos in kinds and x.senses and suits(x, constraints))


@cache
def verb_uses(kinds: tuple[str, ...], asked: tuple[Lexeme | Constraints, ...]) -> tuple[Use, ...]:
    """Verbs with a frame of one of the kinds whose first places take these nouns, or a noun under these constraints."""

    def takes(place: Senses, who: Lexeme | Constraints) -> bool:
        return suits(who, (place,)) if isinstance(who, Lexeme) else bool(nouns(NOUN_KINDS, (*who, place)))

    fitting = (use for use in _all_uses() if use.kind in kinds and len(use.places) >= len(asked))
    return tuple(use for use in fitting if all(map(takes, use.places, asked)))


@cache
def describing(pos: str, senses: Senses, number: str) -> tuple[Lexeme, ...]:
    """Adjectives, determiners or numerals that may be said of a noun with these senses in this number."""
    return tuple(
        word
        for word in load_lexicon()
        if word.pos == pos and set(word.senses) & {"any", *senses} and (not word.frame or number in word.frame.split())
    )


@cache
def adverbs(sense: str, partner: str) -> tuple[Lexeme, ...]:
    """Adverbs of time, place or manner that go with a tense or a kind of verb (`partner`; "" = with anything)."""
    found = (word for word in load_lexicon() if word.pos == "adv" and sense in word.senses)
    return tuple(word for word in found if not word.frame or partner in word.frame.split())


@cache
def words(lemmas: tuple[str, ...]) -> tuple[Lexeme, ...]:
    """The words with these lemmas, in this order.

    Raises:
        UserError: one of them is not in the lexicon.
    """
    by_lemma = {word.lemma: word for word in load_lexicon()}
    if missing := [lemma for lemma in lemmas if lemma not in by_lemma]:
        raise UserError(
            f"grammar.toml uses {missing[0]!r}, which lexicon.csv does not list; add it or correct the word"
        )
    return tuple(by_lemma[lemma] for lemma in lemmas)


@cache
def _all_uses() -> tuple[Use, ...]:
    """Every verb in every frame. A frame reads `kind senses > senses > senses`; several are parted by semicolons."""
    uses = []
    for verb in load_lexicon():
        for frame in verb.frame.split(";") if verb.pos == "verb" and verb.frame else []:
            kind, _, rest = frame.strip().partition(" ")
            uses.append(Use(verb, kind, tuple(tuple(place.split()) for place in rest.split(">"))))
    return tuple(uses)
