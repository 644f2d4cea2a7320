"""The rules that prove a mistake: what demands the form that makes a sentence right."""

from collections.abc import Sequence
from typing import NamedTuple

from valyrian_jax.language.checker.parse_tree import Leaf, Parse, Sentence
from valyrian_jax.language.words.analysis import Reading, analyze
from valyrian_jax.language.words.morphology import concord_number

# How unlikely it is that somebody confuses the values of a feature.
_COSTS = {"case": 2, "number": 2, "gender": 2, "person": 2, "mood": 2, "tense": 9, "position": 1}
_INFERRED = 0.5  # a form that analogy gives
_COORDINATION = 3
_UNUSUAL_ORDER = 0.1  # object before subject
MAX_COST = 6  # of a word; nobody confuses more
# No rule demands these values; a word that has one of them can have another instead.
_OPTIONAL = frozenset(("paucal", "collective", "passive", "participle"))
DEMANDED_CASES = ("nom", "acc", "gen", "dat", "loc")  # of nouns
# What a noun without an adposition can be in these cases.
_BARE_SENSES = {
    "ins": frozenset(
        "weapon tool thing part body organ clothing food drink fire text speech abstract material "
        "light weather kitchen spice vessel animal".split()
    ),
    "com": frozenset(("person", "animal", "god")),
    "loc": frozenset(("place", "building", "outdoors", "water", "time", "town", "realm", "city")),
}
_OBJECT_KINDS = ("transitive", "have", "tool", "benefit", "give", "speak")


class Change(NamedTuple):
    """A word in another form.

    Attributes:
        word: The word as written.
        reading: The reading of it that is closest to the form.
        leaf: The form in its place.
        features: Names of the features that differ.
        slot: What must have the form, as the subject of a sentence: "the object of `urnes`".
    """

    word: str
    reading: Reading
    leaf: Leaf
    features: tuple[str, ...]
    slot: str

    @property
    def form(self) -> Reading:
        """The form that is right."""
        assert self.leaf.reading is not None
        return self.leaf.reading


class Repair(NamedTuple):
    """The changes that make a sentence right."""

    cost: float
    changes: tuple[Change, ...]
    leaves: tuple[Leaf, ...]

    @property
    def forms(self) -> tuple[tuple[int, str], ...]:
        """The forms that are right, and their places."""
        return tuple((change.leaf.word_index, change.form.text) for change in self.changes)


class Slot(NamedTuple):
    """What demands a form.

    Attributes:
        text: The place of the word, as in "the object of `urnes`".
        governor: The word that demands the form, if it is one.
        cost: How weak the demand is.
    """

    text: str
    governor: Leaf | None = None
    cost: float = 0


def measure_change(form: Reading, readings: Sequence[Reading]) -> tuple[float, Reading]:
    """Return the cost of a form, and the reading of the same word that is closest to it."""
    return min(
        ((_cost(form, reading), reading) for reading in readings if reading.lexeme is form.lexeme),
        key=lambda pair: pair[0],
    )


def _cost(form: Reading, reading: Reading) -> float:
    names = form.differing_features(reading)
    if form.mood == "infinitive" or reading.mood == "infinitive":
        names = ["mood"]
    cost = sum(_COSTS[name] for name in names)
    if any(getattr(form, name) in _OPTIONAL for name in names):
        cost += MAX_COST
    is_joined = form.coordinated != reading.coordinated
    return cost + _COORDINATION * is_joined + _INFERRED * (not form.attested)


def name_rule(sentence: Sentence, tree: Parse, indices: Sequence[int]) -> Repair | None:
    """Return the repair that a parse with these words changed is, if rules demand the forms."""
    changes, slots, cost = [], [], _template_cost(tree)
    for leaf in (leaf for leaf in tree.leaves if leaf.word_index in indices):
        if leaf.reading is None:
            return None
        word_cost, reading = measure_change(leaf.reading, sentence.readings[leaf.word_index])
        features = tuple(leaf.reading.differing_features(reading))
        slot = find_slot(sentence, leaf, tree.leaves, reading, features)
        if slot is None:
            return None
        word = sentence.words[leaf.word_index]
        changes.append(Change(word, reading, leaf, features, slot.text))
        slots.append(slot)
        cost += word_cost + slot.cost
    if len(changes) != len(indices) or (len(changes) > 1 and not _are_provable(changes, slots)):
        return None
    return Repair(cost, tuple(changes), tree.leaves)


