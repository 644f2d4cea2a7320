"""Repairs: the forms that make a sentence right, and how likely they are to be intended."""

from collections.abc import Sequence
from typing import NamedTuple

from valyrian_jax.language.checker.parse_tree import Leaf, Parse, Sentence
from valyrian_jax.language.checker.place import Place, Slot
from valyrian_jax.language.checker.rules import find_slot
from valyrian_jax.language.words.analysis import Reading

# How unlikely it is that somebody confuses the values of a feature.
_COSTS = {"case": 2, "number": 2, "gender": 2, "person": 2, "mood": 2, "tense": 9, "position": 1}
_INFERRED = 0.5  # for a form that only analogy gives
_COORDINATION = 3
_UNINFLECTED = 1
MAX_COST = 6  # of a word; nobody confuses more
# No rule demands these values; a word that has one of them can have another instead.
_OPTIONAL = frozenset(("paucal", "collective", "passive", "participle"))


class Change(NamedTuple):
    """A word in another form, and what demands it."""

    place: Place
    slot: Slot


class Repair(NamedTuple):
    """The changes that make a sentence right.

    Attributes:
        cost: How unlikely they are.
        changes: The changes.
        leaves: The words of the right sentence.
    """

    cost: float
    changes: tuple[Change, ...]
    leaves: tuple[Leaf, ...]

    @property
    def forms(self) -> tuple[tuple[int, str], ...]:
        """The places of the words, and the right forms."""
        return tuple((c.place.leaf.word_index, c.place.form.text) for c in self.changes)


def measure_change(form: Reading, readings: Sequence[Reading]) -> tuple[float, Reading]:
    """Return the cost of a form, and the reading of the same word that is closest to it."""
    return min(
        ((_cost(form, reading), reading) for reading in readings if reading.lexeme is form.lexeme),
        key=lambda pair: pair[0],
    )


def _cost(form: Reading, reading: Reading) -> float:
    names = form.differing_features(reading)
    if reading.mood == "infinitive":  # The dictionary has it.
        return _UNINFLECTED if form.tense == reading.tense else MAX_COST + 1
    if form.mood == "infinitive":
        names = ["mood"]
    cost = sum(_COSTS[name] for name in names)
    if any(getattr(form, name) in _OPTIONAL for name in names):
        cost += MAX_COST
    is_joined = form.coordinated != reading.coordinated
    return cost + _COORDINATION * is_joined + _INFERRED * (not form.attested)


def make_repair(sentence: Sentence, tree: Parse, indices: Sequence[int]) -> Repair | None:
    """Return the repair by which the words at `indices` get the forms of a parse.

    None: no rule demands one of the forms, or two changes together prove nothing.
    """
    changes, cost = [], _template_cost(tree)
    for leaf in (leaf for leaf in tree.leaves if leaf.word_index in indices):
        if leaf.reading is None:
            return None
        word_cost, reading = measure_change(leaf.reading, sentence.readings[leaf.word_index])
        place = Place(sentence, tree.leaves, leaf, reading)
        slot = find_slot(place)
        if slot is None:
            return None
        changes.append(Change(place, slot))
        cost += word_cost + slot.cost
    if len(changes) != len(indices) or (len(changes) > 1 and not _are_provable(changes)):
        return None
    return Repair(cost, tuple(changes), tree.leaves)


def _are_provable(changes: Sequence[Change]) -> bool:
    """Return whether two changes prove a mistake.

    They do if an unchanged word demands each of them, if one is a noun in another case and the
    other a word that agrees with it, or if both differ in gender from their noun, which has only
    one.
    """
    if all(change.place.features == ("gender",) for change in changes):
        return True
    slots = [change.slot for change in changes]
    governors = [slot.governor for slot in slots]
    if not any(change.place.leaf in governors for change in changes):
        is_firm = all(slot.governor and slot.cost < 1 for slot in slots)
        return is_firm and governors[0] is not governors[1]
    classes = {change.place.form.word_class for change in changes}
    return classes == {"noun", "adjective"} and all(
        change.place.features == ("case",) for change in changes
    )


def _template_cost(tree: Parse) -> float:
    template = tree.leaves[-1].template
    return 0 if template.weight else 2 if template.name == "fragment" else 0.5
