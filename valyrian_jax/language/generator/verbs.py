"""The verbs and tenses that a template allows, given what the sentence has so far."""

from collections.abc import Iterator, Sequence
from functools import cache

from valyrian_jax.language.generator.sentence_state import (
    Discourse,
    SentenceState,
    numbers_of,
    pos_of,
    senses_of,
)
from valyrian_jax.language.generator.vocabulary import (
    Constraints,
    OpenArgument,
    Senses,
    VerbFrame,
    attested_persons,
    find_verbs,
    verb_lemmas,
)
from valyrian_jax.language.generator.weighted_choice import NO_CHOICE
from valyrian_jax.language.grammar import Grammar
from valyrian_jax.language.template import Role, Template
from valyrian_jax.language.words.categories import NO_PERSON, PERSONS, TENSES, concord_number
from valyrian_jax.language.words.morphology import conjugate


def tense_weights(
    state: SentenceState, discourse: Discourse, tenses: tuple[str, ...] = ()
) -> dict[str, float]:
    """Return the weights of the tenses that have verbs, from `tenses` or those of the template."""
    same_tense = state.grammar.weights["chances"]["same_tense"] if discourse.tense else 0.0
    if state.template.is_reply and not state.template.tenses:
        same_tense = 1.0
    table = state.grammar.weights["tenses"]
    tenses = tenses or state.template.tenses or TENSES
    if state.participants or state.used:
        possible = _possible_tenses(state, tenses)
    else:
        possible = _initial_tenses(state.grammar, state.template, tenses)
    total = sum(table.values())
    weights = {
        tense: (1 - same_tense) * table[tense] / total + same_tense * (tense == discourse.tense)
        for tense in possible
    }
    return {tense: weight for tense, weight in weights.items() if weight}


@cache
def _initial_tenses(
    grammar: Grammar, template: Template, tenses: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the tenses that have verbs before anything else is chosen."""
    return _possible_tenses(SentenceState(grammar, template, NO_CHOICE), tenses)


def _possible_tenses(state: SentenceState, tenses: tuple[str, ...]) -> tuple[str, ...]:
    possible = []
    for tense in tenses:
        state.tense = tense
        if has_verbs(state):
            possible.append(tense)
    return tuple(possible)


def has_verbs(state: SentenceState) -> bool:
    """Test whether there is a verb for every verb letter of the template."""
    return all(find_verb_frames(state, letter) for letter in state.template.verbs)


def find_verb_frames(state: SentenceState, letter: str) -> Sequence[VerbFrame]:
    """Find the verbs for a letter that fit its participants and agree in an attested form."""
    kinds, *letters = state.template.roles[letter].arguments
    target, mood = agreement_target(state, letter)
    persons = frozenset(PERSONS)
    if target in state.participants:
        person = state.participants[target].verb_person
        # A noun, in the third person, may name the person who is addressed.
        persons = frozenset({"2" + person[1] if mood == "imperative" else person})
    elif target in state.template.roles:
        persons = _possible_persons(state.template.roles[target], mood)
    elif mood != "infinitive":
        persons = frozenset({target})
    arguments = tuple(_verb_argument(state, argument) for argument in letters)
    names = tuple(kind.removeprefix("=") for kind in kinds.split("|"))
    frames = find_verbs(names, arguments, state.tense, mood, persons)
    if state.used.isdisjoint(verb_lemmas()):
        return frames
    return [frame for frame in frames if frame.verb.lemma not in state.used]


def agreement_target(state: SentenceState, letter: str) -> tuple[str, str]:
    """Return what a verb agrees with (a participant, or a person such as 3s), and its mood."""
    token = state.template.token_by_name[letter]
    if token.features == ("infinitive",):
        return "", "infinitive"
    return token.features[0], token.features[1] if len(token.features) > 1 else "indicative"


def _verb_argument(state: SentenceState, letter: str) -> Senses | OpenArgument:
    if letter in state.participants:
        return state.participants[letter].referent.senses
    role = state.template.roles[letter]
    constraints = (senses_of(role), *verb_constraints(state, letter))
    return OpenArgument(pos_of(role), constraints, state.case(letter))


def _possible_persons(role: Role, mood: str) -> frozenset[str]:
    """Return the persons that a participant may turn out to have."""
    if mood == "imperative":
        return frozenset(("2s", "2p"))
    if "pronoun" in role.arguments:
        return frozenset(PERSONS)
    return frozenset("3" + concord_number(number)[0] for number in numbers_of(role))


def is_subject(state: SentenceState, letter: str) -> bool:
    """Test whether a verb agrees with a participant, so that it can be left out."""
    return any(agreement_target(state, verb)[0] == letter for verb in state.template.verbs)


@cache
def has_finite_verb(template: Template) -> bool:
    """Test whether a verb of a template shows the tense."""
    verbs = template.verbs
    return any(t.name in verbs and t.features != ("infinitive",) for t in template.tokens)


def verb_constraints(state: SentenceState, letter: str) -> Constraints:
    """Return the senses that the chosen verbs require of a participant."""
    constraints: list[Senses] = []
    for verb, frame in state.verbs.items():
        letters = state.template.roles[verb].arguments[1:]
        arguments = zip(letters, frame.arguments, strict=False)
        constraints += (senses for argument, senses in arguments if argument == letter)
    return tuple(constraints)


def allowed_persons(state: SentenceState, letter: str) -> frozenset[str]:
    """Return the persons for which every verb that agrees with a participant has a form."""
    persons = frozenset(PERSONS)
    for verb, frame in state.verbs.items():
        target, mood = agreement_target(state, verb)
        if target == letter:
            persons &= attested_persons(frame.verb, state.tense, mood)
    return persons


def possible_forms(state: SentenceState, letter: str) -> Iterator[str]:
    """Yield the forms that a verb can have, whatever its subject is."""
    forms = conjugate(state.verbs[letter].verb)
    _, mood = agreement_target(state, letter)
    if mood == "infinitive":
        yield forms["present", mood, NO_PERSON].text
    else:
        finite_forms = (forms.get((state.tense, mood, person)) for person in PERSONS)
        yield from (form.text for form in finite_forms if form)


def verb_form(state: SentenceState, letter: str) -> str:
    """Return the form of a verb that agrees with its subject."""
    forms = conjugate(state.verbs[letter].verb)
    target, mood = agreement_target(state, letter)
    if mood == "infinitive":
        return forms["present", mood, NO_PERSON].text
    person = state.participants[target].verb_person if target in state.participants else target
    if mood == "imperative":
        person = "2" + person[1]  # A command addresses the vocative noun.
    return forms[state.tense, mood, person].text
