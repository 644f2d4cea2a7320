"""The words that fit a slot, by sense, frame and form, with their weights.

Only words with attested forms are returned, so every choice can be printed.
"""

from collections.abc import Mapping, Set
from functools import cache
from typing import NamedTuple

from valyrian_jax.errors import UserError
from valyrian_jax.language.generator.weighted_choice import zipf_weights
from valyrian_jax.language.grammar import load_grammar
from valyrian_jax.language.words.categories import NO_PERSON, NUMBERS, PERSONS
from valyrian_jax.language.words.ending_tables import INFERRED
from valyrian_jax.language.words.lexicon import ADJECTIVAL_POS, Lexeme, load_lexicon
from valyrian_jax.language.words.morphology import conjugate, decline, inflect_adjective
from valyrian_jax.language.words.vowels import lengthen_last_vowel

Senses = tuple[str, ...]
# A word must have a sense of each list; an empty list and "any" allow every word.
Constraints = tuple[Senses, ...]


class WordForm(NamedTuple):
    """A word in one of its forms; nouns also say in which number."""

    lexeme: Lexeme
    text: str
    number: str = ""


class VerbFrame(NamedTuple):
    """A verb in one of its frames: the kind of frame, and the senses of subject, object ..."""

    verb: Lexeme
    kind: str
    arguments: tuple[Senses, ...]


class Tense(NamedTuple):
    """A tense, and whether a verb of the template shows it."""

    name: str
    is_visible: bool


class OpenArgument(NamedTuple):
    """An argument whose noun is still to be drawn."""

    pos: tuple[str, ...]
    constraints: Constraints
    case: str


class NounPool(NamedTuple):
    """Nouns with their weights."""

    nouns: tuple[Lexeme, ...]
    weights: tuple[float, ...]
    lemmas: frozenset[str]


def make_pool(weights: Mapping[Lexeme, float]) -> NounPool:
    """Return the pool of these nouns."""
    lemmas = frozenset(noun.lemma for noun in weights)
    return NounPool(tuple(weights), tuple(weights.values()), lemmas)


def meets(lexeme: Lexeme, constraints: Constraints) -> bool:
    """Test whether the lexeme has a sense of every list."""
    return all(
        not senses or "any" in senses or set(senses) & set(lexeme.senses) for senses in constraints
    )


@cache
def rank_weights(count: int) -> tuple[float, ...]:
    """Return the weights of words that are listed from frequent to rare."""
    law = load_grammar().weights["words"]
    return tuple(zipf_weights(count, law["offset"], law["exponent"]))


@cache
def noun_forms(noun: Lexeme, case: str, coordinated: bool) -> tuple[WordForm, ...]:
    """Return the attested forms of a noun in a case, one for each number that it may have.

    A coordinated noun needs a last vowel that can be lengthened.
    """
    numbers = NUMBERS if noun.pos == "noun" and "single" not in noun.senses else ("sg",)
    forms = ((number, decline(noun).get((case, number))) for number in numbers)
    return tuple(
        WordForm(noun, form.text, number)
        for number, form in forms
        if form and form.attested and (not coordinated or lengthen_last_vowel(form.text))
    )


@cache
def find_nouns(
    pos: tuple[str, ...],
    constraints: Constraints,
    case: str,
    numbers: tuple[str, ...],
    coordinated: bool = False,
) -> NounPool:
    """Find the nouns, names or indefinite pronouns that meet the constraints.

    A frame lists senses from usual to unusual, and the lexicon lists words from frequent to rare.
    A word with several of the senses gets the sum of its weights, so there is only one way to draw
    it.

    Args:
        pos: Parts of speech.
        constraints: Lists of senses; the first that is not empty sets the weights.
        case: Case of the printed form, which must be attested.
        numbers: Numbers that the form may have.
        coordinated: Whether the form must have a last vowel that can be lengthened.
    """
    candidates = [
        word
        for word in load_lexicon()
        if word.pos in pos
        and word.senses
        and meets(word, constraints)
        and any(form.number in numbers for form in noun_forms(word, case, coordinated))
    ]
    ranked_senses = next((senses for senses in constraints if senses), ("any",))
    groups = [[word for word in candidates if meets(word, ((s,),))] for s in ranked_senses]
    groups = [group for group in groups if group]
    weights: dict[Lexeme, float] = {}
    for share, group in zip(rank_weights(len(groups)), groups, strict=True):
        for weight, word in zip(rank_weights(len(group)), group, strict=True):
            weights[word] = weights.get(word, 0.0) + share * weight
    return make_pool(weights)


@cache
def verb_lemmas() -> frozenset[str]:
    """Return the lemmas of all verbs."""
    return frozenset(word.lemma for word in load_lexicon() if word.pos == "verb")


