"""The rules that prove a mistake: what demands the form that makes a sentence right."""

from valyrian_jax.language.checker.case_rules import OBJECT_KINDS, find_case_slot
from valyrian_jax.language.checker.parse_tree import Leaf, list_shared_cases
from valyrian_jax.language.checker.place import (
    Place,
    Slot,
    agree_with,
    agree_with_subject,
    find_clause,
    find_kinds,
    find_modifiers,
    find_nominatives,
    find_subject,
    has_kind,
    is_animate,
    is_noun,
    is_pronoun,
    text_of,
)
from valyrian_jax.language.words.categories import concord_number

_UNLIKELY = 0.5


def find_slot(place: Place) -> Slot | None:
    """Return what demands a form in place of the written one; None if nothing does."""
    form, reading, features = place.form, place.reading, place.features
    if form.coordinated != reading.coordinated:
        return None if features else _find_coordination_slot(place)
    match form.word_class:
        case "verb" if "mood" in features:
            return _find_mood_slot(place)
        case "verb":
            return _find_person_slot(place)
        case "adjective":
            return _find_modifier_slot(place)
        case "noun" if "case" in features:
            return find_case_slot(place)
        case "noun" if concord_number(form.number) != concord_number(reading.number):
            return _find_number_slot(place)
    return None


def _find_coordination_slot(place: Place) -> Slot | None:
    """Return why the last vowel must be long in the second of two nouns, or short elsewhere."""
    form, leaf, before = place.form, place.leaf, place.before
    if before is None:
        return None
    if not form.coordinated:
        readings = place.sentence.readings[leaf.word_index]
        text = 'its long last vowel means "and", but no word before it goes with it'
        return Slot(text, before) if all(r.coordinated for r in readings) else None
    is_pair = leaf.token.name == before.token.name == "N" and is_noun(before, form.case)
    if not is_pair or is_pronoun(before):
        return None
    return Slot(f'after `{text_of(before)}` its last vowel must be long, for "and"', before, 1)


def _find_mood_slot(place: Place) -> Slot | None:
    """Return what demands the mood of a verb."""
    after = place.after
    next_word = text_of(after) if after else ""
    match place.reading.mood, place.form.mood:
        case "imperative", "infinitive" if next_word == "daor":
            return Slot("before `daor` a verb that forbids", after)
        case _, "infinitive" if after and has_kind(after, "wish"):
            return Slot(f"before `{next_word}` the verb", after)
        case "indicative", "subjunctive" if next_word == "daor":
            return Slot("before `daor` the verb", after)
        case "subjunctive", "indicative" if next_word != "daor":
            return Slot("the verb here")
        case "infinitive", "indicative":
            subject = find_subject(place.leaf, place.leaves)
            is_wished = any(has_kind(other, "wish") for other in place.leaves)
            if subject is None or is_wished:  # A second infinitive may belong to the same verb.
                return None
            return Slot(f"the verb of `{text_of(subject)}`", subject)
        case "imperative", "indicative" if place.sentence.words[-1] == "?":
            return Slot("the verb of a question")
        case "subjunctive", "imperative" if place.sentence.words[-1] == "!":
            return Slot("the verb of a command") if place.reading.person == "2" else None
    return None


def _find_person_slot(place: Place) -> Slot | None:
    """Return what demands the person and number of a verb."""
    leaf, leaves = place.leaf, place.leaves
    if place.form.mood == "imperative":
        addressee = next((other for other in leaves if _is_addressee(other)), None)
        return Slot(f"a command to `{text_of(addressee)}`", addressee) if addressee else None
    subject = find_subject(leaf, leaves)
    if "tense" in place.features or subject is None:
        return None
    if "person" in place.features and not is_pronoun(subject):
        # With the copula, the noun can be the predicate of an omitted subject: "a leader you are".
        is_copula = has_kind(leaf, "copula")
        is_alone = len(find_nominatives(find_clause(leaf, leaves))) == 1
        is_person = subject.reading is not None and is_animate(subject.reading)
        has_object = not find_kinds(leaf) or has_kind(leaf, *OBJECT_KINDS)
        is_time = subject.reading is not None and "time" in subject.reading.lexeme.senses
        if is_alone and (is_copula or is_time or (has_object and not is_person)):
            return None
    return agree_with_subject(subject)


def _is_addressee(leaf: Leaf) -> bool:
    """Return whether a noun is in the vocative, or a name that has one form."""
    reading = leaf.reading
    if reading is None or reading.word_class != "noun":
        return False
    return reading.case == "voc" or "voc" in list_shared_cases(reading.lexeme)


def _find_modifier_slot(place: Place) -> Slot | None:
    """Return what demands the form of an adjective, determiner or numeral."""
    leaf, leaves, verb = place.leaf, place.leaves, place.verb
    if not leaf.token.features:  # It is used as a noun.
        return None
    target = leaf.token.features[0]
    nouns = [o for o in leaves if o.token.name == target and o.template is leaf.template]
    if nouns:
        return agree_with(min(nouns, key=lambda noun: _measure_distance(leaf, noun)))
    subject = find_subject(verb, leaves) if verb else None
    return agree_with_subject(subject) if subject else None


def _measure_distance(modifier: Leaf, noun: Leaf) -> tuple[bool, int]:
    """Return the sort key of a noun's distance from a modifier; the template's side comes first."""
    tokens = modifier.template.tokens
    is_before = tokens.index(modifier.token) < tokens.index(noun.token)
    distance = noun.word_index - modifier.word_index
    return (distance > 0) != is_before, abs(distance)


def _find_number_slot(place: Place) -> Slot | None:
    """Return what demands the number of a noun."""
    leaf, leaves, verb = place.leaf, place.leaves, place.verb
    if modifiers := find_modifiers(leaf, leaves):
        return agree_with(modifiers[0])
    if place.form.case != "nom" or verb is None:
        return None
    subject = find_subject(verb, leaves)
    is_predicate = subject is not None and subject is not leaf
    if subject and is_predicate:
        return agree_with_subject(subject)
    return agree_with(verb)._replace(cost=_UNLIKELY)  # More often it is the verb that is wrong.
