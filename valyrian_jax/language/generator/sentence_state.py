"""What is said: participants, the scene that a sentence goes on about, and a template while it is being filled."""

from dataclasses import dataclass, field

from valyrian_jax.language.generator.vocabulary import NOUN_KINDS, Senses, Use
from valyrian_jax.language.generator.weighted_choice import WeightedChoice
from valyrian_jax.language.grammar import Grammar, Pattern, Role, Token
from valyrian_jax.language.words.lexicon import Lexeme
from valyrian_jax.language.words.morphology import NUMBERS

NOT_SENSES = {
    *NOUN_KINDS,
    *NUMBERS,
    "pronoun",
    "you",
}  # what else the line of a participant may say


@dataclass(frozen=True)
class Participant:
    """Somebody or something a sentence speaks of.

    Attributes:
        referent: the noun or name; for I and you the word for a person.
        number: sg, pl, paucal or collective.
        gender: what adjectives agree with.
        person: "1", "2" or "3".
        head: the word that stands for it here: the referent or a pronoun.
        words: how it is printed here; empty if it is left out.
    """

    referent: Lexeme
    number: str
    gender: str
    person: str
    head: Lexeme
    words: tuple[str, ...] = ()

    @property
    def agreement(self) -> str:
        """The number of words that agree: singular with collectives, plural with paucals (Najahho, "Number")."""
        return "sg" if self.number in ("sg", "collective") else "pl"

    @property
    def verb_person(self) -> str:
        """The person of a verb whose subject this is, such as 3s."""
        return self.person + self.agreement[0]

    @property
    def mark(self) -> str:
        """What may stand in a sentence only once: the noun, or the person of I, you and we."""
        return self.referent.lemma if self.person == "3" else self.person


@dataclass(frozen=True)
class Scene:
    """What a sentence may go on about: its usual tense (that of its first sentence), whom it is about, and what else it
    spoke of last.
    """

    tense: str = ""
    topic: Participant | None = None
    other: Participant | None = None


@dataclass
class SentenceState:
    """A pattern while it is being filled."""

    grammar: Grammar
    pattern: Pattern
    chance: WeightedChoice
    used: set[str]  # marks of participants and lemmas of other words in the sentence so far
    head_case: str = "nom"  # of the noun N, if the pattern is a noun phrase
    depth: int = 0  # phrases around this one
    tense: str = ""
    fillers: dict[str, Participant] = field(default_factory=dict)
    verbs: dict[str, Use] = field(default_factory=dict)
    clauses: dict[str, list[str]] = field(default_factory=dict)

    def probability(self, name: str) -> float:
        return self.grammar.weights["chances"][name]

    def printed(self, letter: str) -> Token | None:
        """Where a participant is printed, if it is."""
        return next((t for t in self.pattern.tokens if t.name == letter), None)

    def case(self, letter: str) -> str:
        """The case of a participant; the nominative if it is not printed."""
        token = self.printed(letter)
        return token.features[0] if token and token.features else self.head_case


def senses_of(role: Role) -> Senses:
    """The senses in the line of a participant, without its numbers, parts of speech and references."""
    return tuple(a for a in role.arguments if a not in NOT_SENSES and not a.startswith("="))


def kinds_of(role: Role) -> tuple[str, ...]:
    """The parts of speech that the line of a participant allows."""
    return tuple(kind for kind in NOUN_KINDS if kind in role.arguments) or NOUN_KINDS
