"""The state of the generator while it writes: participants, the discourse and one sentence."""

from dataclasses import dataclass, field, replace
from functools import cache

from valyrian_jax.language.generator.vocabulary import Senses, VerbFrame
from valyrian_jax.language.generator.weighted_choice import WeightedChoice
from valyrian_jax.language.grammar import Grammar
from valyrian_jax.language.template import Role, Template, Token
from valyrian_jax.language.words.categories import CASES, NUMBERS, concord_number
from valyrian_jax.language.words.lexicon import NOMINAL_POS, Lexeme

# Arguments of a participant that are not senses.
NOT_SENSES = {*NOMINAL_POS, *NUMBERS, *CASES, "pronoun", "you", "only", "known"}


@dataclass(frozen=True)
class Participant:
    """A person or thing in a sentence.

    Attributes:
        referent: The noun or name; for I, you and we the word for a person.
        number: sg, pl, paucal or collective.
        gender: Gender of agreeing adjectives.
        person: "1", "2" or "3".
        head: The word printed for it: the referent or a pronoun.
        words: The printed words; empty if it is left out.
    """

    referent: Lexeme
    number: str
    gender: str
    person: str
    head: Lexeme
    words: tuple[str, ...] = ()
    is_group: bool = False  # several coordinated noun phrases, of which this is the last

    @property
    def agreement(self) -> str:
        """The number of agreeing words, "sg" or "pl"."""
        return concord_number(self.number)

    @property
    def verb_person(self) -> str:
        """The person of a verb with this subject, such as 3s."""
        return self.person + self.agreement[0]

    @property
    def identity(self) -> str:
        """What a sentence may contain only once: the noun, or the person of I, you and we."""
        return self.referent.lemma if self.person == "3" else self.person

    @property
    def is_named(self) -> bool:
        """Whether its noun is printed, and not a pronoun."""
        return bool(self.words) and self.head is self.referent


@dataclass(frozen=True)
class Discourse:
    """What a sentence can refer to in the sentences before it."""

    tense: str = ""  # of the first sentence
    topic: Participant | None = None  # what the text is about
    mention: Participant | None = None  # what it mentioned last besides the topic
    verb: VerbFrame | None = None  # of a question or an order, for the reply

    def change_speaker(self) -> "Discourse":
        """Return the discourse for the other speaker: I becomes you, and you becomes I."""
        topic = self.topic and replace(self.topic, person=_OTHERS[self.topic.person])
        return replace(self, topic=topic)


_OTHERS = {"1": "2", "2": "1", "3": "3"}


@dataclass
class SentenceState:
    """A sentence or noun phrase, with the choices made for its letters so far."""

    grammar: Grammar
    template: Template
    choice: WeightedChoice
    used: set[str] = field(default_factory=set)  # identities of participants, lemmas of words
    head_case: str = "nom"  # case of the noun N of a noun phrase
    depth: int = 0  # number of noun phrases around this one
    tense: str = ""
    participants: dict[str, Participant] = field(default_factory=dict)
    verbs: dict[str, VerbFrame] = field(default_factory=dict)
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def happens(self, name: str) -> bool:
        """Return True with the probability of this name in the table [chances]."""
        return self.choice.happens(self.grammar.weights["chances"][name])

    def find_token(self, letter: str) -> Token | None:
        """Find the token that prints a letter."""
        return self.template.token_by_name.get(letter)

    def known_words(self, token: Token) -> tuple[str, ...]:
        """Return the words of a participant or part that are printed unchanged; () for others."""
        if token.coordinated:
            return ()
        participant = self.participants.get(token.name)
        return participant.words if participant else self.parts.get(token.name, ())

    def is_used(self, letter: str) -> bool:
        """Test whether a token prints a letter, or agrees with it, also as a predicate noun."""
        models = {token.name: self.template.roles.get(token.name) for token in self.template.tokens}
        return any(
            letter in (t.name, *t.features[:1], (role := models[t.name]) and role.model)
            for t in self.template.tokens
        )

    def case(self, letter: str) -> str:
        """Return the case of a participant: that of its token, or `head_case`."""
        token = self.find_token(letter)
        if token is None or token.features[:1] in ((), ("N",), ("phrase",)):
            return self.head_case
        return token.features[0]


@cache
def senses_of(role: Role) -> Senses:
    """Return the senses among the arguments of a participant."""
    return tuple(a for a in role.arguments if a not in NOT_SENSES and a[0] not in "=~-")


@cache
def pos_of(role: Role) -> tuple[str, ...]:
    """Return the parts of speech that a participant may have."""
    return tuple(pos for pos in NOMINAL_POS if pos in role.arguments) or NOMINAL_POS


@cache
def numbers_of(role: Role) -> tuple[str, ...]:
    """Return the numbers that a participant may have."""
    return tuple(number for number in role.arguments if number in NUMBERS) or NUMBERS