def _are_provable(changes: Sequence[Change], slots: Sequence[Slot]) -> bool:
    """Return whether two changes prove a mistake.

    They do if each alone has an unchanged word that demands it, or if one is a noun in another
    case and the other a word that agrees with it.
    """
    governors = [slot.governor for slot in slots]
    leaves = [change.leaf for change in changes]
    if not any(governor in leaves for governor in governors):
        is_firm = all(slot.governor and slot.cost < 1 for slot in slots)
        return is_firm and governors[0] is not governors[1]
    classes = {change.form.word_class for change in changes}
    return classes == {"noun", "adjective"} and all(c.features == ("case",) for c in changes)


def _template_cost(tree: Parse) -> float:
    template = tree.leaves[-1].template
    return 0 if template.weight else 2 if template.name == "fragment" else 0.5


def find_slot(
    sentence: Sentence,
    leaf: Leaf,
    leaves: Sequence[Leaf],
    reading: Reading,
    features: Sequence[str],
) -> Slot | None:
    """Return what demands the form of a leaf in place of a reading; None if nothing does."""
    form = leaf.reading
    assert form is not None
    if form.coordinated != reading.coordinated:
        readings = sentence.readings[leaf.word_index]
        return None if features else _find_coordination_slot(leaf, leaves, readings)
    match form.word_class:
        case "verb":
            return _find_verb_slot(sentence, leaf, leaves, reading, features)
        case "adjective":
            return _find_modifier_slot(leaf, leaves, features)
        case "noun" if "case" in features:
            return _find_case_slot(sentence, leaf, leaves, reading)
        case "noun":
            agrees = concord_number(form.number) == concord_number(reading.number)
            return None if agrees else _find_number_slot(leaf, leaves)
    return None


def _find_coordination_slot(
    leaf: Leaf, leaves: Sequence[Leaf], readings: Sequence[Reading]
) -> Slot | None:
    """Return why the last vowel must be long in the second of two nouns, or short elsewhere."""
    form, position = leaf.reading, _position(leaf, leaves)
    before = leaves[position - 1] if position else None
    if form is None or before is None:
        return None
    if not form.coordinated:
        is_always = all(reading.coordinated for reading in readings)
        text = 'its long last vowel means "and", but no word before it goes with it'
        return Slot(text, before) if is_always else None
    is_pair = leaf.token.name == before.token.name == "N" and _is_noun(before, form.case)
    if not is_pair or _is_pronoun(before):
        return None
    return Slot(f'after `{_text(before)}` its last vowel must be long, for "and"', before, 1)


# ---- Verbs


def _find_verb_slot(
    sentence: Sentence,
    leaf: Leaf,
    leaves: Sequence[Leaf],
    reading: Reading,
    features: Sequence[str],
) -> Slot | None:
    form = leaf.reading
    assert form is not None
    following = leaves[_position(leaf, leaves) + 1 :][:1]
    if "mood" in features:
        return _find_mood_slot(form, reading, following, sentence.words[-1] == "!")
    if form.mood == "imperative":
        addressee = next((o for o in leaves if _is_noun(o, "voc")), None)
        return Slot(f"a command to `{_text(addressee)}`", addressee) if addressee else None
    subject = _find_subject(leaf, leaves)
    if "tense" in features or subject is None:
        return None
    if "person" in features and _has_kind(leaf, "copula") and not _is_pronoun(subject):
        # The noun can be what the omitted subject is: "a leader you are".
        if len(_find_nominatives(_find_clause(leaf, leaves))) < 2:
            return None
    return _agree_with_subject(subject)


def _find_mood_slot(
    form: Reading, reading: Reading, following: Sequence[Leaf], is_exclamation: bool
) -> Slot | None:
    after = following[0] if following else None
    next_word = _text(after) if after else ""
    match reading.mood, form.mood:
        case "imperative", "infinitive" if next_word == "daor":
            return Slot("before `daor` a verb that forbids", after)
        case _, "infinitive" if after and _has_kind(after, "wish"):
            return Slot(f"before `{next_word}` the verb", after)
        case "indicative", "subjunctive" if next_word == "daor":
            return Slot("before `daor` the verb", after)
        case "subjunctive", "indicative" if next_word != "daor":
            return Slot("the verb here")
        case "subjunctive", "imperative" if reading.person == "2" and is_exclamation:
            return Slot("the verb of a command")
    return None


def _find_subject(leaf: Leaf, leaves: Sequence[Leaf]) -> Leaf | None:
    """Return the first nominative between the verb before a verb and itself."""
    subject = None
    for other in reversed(leaves[: _position(leaf, leaves)]):
        if _is_finite(other):
            break
        if _is_noun(other, "nom") and other.token.name == "N":
            subject = other
    return subject


