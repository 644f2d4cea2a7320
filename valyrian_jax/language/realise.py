"""From a filled template to its words: a pure function, and the only place where templates meet the ending tables.

Only sure forms are printed. A template that would need another form has no realisation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from valyrian_jax.language.grammar import PUNCTUATION, Pattern, Token
from valyrian_jax.language.lexicon import Lexeme
from valyrian_jax.language.morphology import (
    NO_PERSON,
    PERSONS,
    VOWELS,
    Form,
    concord_case,
    conjugate,
    decline,
    inflect_adjective,
    lengthen_last_vowel,
)

Filler: TypeAlias = "Participant | Lexeme | Filled | None"


@dataclass(frozen=True)
class Participant:
    """Somebody or something a sentence speaks of.

    Attributes:
        lexeme: the noun, name or pronoun to print.
        number: sg, pl, paucal or collective.
        gender: what adjectives agree with.
        person: "1", "2" or "3".
        referent: the noun that a pronoun stands for, else the lexeme itself.
        silent: a subject pronoun that is left out.
        phrase: the noun phrase around the noun, if there is more than the noun.
    """

    lexeme: Lexeme
    number: str
    gender: str
    person: str
    referent: Lexeme
    silent: bool = False
    phrase: "Filled | None" = None

    @property
    def agreement(self) -> str:
        """The number of words that agree: singular with collectives, plural with paucals (Najahho, "Number")."""
        return "sg" if self.number in ("sg", "collective") else "pl"


@dataclass(frozen=True)
class Filled:
    """A pattern with a filler for each of its letters; None = an optional word that is left out."""

    pattern: Pattern
    fillers: Mapping[str, Filler]
    tense: str = "present"


def realise(filled: Filled, case: str = "nom") -> list[str] | None:
    """The words of a filled pattern.

    Args:
        filled: the pattern and its fillers.
        case: the case of the head noun N, if the pattern is a noun phrase.

    Returns:
        The words and punctuation marks, or None where a needed form is not established or not sure.
    """
    words: list[str] = []
    tokens = filled.pattern.tokens
    for i in range(len(tokens) - 1, -1, -1):  # backwards: a short adjective depends on the word that follows it
        part = _print(filled, i, case, words[0] if words else "")
        if part and tokens[i].joined:
            longer = lengthen_last_vowel(part[-1])
            part = [*part[:-1], longer] if longer else None
        if part is None:
            return None
        words[:0] = part
    return words


def _print(filled: Filled, index: int, head_case: str, following: str) -> list[str] | None:
    """The words of one token, or None. `following` is the word after it."""
    token = filled.pattern.tokens[index]
    filler = filled.fillers.get(token.name)
    if not token.is_letter:
        return [token.name]
    if filler is None:
        return []
    if isinstance(filler, Filled):
        clause = realise(filler)
        return [word for word in clause if word not in PUNCTUATION] if clause else None
    if isinstance(filler, Participant):
        return _print_participant(filler, token.features[0] if token.features else head_case)
    if filler.pos == "verb":
        return _one(_verb_form(filler, filled, token))
    if token.features:
        return _one(_agreeing_form(filler, filled, index, head_case, following))
    return [filler.lemma]


def _print_participant(who: Participant, case: str) -> list[str] | None:
    if who.silent and case == "nom":
        return []
    if who.phrase is not None:
        return realise(who.phrase, case)
    return _one(decline(who.lexeme).get((case, who.number)))


def _verb_form(verb: Lexeme, filled: Filled, token: Token) -> Form | None:
    """The form for a token such as V:x, V:x:subjunctive, V:3p or V:infinitive."""
    target = token.features[0]
    if target == "infinitive":
        return conjugate(verb).get(("present", "infinitive", NO_PERSON))
    mood = token.features[1] if len(token.features) > 1 else "indicative"
    subject = filled.fillers.get(target)
    if isinstance(subject, Participant):
        addressed = mood == "imperative"  # the vocative noun is who must act
        person = ("2" if addressed else subject.person) + ("s" if subject.agreement == "sg" else "p")
    else:
        person = target
    assert person in PERSONS, f"{filled.pattern.name}: {token.name}:{target} names no participant and no person"
    return conjugate(verb).get((filled.tense, mood, person))


def _agreeing_form(word: Lexeme, filled: Filled, index: int, head_case: str, following: str) -> Form | None:
    """The form of an adjective, determiner or numeral for a token such as A:x."""
    tokens, target = filled.pattern.tokens, filled.pattern.tokens[index].features[0]
    noun = filled.fillers[target]
    assert isinstance(noun, Participant), f"{filled.pattern.name}: {target} is not a participant"
    places = [i for i, token in enumerate(tokens) if token.name == target]
    case = next((tokens[i].features[0] for i in places if tokens[i].features), head_case)
    position = "full"
    if any(i > index for i in places):
        position = "prevocalic" if following[:1].lower() in VOWELS else "prepositive"
    key = noun.gender, noun.agreement, concord_case(noun.lexeme, case)
    return inflect_adjective(word, position).get(key)


def _one(form: Form | None) -> list[str] | None:
    return [form.text] if form is not None and form.sure else None
