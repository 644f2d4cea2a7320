"""The rules that prove a mistake: what demands the form that makes a sentence right."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from valyrian_jax.language.checker.parse_tree import Leaf, Parse, Sentence
from valyrian_jax.language.words.analysis import Reading

# How unlikely it is that somebody confuses the values of a feature; other values cost more.
_COSTS = {"case": 2, "number": 2, "gender": 2, "person": 2, "mood": 2, "tense": 3, "position": 1}
_RARE = {
    "paucal": 2,
    "collective": 2,
    "passive": 6,
    "participle": 6,
    "past habitual": 3,
    "pluperfect": 2,
    "aorist": 1,
}
_OWN_FORM = 0.5  # a form that analogy gives


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
    def forms(self) -> tuple[str, ...]:
        """The forms that are right."""
        return tuple(change.form.text for change in self.changes)


class _Slot(NamedTuple):
    """What demands a form, and how weak the demand is."""

    text: str
    cost: float = 0


def measure_change(form: Reading, readings: Sequence[Reading]) -> tuple[float, Reading]:
    """Return the cost of a form, and the reading of the same word that is closest to it."""
    return min(
        ((_cost(form, reading), reading) for reading in readings if reading.lexeme is form.lexeme),
        key=lambda pair: pair[0],
    )


def _cost(form: Reading, reading: Reading) -> float:
    names = form.differing_features(reading)
    cost = sum(_COSTS[name] for name in names) + 3 * (form.coordinated != reading.coordinated)
    for name in names:
        cost += _RARE.get(getattr(form, name), 0) + _RARE.get(getattr(reading, name), 0)
    return cost + _OWN_FORM * (not form.attested)


def name_rule(sentence: Sentence, tree: Parse, indices: Sequence[int]) -> Repair | None:
    """Return the repair that a parse with these words changed is, if rules demand the forms."""
    changes, cost = [], _template_cost(tree)
    for leaf in (leaf for leaf in tree.leaves if leaf.word_index in indices):
        if leaf.reading is None:
            return None
        word_cost, reading = measure_change(leaf.reading, sentence.readings[leaf.word_index])
        features = tuple(leaf.reading.differing_features(reading))
        slot = find_slot(leaf, tree.leaves, reading, features)
        if slot is None:
            return None
        word = sentence.words[leaf.word_index]
        changes.append(Change(word, reading, leaf, features, slot.text))
        cost += word_cost + slot.cost
    return Repair(cost, tuple(changes), tree.leaves) if len(changes) == len(indices) else None


def _template_cost(tree: Parse) -> float:
    template = tree.leaves[-1].template
    return 0 if template.weight else 2 if template.name == "fragment" else 0.5


def find_slot(
    leaf: Leaf, leaves: Sequence[Leaf], reading: Reading, features: Sequence[str]
) -> _Slot | None:
    """Return what demands the form of a leaf in place of a reading; None if nothing does."""
    form = leaf.reading
    assert form is not None
    if form.coordinated != reading.coordinated and not features:
        return _Slot("the word after `{}`".format(_last_noun(leaf, leaves) or "and"))
    match form.word_class:
        case "verb":
            return _find_verb_slot(leaf, leaves, reading, features)
        case "adjective":
            return _find_modifier_slot(leaf, leaves)
        case "noun":
            return _find_noun_slot(leaf, leaves, reading, features)
    return None


# ---- Verbs


def _find_verb_slot(
    leaf: Leaf, leaves: Sequence[Leaf], reading: Reading, features: Sequence[str]
) -> _Slot | None:
    form = leaf.reading
    assert form is not None
    following = next((o for o in leaves if o.word_index == leaf.word_index + 1), None)
    negated = following is not None and _text(following) == "daor"
    if form.mood == "infinitive":
        if negated:
            return _Slot("before `daor` a verb that forbids")
        if following and following.reading and following.reading.word_class == "verb":
            return _Slot(f"before `{_text(following)}` the verb")
        return None
    subject = _find_subject(leaf, leaves)
    if "imperative" in (form.mood, reading.mood) and form.mood != reading.mood:
        return None
    if "mood" in features:
        if form.mood == "subjunctive":
            return _Slot("before `daor` the verb") if negated else None
        if form.mood != "indicative":
            return None
        return _Slot("the verb here", 0 if subject else 1)
    if form.mood == "imperative":
        return _Slot("a command to `{}`".format(_text(v))) if (v := _find_voc(leaves)) else None
    if "tense" in features or subject is None:
        return None
    return _Slot(f"to agree with its subject `{_text(subject)}` it")


def _find_voc(leaves: Sequence[Leaf]) -> Leaf | None:
    return next((o for o in leaves if _is_noun(o, "voc")), None)


def _find_subject(leaf: Leaf, leaves: Sequence[Leaf]) -> Leaf | None:
    """Return the first nominative between the verb before a verb and itself."""
    subject = None
    for other in reversed(leaves[: _position(leaf, leaves)]):
        if _is_finite(other):
            break
        if _is_noun(other, "nom"):
            subject = other
    return subject


# ---- Adjectives, determiners and numerals


def _find_modifier_slot(leaf: Leaf, leaves: Sequence[Leaf]) -> _Slot | None:
    target = leaf.token.features[0]
    nouns = [o for o in leaves if o.token.name == target and o.template is leaf.template]
    nouns.sort(key=lambda o: abs(o.word_index - leaf.word_index))
    if nouns and nouns[0].reading:
        return _Slot(f"to agree with `{_text(nouns[0])}` it")
    verb = _next_verb(leaf, leaves)
    subject = _find_subject(verb, leaves) if verb else None
    return _Slot(f"to agree with its subject `{_text(subject)}` it") if subject else None


# ---- Nouns


def _find_noun_slot(
    leaf: Leaf, leaves: Sequence[Leaf], reading: Reading, features: Sequence[str]
) -> _Slot | None:
    form = leaf.reading
    assert form is not None
    verb = _next_verb(leaf, leaves)
    if "case" not in features:
        return _find_number_slot(leaf, leaves, verb)
    if adposition := _find_adposition(leaf, leaves):
        is_before = adposition.word_index < leaf.word_index
        text = f"after `{_text(adposition)}` the noun" if is_before else (
            f"the word before `{_text(adposition)}`"
        )
        return _Slot(text)
    of_verb = f" of `{_text(verb)}`" if verb else ""
    kinds = {frame.split()[0] for frame in _frame(verb).split(";") if frame}
    match form.case:
        case "nom":
            return _Slot(f"the subject{of_verb}") if verb else None
        case "acc":
            return _Slot(f"the object{of_verb}") if kinds - {"copula", "located"} else None
        case "gen":
            following = leaves[_position(leaf, leaves) + 1 :][:1]
            if following and _is_noun(following[0]):
                return _Slot(f"the word before `{_text(following[0])}`", 1)
            return None
        case "dat":
            return _Slot(f"the receiver{of_verb}") if kinds & {"give", "likes"} else None
        case "loc":
            return _Slot(f"the place{of_verb}") if kinds & {"located"} else None
        case "voc":
            return _Slot("the one who is spoken to") if reading.case == "nom" else None
    return _Slot("the noun here", 2) if verb else None


def _find_number_slot(leaf: Leaf, leaves: Sequence[Leaf], verb: Leaf | None) -> _Slot | None:
    form = leaf.reading
    assert form is not None
    modifiers = [o for o in leaves if o.template is leaf.template and o.token.features[:1] == ("N",)]
    if modifiers:
        modifiers.sort(key=lambda o: abs(o.word_index - leaf.word_index))
        return _Slot(f"to agree with `{_text(modifiers[0])}` it")
    if form.case == "nom" and verb:
        subject = _find_subject(verb, leaves)
        if subject and subject is not leaf:
            return _Slot(f"to agree with its subject `{_text(subject)}` it")
        return _Slot(f"to agree with `{_text(verb)}` it")
    return None


def _find_adposition(leaf: Leaf, leaves: Sequence[Leaf]) -> Leaf | None:
    """Return the preposition or postposition beside the phrase of a noun."""
    position = _position(leaf, leaves)
    for other in leaves[position + 1 :]:
        if _is_adposition(other):
            return other if other.reading and "before" not in other.reading.lexeme.frame else None
        if not (other.template is leaf.template and other.token.features[:1] == ("N",)):
            break
    for other in reversed(leaves[:position]):
        if _is_adposition(other):
            return other
        in_phrase = other.reading is not None and (
            other.reading.word_class == "adjective" or _is_noun(other, "gen")
        )
        if not in_phrase:
            break
    return None


def _is_adposition(leaf: Leaf) -> bool:
    return leaf.reading is not None and leaf.reading.lexeme.pos == "adp" or (
        leaf.reading is None and leaf.token.name in ("hen", "va", "hae", "bē", "syt", "iemnȳ", "hēdrȳ")
    )


# ---- Leaves


def _position(leaf: Leaf, leaves: Sequence[Leaf]) -> int:
    return next(i for i, other in enumerate(leaves) if other is leaf)


def _next_verb(leaf: Leaf, leaves: Sequence[Leaf]) -> Leaf | None:
    return next((o for o in leaves[_position(leaf, leaves) :] if _is_finite(o)), None)


def _is_finite(leaf: Leaf) -> bool:
    reading = leaf.reading
    return reading is not None and reading.word_class == "verb" and reading.mood != "infinitive"


def _is_noun(leaf: Leaf, case: str = "") -> bool:
    reading = leaf.reading
    return reading is not None and reading.word_class == "noun" and case in ("", reading.case)


def _frame(leaf: Leaf | None) -> str:
    return leaf.reading.lexeme.frame if leaf and leaf.reading else ""


def _last_noun(leaf: Leaf, leaves: Sequence[Leaf]) -> str:
    before = leaves[: _position(leaf, leaves)]
    return next((_text(o) for o in reversed(before) if _is_noun(o)), "")


def _text(leaf: Leaf) -> str:
    return leaf.reading.text if leaf.reading else leaf.token.name
