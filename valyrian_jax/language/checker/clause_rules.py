"""The rule that no template expresses, because every single word has a right form.

A negative word excludes `daor`.
"""

from itertools import pairwise

from valyrian_jax.language.checker.parse_tree import Parse
from valyrian_jax.language.checker.place import find_clause, text_of
from valyrian_jax.language.words.analysis import Reading, inflect

_NEGATIVE_WORDS = frozenset(("daorys", "daorun", "dōrī", "daoriot", "dōre"))
_NOT = "daor"


def find_violation(tree: Parse) -> str:
    """Return which rule a parse breaks, by which words, and what would be right; "" if none."""
    for verb, after in pairwise(tree.leaves):
        if not (verb.reading and verb.reading.mood == "subjunctive" and text_of(after) == _NOT):
            continue
        for leaf in find_clause(verb, tree.leaves):
            if leaf.reading and leaf.reading.lexeme.lemma in _NEGATIVE_WORDS:
                return (
                    f"`{verb.reading.text}` must be indicative, without `daor`, because "
                    f"`{leaf.reading.text}` is already negative: `{_find_indicative(verb.reading)}`"
                )
    return ""


def _find_indicative(verb: Reading) -> str:
    features = verb.tense, verb.person, verb.number, "indicative"
    for form in inflect(verb.lexeme):
        if (form.tense, form.person, form.number, form.mood) == features:
            return form.text
    return ""
