"""The rules that prove a wrong case.

A subject or an object can be left out, and a noun can be added in many cases. So a case is wrong
only where something demands another one: an adposition, a word that agrees with the noun, a verb
that takes no object, or a second noun in the same case.
"""

from collections.abc import Sequence

from valyrian_jax.language.checker.parse_tree import Leaf
from valyrian_jax.language.checker.place import (
    Place,
    Slot,
    agree_with,
    find_index,
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
from valyrian_jax.language.words.analysis import analyze
from valyrian_jax.language.words.categories import concord_number

DEMANDED_CASES = ("nom", "acc", "gen", "dat", "loc", "voc")  # of nouns
# The senses of nouns that can be in these cases without an adposition.
_BARE_SENSES = {
    "ins": frozenset(
        (
            "weapon",
            "tool",
            "thing",
            "part",
            "body",
            "organ",
            "clothing",
            "food",
            "drink",
            "fire",
            "text",
            "speech",
            "abstract",
            "material",
            "light",
            "weather",
            "kitchen",
            "spice",
            "vessel",
            "animal",
        )
    ),
    "com": frozenset(("person", "animal", "god")),
    "loc": frozenset(
        ("place", "building", "outdoors", "water", "time", "town", "realm", "city", "nature")
    ),
}
OBJECT_KINDS = ("transitive", "have", "tool", "benefit", "give", "speak")
_DATIVE_KINDS = ("give", "likes", "speak", "wish", "copula")
_UNUSUAL = 0.1  # object before subject, and a second case of an adposition


def find_case_slot(place: Place) -> Slot | None:
    """Return what demands another case of a noun than the written one; None if nothing does."""
    if adposition := _find_adposition(place):
        if place.reading.case in _list_frame(adposition):
            return None
        text = text_of(adposition)
        is_preposition = adposition.word_index < place.leaf.word_index
        demand = f"after `{text}` the noun" if is_preposition else f"the word before `{text}`"
        usual = next(word for word in _list_frame(adposition) if word in DEMANDED_CASES)
        return Slot(demand, adposition, 0 if place.form.case == usual else _UNUSUAL)
    if place.form.case == "voc" and not is_animate(place.reading):
        return None
    for modifier in find_modifiers(place.leaf, place.leaves):
        cases = {reading.case for reading in place.sentence.readings[modifier.word_index]}
        if place.reading.case not in cases:
            return agree_with(modifier)
    if place.form.case == "voc":
        return _find_address_slot(place)
    verb = place.verb
    return _find_argument_slot(place, verb) if verb and _is_excluded(place, verb) else None


def _find_argument_slot(place: Place, verb: Leaf) -> Slot | None:
    """Return the place of a noun beside a verb or another noun."""
    form, of_verb, after = place.form, f"of `{text_of(verb)}`", place.after
    match form.case:
        case "nom":
            has_person = verb.reading is not None and verb.reading.person == form.person
            is_subject = has_person and find_subject(verb, place.leaves) is place.leaf
            if not is_subject and has_kind(verb, "copula"):
                return Slot(f"the predicate {of_verb}", verb)
            cost = _UNUSUAL if _has_noun_before(place, "acc") else 0
            return Slot(f"the subject {of_verb}", verb, cost) if has_person else None
        case "acc" if has_kind(verb, *OBJECT_KINDS):
            cost = 0 if _has_noun_before(place, "nom") else _UNUSUAL
            return Slot(f"the object {of_verb}", verb, cost)
        case "dat" if has_kind(verb, "give", "likes"):
            return Slot(f"the receiver {of_verb}", verb)
        case "loc" if has_kind(verb, "located"):
            return Slot(f"the place {of_verb}", verb)
        case "gen" if after and is_noun(after):
            return Slot(f"the word before `{text_of(after)}`", after, 1)
    return None


def _find_address_slot(place: Place) -> Slot | None:
    """Return the place of a noun that a comma or an end of the sentence sets off on both sides."""
    words, (start, end) = place.sentence.words, _find_phrase(place)
    is_first, is_last = start == 0, end == len(words) - 1
    is_set_off = (is_first or words[start - 1] == ",") and (is_last or words[end] == ",")
    # In the middle of a sentence, a nominative may be an apposition to what precedes it; and no
    # source has the vocative of "my" and the like.
    is_possible = is_first != is_last and not find_modifiers(place.leaf, place.leaves)
    is_possible = is_possible or place.reading.case != "nom"
    return Slot("the one spoken to") if is_set_off and is_possible else None


def _find_phrase(place: Place) -> tuple[int, int]:
    """Return the start and the end (exclusive) of the phrase of a noun, as word indices."""
    leaf = place.leaf
    indices = [o.word_index for o in place.leaves if o.template is leaf.template]
    start = end = leaf.word_index
    while start - 1 in indices:
        start -= 1
    while end + 1 in indices:
        end += 1
    return start, end + 1


def _has_noun_before(place: Place, case: str) -> bool:
    return any(is_noun(o, case) for o in place.clause if o.word_index < place.leaf.word_index)


def _is_excluded(place: Place, verb: Leaf) -> bool:
    """Return whether the written case of a noun is impossible in every construction."""
    reading = place.reading
    others = [
        o for o in place.clause if o is not place.leaf and (o.token.name == "N" or not is_noun(o))
    ]
    match reading.case:
        case "nom" if has_kind(verb, "copula"):
            return len(find_nominatives(others)) > 1
        case "nom":
            person, number = reading.person, concord_number(reading.number)
            verbs = place.sentence.readings[verb.word_index]
            agrees = any(
                (v.person, v.number) == (person, number) for v in verbs if not v.coordinated
            )
            is_command = verb.reading is not None and verb.reading.mood == "imperative"
            is_possible = agrees or not (is_animate(reading) or is_command)
            return bool(find_nominatives(others)) or not is_possible
        case "acc" if "time" in reading.lexeme.senses:
            return False
        case "acc":
            is_passive = verb.reading is not None and verb.reading.mood == "passive"
            can_have_object = has_kind(verb, *OBJECT_KINDS) or not find_kinds(verb)
            has_object = any(is_noun(other, "acc") for other in others)
            return has_object or is_passive or not can_have_object
        case "dat" | "loc" | "ins" | "com" if _is_subject_pronoun(place, verb):
            return True
        case "dat" | "ins" | "com" if _lacks_predicate(place, verb):
            return True
        case "dat":
            return _is_dative_excluded(place, verb, others)
        case "loc" | "ins" if is_pronoun(place.leaf):
            return True
        case "ins" if place.form.case == "acc" and find_kinds(verb) <= {*OBJECT_KINDS}:
            return not any(_can_be_object(place, other) for other in place.clause)
        case "loc" | "ins" | "com":
            senses = reading.lexeme.senses
            return bool(senses) and _BARE_SENSES[reading.case].isdisjoint(senses)
        case "gen" if place.after is verb and has_kind(verb, "copula"):
            return False  # "It is John's": no source shows how that is said.
        case "gen" | "voc":
            return True
    return False


def _is_dative_excluded(place: Place, verb: Leaf, others: Sequence[Leaf]) -> bool:
    """Return whether a verb has no room for another dative."""
    kinds = find_kinds(verb)
    if kinds == {"transitive"} and find_nominatives(others):
        # Beside an object, a pronoun may be the one for whom something is done.
        has_object = any(is_noun(other, "acc") for other in others)
        return not (has_object and is_pronoun(place.leaf))
    if find_modifiers(place.leaf, place.leaves):
        return False  # Nobody puts two words into the same wrong case, so the dative is intended.
    if any(is_noun(other, "dat") for other in others):
        return True
    is_goal = "motion" in kinds and "place" in place.reading.lexeme.senses
    return bool(kinds) and kinds.isdisjoint(_DATIVE_KINDS) and not is_goal


def _lacks_predicate(place: Place, verb: Leaf) -> bool:
    """Return whether a copula has a subject, but its predicate is a bare noun in another case."""
    has_person = verb.reading is not None and verb.reading.person in ("1", "2")
    nominatives = find_nominatives(place.clause)
    has_subject = has_person or len(nominatives) > 1  # with the noun itself
    is_alone = not find_modifiers(place.leaf, place.leaves)
    is_predicate = place.form.case == "nom" and nominatives[-1:] == [place.leaf]
    if "place" in place.reading.lexeme.senses:  # `istan` is "I have gone", too.
        return False
    return has_kind(verb, "copula") and has_subject and is_alone and is_predicate


def _can_be_object(place: Place, noun: Leaf) -> bool:
    """Return whether a noun can be accusative as it is written."""
    readings = place.sentence.readings[noun.word_index]
    return noun is not place.leaf and is_noun(noun) and any(r.case == "acc" for r in readings)


def _is_subject_pronoun(place: Place, verb: Leaf) -> bool:
    """Return whether a pronoun has the person and number of a verb, so it must be its subject."""
    form, of_verb = place.form, verb.reading
    is_same = of_verb and (of_verb.person, of_verb.number) == (form.person, form.number)
    return form.case == "nom" and form.person in ("1", "2") and bool(is_same)


def _find_adposition(place: Place) -> Leaf | None:
    """Return the preposition or postposition beside the phrase of a noun."""
    leaf, leaves = place.leaf, place.leaves
    index = find_index(leaf, leaves)
    for other in leaves[index + 1 :]:
        if "after" in _list_frame(other):
            return other
        if not (other.template is leaf.template and other.token.features[:1] == ("N",)):
            break
    for other in reversed(leaves[:index]):
        if "before" in _list_frame(other):
            return other
        is_adjective = other.reading is not None and other.reading.word_class == "adjective"
        if not (is_adjective or is_noun(other, "gen")):
            break
    return None


def _list_frame(leaf: Leaf) -> list[str]:
    """Return the side and the cases of an adposition, which can be a literal of the grammar.

    "How many" has a case like an adposition.
    """
    readings = analyze(text_of(leaf)) if leaf.reading is None else (leaf.reading,)
    frames = [r.lexeme.frame.split() for r in readings]
    return [word for frame in frames if frame[:1] in (["before"], ["after"]) for word in frame]
