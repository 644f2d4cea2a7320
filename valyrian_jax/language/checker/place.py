"""A word of a parse with its surroundings: its verb, its clause and its neighbours."""

from collections.abc import Sequence
from typing import NamedTuple

from valyrian_jax.language.checker.parse_tree import Leaf, Sentence
from valyrian_jax.language.words.analysis import Reading

_ANIMATE = frozenset(("person", "animal", "god"))


class Place(NamedTuple):
    """A word of a repaired parse, which replaces the form that is written.

    Attributes:
        sentence: The sentence as written.
        leaves: The words of the parse.
        leaf: The word.
        reading: The reading of the written form that is closest to it.
    """

    sentence: Sentence
    leaves: Sequence[Leaf]
    leaf: Leaf
    reading: Reading

    @property
    def form(self) -> Reading:
        """The form in the parse."""
        assert self.leaf.reading is not None
        return self.leaf.reading

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features in which the form differs from the written one."""
        return tuple(self.form.differing_features(self.reading))

    @property
    def before(self) -> Leaf | None:
        """The word before it."""
        index = find_index(self.leaf, self.leaves)
        return self.leaves[index - 1] if index else None

    @property
    def after(self) -> Leaf | None:
        """The word after it."""
        index = find_index(self.leaf, self.leaves) + 1
        return self.leaves[index] if index < len(self.leaves) else None

    @property
    def verb(self) -> Leaf | None:
        """The finite verb of its clause, or else the infinitive."""
        leaves = self.leaves[find_index(self.leaf, self.leaves) :]
        verbs = [leaf for leaf in leaves if leaf.reading and leaf.reading.word_class == "verb"]
        return next(filter(is_finite, verbs), next(iter(verbs), None))

    @property
    def clause(self) -> Sequence[Leaf]:
        """The words of its clause before the verb."""
        return find_clause(self.verb, self.leaves) if self.verb else ()


class Slot(NamedTuple):
    """What demands a form.

    Attributes:
        text: Function of the word, as in "the object of `urnes`".
        governor: The word that demands the form; None if no single word does.
        cost: How weak the demand is.
    """

    text: str
    governor: Leaf | None = None
    cost: float = 0


def agree_with(word: Leaf) -> Slot:
    """Return the slot of a word that must agree with another word."""
    return Slot(f"to agree with `{text_of(word)}` it", word)


def agree_with_subject(subject: Leaf) -> Slot:
    """Return the slot of a verb or a predicate, which must agree with a subject."""
    return Slot(f"to agree with its subject `{text_of(subject)}` it", subject)


def find_index(leaf: Leaf, leaves: Sequence[Leaf]) -> int:
    """Return the index of a leaf."""
    return next(i for i, other in enumerate(leaves) if other is leaf)


def find_clause(verb: Leaf, leaves: Sequence[Leaf]) -> Sequence[Leaf]:
    """Return the words between the previous finite verb and a verb, without the two."""
    end = find_index(verb, leaves)
    start = next((i + 1 for i in reversed(range(end)) if is_finite(leaves[i])), 0)
    return leaves[start:end]


def find_subject(verb: Leaf, leaves: Sequence[Leaf]) -> Leaf | None:
    """Return the first noun in the nominative of the clause of a verb."""
    clause = find_clause(verb, leaves)
    return next((o for o in clause if is_noun(o, "nom") and o.token.name == "N"), None)


def find_modifiers(noun: Leaf, leaves: Sequence[Leaf]) -> Sequence[Leaf]:
    """Return the words that agree with a noun in its phrase, the nearest first."""
    words = [o for o in leaves if o.template is noun.template and o.token.features[:1] == ("N",)]
    return sorted(words, key=lambda other: abs(other.word_index - noun.word_index))


def find_nominatives(clause: Sequence[Leaf]) -> Sequence[Leaf]:
    """Return the nouns in the nominative, and the adjectives that are predicates."""
    return [o for o in clause if is_noun(o, "nom") or o.token.features == ("x",)]


def is_finite(leaf: Leaf) -> bool:
    """Return whether a word is a finite verb."""
    reading = leaf.reading
    return reading is not None and reading.word_class == "verb" and reading.mood != "infinitive"


def is_noun(leaf: Leaf, case: str = "") -> bool:
    """Return whether a word is a noun, a name or a pronoun, in a case if one is given."""
    reading = leaf.reading
    return reading is not None and reading.word_class == "noun" and case in ("", reading.case)


def is_pronoun(leaf: Leaf) -> bool:
    """Return whether a word is a pronoun."""
    return leaf.reading is not None and leaf.reading.lexeme.pos == "pron"


def is_animate(noun: Reading) -> bool:
    """Return whether a noun is a pronoun, a person, an animal or a god.

    Sources use the nominative of other nouns as an object, too, where our tables do not.
    """
    return noun.lexeme.pos == "pron" or not _ANIMATE.isdisjoint(noun.lexeme.senses)


def find_kinds(verb: Leaf) -> set[str]:
    """Return the kinds of frames that a verb has; none if they are not known."""
    frame = verb.reading.lexeme.frame if verb.reading else ""
    return {part.split()[0] for part in frame.split(";") if part}


def has_kind(verb: Leaf, *kinds: str) -> bool:
    """Return whether a verb has a frame of one of these kinds."""
    return not find_kinds(verb).isdisjoint(kinds)


def text_of(leaf: Leaf) -> str:
    """Return the text of a word or mark."""
    return leaf.reading.text if leaf.reading else leaf.token.name