# ---- Adjectives, determiners and numerals


def _find_modifier_slot(
    leaf: Leaf, leaves: Sequence[Leaf], features: Sequence[str]
) -> Slot | None:
    target = leaf.token.features[0]
    nouns = [o for o in leaves if o.token.name == target and o.template is leaf.template]
    nouns.sort(key=lambda o: abs(o.word_index - leaf.word_index))
    if nouns and nouns[0].reading:
        return _agree_with(nouns[0])
    verb = _next_verb(leaf, leaves)
    subject = _find_subject(verb, leaves) if verb else None
    return _agree_with_subject(subject) if subject else None


def _agree_with_subject(subject: Leaf) -> Slot:
    return Slot(f"to agree with its subject `{_text(subject)}` it", subject)


# ---- Nouns


def _find_case_slot(
    sentence: Sentence, leaf: Leaf, leaves: Sequence[Leaf], reading: Reading
) -> Slot | None:
    """Return what demands the case of a noun.

    A subject or an object can be left out, and a noun can be added in many a case. So a case is
    wrong only where something demands another: an adposition, a verb that has no object, or a
    second noun in the same case.
    """
    adposition = _find_adposition(leaf, leaves)
    if adposition and reading.case in _governed_cases(adposition):
        return None
    if adposition:
        text = _text(adposition)
        is_preposition = adposition.word_index < leaf.word_index
        place = f"after `{text}` the noun" if is_preposition else f"the word before `{text}`"
        return Slot(place, adposition)
    for modifier in _find_modifiers(leaf, leaves):
        cases = {other.case for other in sentence.readings[modifier.word_index]}
        if reading.case not in cases:
            return _agree_with(modifier)
    verb = _next_verb(leaf, leaves)
    if verb is None or not _is_excluded(sentence, leaf, leaves, reading, verb):
        return None
    return _find_argument_slot(leaf, leaves, verb)


def _find_argument_slot(leaf: Leaf, leaves: Sequence[Leaf], verb: Leaf) -> Slot | None:
    """Return the place of a noun beside a verb or another noun."""
    form, finite = leaf.reading, verb.reading
    assert form is not None
    assert finite is not None
    of_verb = f"of `{_text(verb)}`"
    match form.case:
        case "nom":
            is_subject = _find_subject(verb, leaves) is leaf and form.person == finite.person
            if not is_subject and _has_kind(verb, "copula"):
                return Slot(f"the predicate {of_verb}", verb)
            cost = _UNUSUAL_ORDER if _has_noun_before(leaf, verb, leaves, "acc") else 0
            slot = Slot(f"the subject {of_verb}", verb, cost)
            return slot if form.person == finite.person else None
        case "acc" if _has_kind(verb, *_OBJECT_KINDS):
            cost = 0 if _has_noun_before(leaf, verb, leaves, "nom") else _UNUSUAL_ORDER
            return Slot(f"the object {of_verb}", verb, cost)
        case "dat" if _has_kind(verb, "give", "likes"):
            return Slot(f"the receiver {of_verb}", verb)
        case "loc" if _has_kind(verb, "located"):
            return Slot(f"the place {of_verb}", verb)
        case "gen":
            following = leaves[_position(leaf, leaves) + 1 :][:1]
            if following and _is_noun(following[0]):
                return Slot(f"the word before `{_text(following[0])}`", following[0], 1)
    return None


def _has_noun_before(leaf: Leaf, verb: Leaf, leaves: Sequence[Leaf], case: str) -> bool:
    clause = _find_clause(verb, leaves)
    return any(_is_noun(o, case) for o in clause if o.word_index < leaf.word_index)


def _is_excluded(
    sentence: Sentence, leaf: Leaf, leaves: Sequence[Leaf], reading: Reading, verb: Leaf
) -> bool:
    """Return whether a noun cannot have the case of a reading, whatever else the sentence says."""
    finite, clause = verb.reading, _find_clause(verb, leaves)
    assert finite is not None
    others = [o for o in clause if o is not leaf and (o.token.name == "N" or not _is_noun(o))]
    nominatives = _find_nominatives(others)
    match reading.case:
        case "nom" if _has_kind(verb, "copula"):
            return len(nominatives) > 1
        case "nom":
            number = concord_number(reading.number)
            agrees = any(
                (other.person, other.number) == (reading.person, number)
                for other in sentence.readings[verb.word_index]
            )
            return bool(nominatives) or not agrees
        case "acc" if "time" in reading.lexeme.senses:
            return False
        case "acc":
            has_object = _has_kind(verb, *_OBJECT_KINDS) or not _kinds(verb)
            has_object = has_object and finite.mood != "passive"
            return any(_is_noun(o, "acc") for o in others) or not has_object
        case "dat":
            return bool(nominatives) and _kinds(verb) == {"transitive"}
        case "loc" | "ins" | "com":
            senses = reading.lexeme.senses
            return bool(senses) and _BARE_SENSES[reading.case].isdisjoint(senses)
        case "gen" | "voc":
            return True
    return False


