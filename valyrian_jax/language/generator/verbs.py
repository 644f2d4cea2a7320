"""Which verbs and tenses a template can have, given who is settled and what may still be drawn."""

from collections.abc import Iterator
from functools import cache

from valyrian_jax.language.generator.sentence_state import Scene, SentenceState, kinds_of, senses_of
from valyrian_jax.language.generator.vocabulary import (
    Constraints,
    Open,
    Senses,
    Use,
    fitting_verbs,
    persons_of,
)
from valyrian_jax.language.generator.weighted_choice import NO_CHOICE
from valyrian_jax.language.grammar import Grammar, Pattern, Role
from valyrian_jax.language.words.morphology import NO_PERSON, NUMBERS, PERSONS, TENSES, conjugate


def verbs_of(pattern: Pattern) -> dict[str, Role]:
    """The letters of a template that are verbs."""
    return {letter: role for letter, role in pattern.roles.items() if role.category == "verb"}


def tenses_for(
    draft: SentenceState, scene: Scene, verbs: dict[str, Role], asked: tuple[str, ...] = ()
) -> dict[str, float]:
    """The weights of the tenses in which there are verbs for this pattern, the usual tense of the scene first."""
    stay = draft.probability("same_tense") if scene.tense else 0.0
    table = draft.grammar.weights["tenses"]
    tenses = asked or draft.pattern.tenses or TENSES
    begun = draft.fillers or draft.used
    possible = (
        _possible_tenses(draft, verbs, tenses)
        if begun
        else _tenses_at_first(draft.grammar, draft.pattern, tenses)
    )
    total = sum(table.values())
    return {t: (1 - stay) * table[t] / total + stay * (t == scene.tense) for t in possible}


@cache
def _tenses_at_first(
    grammar: Grammar, pattern: Pattern, tenses: tuple[str, ...]
) -> tuple[str, ...]:
    """Those of the tenses in which there are verbs for a pattern of which nothing is settled."""
    return _possible_tenses(
        SentenceState(grammar, pattern, NO_CHOICE, set()), verbs_of(pattern), tenses
    )


def _possible_tenses(
    draft: SentenceState, verbs: dict[str, Role], tenses: tuple[str, ...]
) -> tuple[str, ...]:
    found = []
    for tense in tenses:
        draft.tense = tense
        if all(fitting(draft, letter, role) for letter, role in verbs.items()):
            found.append(tense)
    return tuple(found)


def fitting(draft: SentenceState, letter: str, role: Role) -> list[Use]:
    """The verbs that can stand for a letter: with places for its participants, and a sure form for the subject."""
    kinds, *letters = role.arguments
    target, mood = target_of(draft, letter)
    persons = frozenset(PERSONS)
    if target in draft.fillers:
        persons = frozenset({draft.fillers[target].verb_person})
    elif target in draft.pattern.roles:
        persons = _possible_persons(draft.pattern.roles[target], mood)
    elif mood != "infinitive":
        persons = frozenset({target})
    places = tuple(_place(draft, place) for place in letters)
    uses = fitting_verbs(tuple(kinds.split("|")), places, draft.tense, mood, persons)
    return [use for use in uses if use.verb.lemma not in draft.used]


def target_of(draft: SentenceState, letter: str) -> tuple[str, str]:
    """Whom the verb agrees with (a participant, or a person such as 3s), and its mood."""
    token = next(token for token in draft.pattern.tokens if token.name == letter)
    if token.features == ("infinitive",):
        return "", "infinitive"
    return token.features[0], token.features[1] if len(token.features) > 1 else "indicative"


def _place(draft: SentenceState, letter: str) -> Senses | Open:
    """A participant, as far as it matters to a verb."""
    if letter in draft.fillers:
        return draft.fillers[letter].referent.senses
    role = draft.pattern.roles[letter]
    return Open(kinds_of(role), (senses_of(role), *asked(draft, letter)), draft.case(letter))


def _possible_persons(role: Role, mood: str) -> frozenset[str]:
    """The persons that a participant may turn out to be."""
    if mood == "imperative":
        return frozenset(("2s", "2p"))
    if "pronoun" in role.arguments:
        return frozenset(PERSONS)
    numbers = set(role.arguments) & set(NUMBERS)
    singular, plural = (
        not numbers or numbers & {"sg", "collective"},
        not numbers or numbers & {"pl", "paucal"},
    )
    return frozenset((*(("3s",) if singular else ()), *(("3p",) if plural else ())))


def asked(draft: SentenceState, letter: str) -> Constraints:
    """What the verbs that are settled ask of a participant."""
    asked = []
    for verb, use in draft.verbs.items():
        places = draft.pattern.roles[verb].arguments[1:]
        asked += [
            senses for place, senses in zip(places, use.places, strict=False) if place == letter
        ]
    return tuple(asked)


def persons_asked(draft: SentenceState, letter: str) -> frozenset[str]:
    """The persons for which all verbs that agree with a participant have a sure form."""
    persons = frozenset(PERSONS)
    for verb, use in draft.verbs.items():
        target, mood = target_of(draft, verb)
        if target == letter:
            persons &= persons_of(use.verb, draft.tense, mood)
    return persons


def possible_forms(draft: SentenceState, letter: str) -> Iterator[str]:
    """The forms of which a verb will have one, whoever its subject is."""
    forms, (_, mood) = conjugate(draft.verbs[letter].verb), target_of(draft, letter)
    if mood == "infinitive":
        yield forms["present", mood, NO_PERSON].text
    else:
        found = (forms.get((draft.tense, mood, person)) for person in PERSONS)
        yield from (form.text for form in found if form)


def verb_form(draft: SentenceState, letter: str) -> str:
    """The form of a verb that agrees with its subject."""
    forms, (target, mood) = conjugate(draft.verbs[letter].verb), target_of(draft, letter)
    if mood == "infinitive":
        return forms["present", mood, NO_PERSON].text
    person = draft.fillers[target].verb_person if target in draft.fillers else target
    if mood == "imperative":
        person = "2" + person[1]  # the vocative noun is who must act
    return forms[draft.tense, mood, person].text
