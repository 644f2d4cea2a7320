"""Which words may stand where: pools of words by sense, frame and form, each with how often its words are drawn.

Only sure forms are offered, so whatever is drawn can be printed.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from valyrian_jax.errors import UserError
from valyrian_jax.language.generator.weighted_choice import zipf_weights
from valyrian_jax.language.grammar import load_grammar
from valyrian_jax.language.words.lexicon import Lexeme, load_lexicon
from valyrian_jax.language.words.morphology import (
    NO_PERSON,
    NUMBERS,
    PERSONS,
    conjugate,
    decline,
    inflect_adjective,
    lengthen_last_vowel,
)

Senses = tuple[str, ...]
Constraints = tuple[
    Senses, ...
]  # a word must have a sense of each list; an empty list and "any" ask nothing

NOUN_KINDS = ("noun", "name", "pron")


class Word(NamedTuple):
    """A word in one of its forms; `cell` is what tells the forms apart (a number, or nothing)."""

    lexeme: Lexeme
    text: str
    cell: str = ""


class Use(NamedTuple):
    """A verb in one of its frames: the kind of frame, and the senses of its places (subject, object ...)."""

    verb: Lexeme
    kind: str
    places: tuple[Senses, ...]


class Open(NamedTuple):
    """A place for a noun that is yet to be drawn: its parts of speech, what is asked of it, and its case."""

    kinds: tuple[str, ...]
    constraints: Constraints
    case: str


class Pool(NamedTuple):
    """Nouns with their weights."""

    nouns: tuple[Lexeme, ...]
    weights: tuple[float, ...]


def suits(lexeme: Lexeme, constraints: Constraints) -> bool:
    """Whether the lexeme has a sense of every list."""
    return all(
        not senses or "any" in senses or set(senses) & set(lexeme.senses) for senses in constraints
    )


def frequencies(count: int) -> list[float]:
    """Weights of words from frequent to rare."""
    law = load_grammar().weights["words"]
    return zipf_weights(count, law["offset"], law["exponent"])


@cache
def numbers_of(noun: Lexeme, case: str, joined: bool = False) -> tuple[Word, ...]:
    """The noun in this case, in every number whose form is sure and that it may have.

    Args:
        noun: the word.
        case: one of CASES.
        joined: only forms whose last vowel can be lengthened, "and".
    """
    allowed = NUMBERS if noun.pos == "noun" and "single" not in noun.senses else ("sg",)
    found = ((n, decline(noun).get((case, n))) for n in allowed)
    return tuple(
        Word(noun, form.text, n)
        for n, form in found
        if form and form.sure and (not joined or lengthen_last_vowel(form.text))
    )


@cache
def nouns(
    kinds: tuple[str, ...],
    constraints: Constraints,
    case: str,
    numbers: tuple[str, ...],
    joined: bool = False,
) -> Pool:
    """Nouns, names or indefinite pronouns (`kinds`) that meet the constraints and have a sure form.

    A frame lists senses from usual to unusual, the lexicon words from frequent to rare. A word that has several of
    the senses gets the sum of its weights, so that it can be drawn in one way only.

    Args:
        kinds: parts of speech.
        constraints: lists of senses; the first that asks something sets the weights.
        case: the case to be printed.
        numbers: the numbers allowed.
        joined: only words whose last vowel can be lengthened.
    """
    known = [
        word
        for word in load_lexicon()
        if word.pos in kinds
        and word.senses
        and suits(word, constraints)
        and any(form.cell in numbers for form in numbers_of(word, case, joined))
    ]
    listed = next((senses for senses in constraints if senses), ("any",))
    groups = [[word for word in known if suits(word, ((sense,),))] for sense in listed]
    groups = [group for group in groups if group]
    weights: dict[Lexeme, float] = {}
    for share, group in zip(frequencies(len(groups)), groups, strict=True):
        for weight, word in zip(frequencies(len(group)), group, strict=True):
            weights[word] = weights.get(word, 0.0) + share * weight
    return Pool(tuple(weights), tuple(weights.values()))


@cache
def verb_uses(kinds: tuple[str, ...]) -> tuple[Use, ...]:
    """Every verb in every frame of these kinds. A frame reads `kind senses > senses`; several are parted by `;`."""
    uses = []
    for verb in load_lexicon():
        for frame in verb.frame.split(";") if verb.pos == "verb" and verb.frame else []:
            kind, _, rest = frame.strip().partition(" ")
            if kind in kinds:
                uses.append(
                    Use(verb, kind, tuple(tuple(place.split()) for place in rest.split(">")))
                )
    return tuple(uses)


@cache
def fitting_verbs(
    kinds: tuple[str, ...],
    places: tuple["Senses | Open", ...],
    tense: str,
    mood: str,
    persons: frozenset[str],
) -> tuple[Use, ...]:
    """The verbs with frames of these kinds that suit their participants.

    Args:
        kinds: of frames.
        places: for the first places of the frame, the senses of who is settled, or what may be drawn.
        tense: that must have a sure form
        mood: in this mood
        persons: and in one of these persons, unless the mood is the infinitive.
    """

    def takes(senses: Senses, place: "Senses | Open") -> bool:
        if isinstance(place, Open):
            return bool(nouns(place.kinds, (*place.constraints, senses), place.case, NUMBERS).nouns)
        return not senses or "any" in senses or not set(senses).isdisjoint(place)

    return tuple(
        use
        for use in verb_uses(kinds)
        if len(use.places) >= len(places)
        and persons_of(use.verb, tense, mood) & persons
        and all(map(takes, use.places, places))
    )


@cache
def persons_of(verb: Lexeme, tense: str, mood: str) -> frozenset[str]:
    """The persons for which the verb has a sure form; all of them for an infinitive."""
    forms = conjugate(verb)
    if mood == "infinitive":
        form = forms.get(("present", mood, NO_PERSON))
        return frozenset(PERSONS) if form and form.sure else frozenset()
    return frozenset(p for p in PERSONS if (tense, mood, p) in forms and forms[tense, mood, p].sure)


@cache
def describing(
    pos: str, lemmas: Senses, senses: Senses, number: str, key: tuple[str, str, str], position: str
) -> tuple[Word, ...]:
    """Adjectives, determiners or numerals that may be said of a noun, in the form that agrees with it.

    Args:
        pos: adj, det or num.
        lemmas: only these words; empty: all.
        senses: of the noun.
        number: of the noun.
        key: gender, number and case of agreement.
        position: full, prepositive or prevocalic.
    """
    found = []
    for word in load_lexicon():
        if word.pos != pos or (number not in word.frame.split() if word.frame else False):
            continue
        if word.lemma in lemmas if lemmas else set(word.senses) & {"any", *senses}:
            form = inflect_adjective(word, position).get(key)
            if form and form.sure:
                found.append(Word(word, form.text))
    return tuple(found)


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


def unused(
    pool: Sequence[Lexeme], weights: Sequence[float], used: Collection[str]
) -> Mapping[Lexeme, float]:
    """The words of a pool that the sentence does not have yet, with their weights."""
    return {
        word: weight for word, weight in zip(pool, weights, strict=True) if word.lemma not in used
    }