def _find_nominatives(clause: Sequence[Leaf]) -> Sequence[Leaf]:
    """Return the nouns, and the adjectives that are predicates."""
    return [o for o in clause if _is_noun(o, "nom") or o.token.features == ("x",)]


def _find_number_slot(leaf: Leaf, leaves: Sequence[Leaf]) -> Slot | None:
    form, verb = leaf.reading, _next_verb(leaf, leaves)
    assert form is not None
    if modifiers := _find_modifiers(leaf, leaves):
        return _agree_with(modifiers[0])
    if form.case == "nom" and verb:
        subject = _find_subject(verb, leaves)
        if subject and subject is not leaf:
            return _agree_with_subject(subject)
        return _agree_with(verb)
    return None


def _find_modifiers(leaf: Leaf, leaves: Sequence[Leaf]) -> Sequence[Leaf]:
    """Return the words that agree with a noun in its phrase, the nearest first."""
    words = [o for o in leaves if o.template is leaf.template and o.token.features[:1] == ("N",)]
    return sorted(words, key=lambda other: abs(other.word_index - leaf.word_index))


def _agree_with(word: Leaf) -> Slot:
    return Slot(f"to agree with `{_text(word)}` it", word)


def _find_adposition(leaf: Leaf, leaves: Sequence[Leaf]) -> Leaf | None:
    """Return the preposition or postposition beside the phrase of a noun."""
    position = _position(leaf, leaves)
    for other in leaves[position + 1 :]:
        if _is_adposition(other, "after"):
            return other
        if not (other.template is leaf.template and other.token.features[:1] == ("N",)):
            break
    for other in reversed(leaves[:position]):
        if _is_adposition(other, "before"):
            return other
        is_adjective = other.reading is not None and other.reading.word_class == "adjective"
        if not (is_adjective or _is_noun(other, "gen")):
            break
    return None


def _is_adposition(leaf: Leaf, side: str) -> bool:
    return side in _governed_cases(leaf)


def _governed_cases(leaf: Leaf) -> list[str]:
    """Return the cases with an adposition, and its side; it may be a literal of the grammar."""
    readings = analyze(_text(leaf)) if leaf.reading is None else (leaf.reading,)
    return [word for r in readings if r.lexeme.pos == "adp" for word in r.lexeme.frame.split()]


# ---- Leaves


def _position(leaf: Leaf, leaves: Sequence[Leaf]) -> int:
    return next(i for i, other in enumerate(leaves) if other is leaf)


def _next_verb(leaf: Leaf, leaves: Sequence[Leaf]) -> Leaf | None:
    return next((o for o in leaves[_position(leaf, leaves) :] if _is_finite(o)), None)


def _find_clause(verb: Leaf, leaves: Sequence[Leaf]) -> Sequence[Leaf]:
    """Return the words from the verb before a verb up to it."""
    end = _position(verb, leaves)
    start = next((i + 1 for i in reversed(range(end)) if _is_finite(leaves[i])), 0)
    return leaves[start:end]


def _is_finite(leaf: Leaf) -> bool:
    reading = leaf.reading
    return reading is not None and reading.word_class == "verb" and reading.mood != "infinitive"


def _is_noun(leaf: Leaf, case: str = "") -> bool:
    reading = leaf.reading
    return reading is not None and reading.word_class == "noun" and case in ("", reading.case)


def _is_pronoun(leaf: Leaf) -> bool:
    return leaf.reading is not None and leaf.reading.lexeme.pos == "pron"


def _kinds(leaf: Leaf) -> set[str]:
    frame = leaf.reading.lexeme.frame if leaf.reading else ""
    return {part.split()[0] for part in frame.split(";") if part}


def _has_kind(leaf: Leaf, *kinds: str) -> bool:
    return not _kinds(leaf).isdisjoint(kinds)


def _text(leaf: Leaf) -> str:
    return leaf.reading.text if leaf.reading else leaf.token.name
