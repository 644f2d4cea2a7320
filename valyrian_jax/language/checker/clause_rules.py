"""Rules of a clause that no template states, as each of its words alone has a right form.

A negative word does without `daor`. An object that is its own subject is a reflexive pronoun.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from valyrian_jax.language.checker.parse_tree import Leaf, Parse
from valyrian_jax.language.checker.place import find_clause, is_finite, text_of
from valyrian_jax.language.words.analysis import Reading, analyze, inflect

_NEGATIVE_WORDS = frozenset(("daorys", "daorun", "dōrī", "daoriot", "dōre"))
_NOT, _RELATIVE = "daor", "lua"
_REFLEXIVES = {"nyke": "nykēla", "ao": "aōla", "īlon": "īlōnda", "jeme": "jemēla"}


def find_violation(tree: Parse) -> str:
    """Return which rule a parse breaks, by which words, and what would be right; "" if none."""
    for verb, after in pairwise(tree.leaves):
        if is_finite(verb) and verb.reading and verb.reading.mood != "imperative":
            clause = find_clause(verb, tree.leaves)
            is_negated = verb.reading.mood == "subjunctive" and text_of(after) == _NOT
            is_relative = after.reading is not None and after.reading.lexeme.lemma == _RELATIVE
            # What stands before a relative clause may belong to the clause around it.
            found = () if is_relative else _find_own_objects(clause, verb.reading)
            reasons = (*_find_negative_words(clause, verb.reading, is_negated), *found)
            if reasons:
                return reasons[0]
    return ""


def _find_negative_words(clause: Sequence[Leaf], verb: Reading, is_negated: bool) -> Iterator[str]:
    for leaf in clause if is_negated else ():
        if leaf.reading and leaf.reading.lexeme.lemma in _NEGATIVE_WORDS:
            features = verb.tense, verb.person, verb.number, "indicative"
            forms = (
                form.text
                for form in inflect(verb.lexeme)
                if (form.tense, form.person, form.number, form.mood) == features
            )
            reason = f"`{verb.text}` must be indicative, without `daor`, as"
            yield f"{reason} `{leaf.reading.text}` is negative already: `{next(forms, '')}`"


def _find_own_objects(clause: Sequence[Leaf], verb: Reading) -> Iterator[str]:
    for reading in (leaf.reading for leaf in clause if leaf.reading):
        lemma, is_subject = reading.lexeme.lemma, reading.case in ("nom", "gen", "voc")
        is_same = (reading.person, reading.number) == (verb.person, verb.number)
        if lemma in _REFLEXIVES and is_same and not is_subject:
            forms = inflect(analyze(_REFLEXIVES[lemma])[0].lexeme)
            form = next(form.text for form in forms if form.case == reading.case)
            reason = f"`{reading.text}` is the subject of `{verb.text}`, too; then it must be"
            yield f"{reason} reflexive: `{form}`"