@cache
def list_verb_frames(kinds: tuple[str, ...]) -> tuple[VerbFrame, ...]:
    """List every verb in every frame of these kinds; a kind may be a verb, or any.

    The column `frame` reads `kind senses > senses`; a semicolon separates several frames. One that
    ends in ° is not generated.
    """
    frames = []
    for verb in (word for word in load_lexicon() if word.pos == "verb"):
        is_named = verb.lemma in kinds
        for text in verb.frame.split(";")[: 1 if is_named else None]:
            kind, _, senses = text.strip().removesuffix(INFERRED).partition(" ")
            is_any = "any" in kinds and kind not in ("", "copula")
            if is_named or ((kind in kinds or is_any) and not text.endswith(INFERRED)):
                arguments = tuple(tuple(argument.split()) for argument in senses.split(">"))
                frames.append(VerbFrame(verb, kind, arguments))
    return tuple(frames)


@cache
def find_verbs(
    kinds: tuple[str, ...],
    arguments: tuple[Senses | OpenArgument, ...],
    tense: str,
    mood: str,
    persons: frozenset[str],
) -> tuple[VerbFrame, ...]:
    """Find the verbs that fit their arguments and have an attested form.

    Args:
        kinds: Kinds of frames.
        arguments: The first arguments of the frame: the senses of a participant that is chosen
            already, or the constraints on one that is not.
        tense: Tense of the form.
        mood: Mood of the form.
        persons: Persons that the form may have; an infinitive has none.
    """

    def accepts(senses: Senses, argument: Senses | OpenArgument) -> bool:
        if isinstance(argument, OpenArgument):
            constraints = (*argument.constraints, senses)
            return bool(find_nouns(argument.pos, constraints, argument.case, NUMBERS).nouns)
        return not senses or "any" in senses or not set(senses).isdisjoint(argument)

    return tuple(
        frame
        for frame in list_verb_frames(kinds)
        if len(frame.arguments) >= len(arguments)
        and attested_persons(frame.verb, tense, mood) & persons
        and all(map(accepts, frame.arguments, arguments))
    )


@cache
def attested_persons(verb: Lexeme, tense: str, mood: str) -> frozenset[str]:
    """Return the persons for which a verb has an attested form; all of them for an infinitive."""
    forms = conjugate(verb)
    if mood == "infinitive":
        form = forms.get(("present", mood, NO_PERSON))
        return frozenset(PERSONS) if form and form.attested else frozenset()
    persons = {person: forms.get((tense, mood, person)) for person in PERSONS}
    return frozenset(person for person, form in persons.items() if form and form.attested)


@cache
def find_modifier_forms(
    pos: str, lemmas: Senses, senses: Senses, number: str, key: tuple[str, str, str], position: str
) -> tuple[WordForm, ...]:
    """Find the adjectives, determiners or numerals that may describe a noun, in agreeing forms.

    Args:
        pos: adj, det, num, or modifier for all of them.
        lemmas: Lemmas to choose from; empty for all.
        senses: Senses of the noun.
        number: Number of the noun.
        key: Gender, number and case of agreement.
        position: full, prepositive or prevocalic.
    """
    modifiers = []
    for word in load_lexicon():
        if word.pos not in (ADJECTIVAL_POS if pos == "modifier" else (pos,)) or (
            word.frame and number not in word.frame.split()
        ):
            continue
        if word.lemma in lemmas if lemmas else set(word.senses) & {"any", *senses}:
            form = inflect_adjective(word, position).get(key)
            if form and form.attested:
                modifiers.append(WordForm(word, form.text))
    return tuple(modifiers)


@cache
def find_adverbs(sense: str, partner: str) -> tuple[Lexeme, ...]:
    """Find the adverbs of a sense (time, place or manner) that go with a partner.

    The partner is a tense or a kind of verb; with "", all of them are found.
    """
    adverbs = (word for word in load_lexicon() if word.pos == "adv" and sense in word.senses)
    return tuple(
        word for word in adverbs if not (word.frame and partner) or partner in word.frame.split()
    )


@cache
def find_words(lemmas: tuple[str, ...]) -> tuple[Lexeme, ...]:
    """Find the words with these lemmas, in this order.

    Raises:
        UserError: The lexicon lacks one of them.
    """
    words = {word.lemma: word for word in load_lexicon()}
    for lemma in lemmas:
        if lemma not in words:
            raise UserError(
                f"grammar.toml uses {lemma!r}, which lexicon.csv does not list; "
                "add it or correct the word"
            )
    return tuple(words[lemma] for lemma in lemmas)


def exclude_used(pool: NounPool, used: Set[str]) -> NounPool:
    """Return the nouns of a pool that the sentence does not have yet."""
    if pool.lemmas.isdisjoint(used):
        return pool
    pairs = zip(pool.nouns, pool.weights, strict=True)
    rest = {noun: weight for noun, weight in pairs if noun.lemma not in used}
    return make_pool(rest)
