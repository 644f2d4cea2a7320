"""The rules that minimal pairs break, and which of them a change of one word breaks.

The checker decides what demands the form of a word (`valyrian_jax.language.checker.rules`); this
module only gives each of its demands a name.
"""

from typing import NamedTuple

from valyrian_jax.errors import UserError
from valyrian_jax.language.checker.parse_tree import Leaf, Sentence
from valyrian_jax.language.checker.place import has_kind, is_noun
from valyrian_jax.language.checker.repair import Change


class Rule(NamedTuple):
    """A rule of the grammar that a pair can break.

    Attributes:
        family: What it is about: verb, case, agreement or sentence.
        description: What the rule says.
        needs: Words, and features of `Sentence`, of every sentence that can break the rule.
        verdict: Verdict of the checker on a sentence that breaks it: "mistake", or "beyond" where
            the checker knows that the sentence is not right, but proves no wrong form.
    """

    family: str
    description: str
    needs: frozenset[str] = frozenset()
    verdict: str = "mistake"

    @property
    def word_classes(self) -> tuple[str, ...]:
        """The classes of the words whose forms it decides; any class for a coordinated word."""
        return _WORD_CLASSES[self.family]

    def can_break_in(self, sentence: Sentence) -> bool:
        """Test whether a sentence may have a word that the rule decides; a quick test."""
        return self.needs <= {*sentence.words, *sentence.features_before[-1]}


RULES = {
    "verb-number": Rule("verb", "a verb has the number of its subject"),
    "verb-person": Rule("verb", "a verb has the person of its subject"),
    "tense": Rule("verb", "a verb has a tense that goes with the adverb of time"),
    "negation": Rule("verb", "the verb before `daor` is subjunctive", frozenset(["daor"])),
    "statement": Rule("verb", "the verb of a statement without `daor` is indicative"),
    "infinitive": Rule(
        "verb", "the verb before one of wishing is an infinitive", frozenset(["infinitive"])
    ),
    "subject-case": Rule("case", "the subject is nominative"),
    "object-case": Rule("case", "the object is accusative"),
    "recipient-case": Rule("case", "whom something is given to is dative", frozenset(["dat"])),
    "place-case": Rule("case", "where something is, is locative", frozenset(["loc"])),
    "possessor-case": Rule(
        "case", "a noun before the one that it belongs to is genitive", frozenset(["gen"])
    ),
    "adposition-case": Rule("case", "an adposition decides the case of its noun"),
    "adjective-gender": Rule("agreement", "an adjective has the gender of its noun"),
    "adjective-number": Rule("agreement", "an adjective has the number of its noun"),
    "adjective-case": Rule("agreement", "an adjective has the case of its noun"),
    "determiner": Rule("agreement", "a determiner or numeral agrees with its noun"),
    "predicate": Rule(
        "agreement", "a predicate adjective agrees with its subject", frozenset(["adj"])
    ),
    "relative": Rule("agreement", "a relative pronoun agrees with its noun", frozenset(["lua"])),
    "noun-number": Rule("agreement", "a noun has the number of the words that agree with it"),
    "coordination": Rule(
        "sentence",
        "the last vowel of the second of two words is long, for `and`",
        frozenset(["coordinated"]),
        "beyond",
    ),
    "vocative": Rule(
        "sentence", "whom a sentence addresses is vocative", frozenset(["voc", ","]), "beyond"
    ),
    "order": Rule("sentence", "the verb is last", frozenset(), "beyond"),
}
"""The rules by name."""

_WORD_CLASSES = {
    "verb": ("verb",),
    "case": ("noun",),
    "agreement": ("noun", "adjective"),
    "sentence": ("noun", "adjective"),
}
_CASE_RULES = {
    "nom": "subject-case",
    "acc": "object-case",
    "dat": "recipient-case",
    "loc": "place-case",
    "gen": "possessor-case",
}


def check_rule(name: str) -> None:
    """Check that there is a rule of this name.

    Raises:
        UserError: There is no such rule.
    """
    if name not in RULES:
        raise UserError(f"no rule {name!r}: expected one of {', '.join(RULES)}; name one of them")


def name_rule(change: Change) -> str:
    """Return the name of the rule that a changed word breaks; "" if it breaks none of them."""
    form, features, governor = change.place.form, change.place.features, change.slot.governor
    if not features:
        return "coordination" if form.coordinated != change.place.reading.coordinated else ""
    match form.word_class, features:
        case "verb", _ if form.mood == "infinitive":
            return "infinitive" if governor and has_kind(governor, "wish") else ""
        case "verb", ("mood",):
            return {"subjunctive": "negation", "indicative": "statement"}.get(form.mood, "")
        case "verb", ("number",) | ("person",) if governor and is_noun(governor, "nom"):
            return f"verb-{features[0]}"
        case "adjective", (feature,):
            return _name_modifier_rule(change.place.leaf, feature)
        case "noun", ("number",) if governor and not is_noun(governor) and not _is_verb(governor):
            return "noun-number"
        case "noun", ("case",) if governor:
            return _name_case_rule(form.case, governor)
    return ""


def _name_modifier_rule(leaf: Leaf, feature: str) -> str:
    assert leaf.reading is not None
    lexeme = leaf.reading.lexeme
    if lexeme.lemma == "lua":
        return "relative"
    if feature == "position":
        return ""
    if lexeme.pos in ("det", "num"):
        return "determiner"
    return f"adjective-{feature}" if leaf.token.features[:1] == ("N",) else "predicate"


def _name_case_rule(case: str, governor: Leaf) -> str:
    if governor.reading is None or governor.reading.lexeme.pos == "adp":
        return "adposition-case"
    if _is_verb(governor) or (case == "gen" and is_noun(governor)):
        return "" if case == "nom" and has_kind(governor, "copula") else _CASE_RULES.get(case, "")
    return ""


def _is_verb(leaf: Leaf) -> bool:
    return leaf.reading is not None and leaf.reading.word_class == "verb"
