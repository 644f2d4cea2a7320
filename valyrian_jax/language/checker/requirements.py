"""What a template requires of a sentence; this rules out most templates without a search.

A feature is one of those that `Sentence.features_by_word` lists.
"""

from collections.abc import Iterator, Sequence, Set
from functools import cache
from typing import NamedTuple

from valyrian_jax.language.checker.complements import required_complements
from valyrian_jax.language.template import END_MARKS, Template, Token
from valyrian_jax.language.words.categories import CASES, NUMBERS
from valyrian_jax.language.words.lexicon import NOMINAL_POS

_ANY: frozenset[str] = frozenset()


class Choice(NamedTuple):
    """A token that a word may match.

    Attributes:
        token_index: Index of the token in its template.
        bit: The bit of `Step.required` that is this token.
        repeated: Whether it may match again.
        options: Features; the last word of every match has one of them. Empty: any word.
    """

    token_index: int
    bit: int
    repeated: bool
    options: frozenset[str]

    def is_met(self, features: Set[str]) -> bool:
        """Test whether a match may end with a word that has these features."""
        return not self.options or not self.options.isdisjoint(features)


class Step(NamedTuple):
    """One token of a template, or several that come in any order.

    Attributes:
        choices: The tokens, from the last to the first.
        required: The bits of those that may not be missing.
    """

    choices: tuple[Choice, ...]
    required: int


@cache
def list_steps(template: Template) -> Sequence[Step]:
    """Divide the tokens of a template into what is matched one after the other."""
    omissible = find_omissible(template)
    steps = []
    for indices in dict.fromkeys(template.groups):
        choices = [
            Choice(
                token_index=index,
                bit=1 << number,
                repeated=template.tokens[index].repeated,
                options=_find_options(template, template.tokens[index]),
            )
            for number, index in enumerate(indices)
        ]
        required = sum(choice.bit for choice in choices if choice.token_index not in omissible)
        steps.append(Step((*reversed(choices),), required))
    return steps


@cache
def find_needs(template: Template) -> frozenset[str]:
    """Return the features that occur among the words of every match of a template."""
    needs: set[str] = set()
    for choice in _list_required(template):
        token = template.tokens[choice.token_index]
        needs |= choice.options if len(choice.options) == 1 else _ANY
        needs |= {"coordinated"} if token.coordinated else _ANY
        if token.name in template.roles and template.roles[token.name].category == "participant":
            needs |= {*token.features[:1]} & {*CASES}
    return frozenset(needs)


@cache
def find_alternatives(template: Template) -> Sequence[frozenset[str]]:
    """Return sets of features; of each set, one occurs among the words of every match."""
    return [c.options for c in _list_required(template) if len(c.options) > 1]


def _list_required(template: Template) -> Iterator[Choice]:
    for choices, required in list_steps(template):
        yield from (choice for choice in choices if choice.bit & required)


@cache
def find_last_options(template: Template) -> frozenset[str]:
    """Return features one of which the last word of every match has; empty: any word."""
    options: list[frozenset[str]] = []
    for step in reversed(list_steps(template)):
        options += [choice.options for choice in step.choices]
        if step.required:
            return frozenset().union(*options) if all(options) else _ANY
    return _ANY


def _find_options(template: Template, token: Token) -> frozenset[str]:
    role = template.roles.get(token.name)
    if role is None:
        return frozenset(END_MARKS.get(token.name, (token.name,)))
    match role.category:
        case "verb":
            is_infinitive = token.features == ("infinitive",)
            mood = "infinitive" if is_infinitive else [*token.features, "indicative"][1]
            return frozenset(f"{mood} {c}" for c in required_complements(role.arguments[0]))
        case "adj" | "det" | "num" if token.features:
            return frozenset([role.category])
        case "modifier":
            return frozenset(["adjective"])
        case "byname":
            return frozenset(["capital"])
        case "word":
            return frozenset(role.arguments)
        case "time" | "place" | "manner" | "adverb":
            return frozenset(["word"])
        case "participant" if not token.features:  # the noun of a phrase
            return frozenset(
                a for a in role.arguments if a not in (*NUMBERS, *CASES) and a[0] != "-"
            )
        case _:
            return _ANY


@cache
def find_omissible(template: Template) -> frozenset[int]:
    """Return the tokens that may be missing: also a subject whose person the verb shows."""
    return frozenset(
        index
        for index, token in enumerate(template.tokens)
        if token.optional or token.repeated or _is_omissible_subject(template, token)
    )


def _is_omissible_subject(template: Template, token: Token) -> bool:
    role = template.roles.get(token.name)
    if not role or role.category != "participant" or token.features != ("nom",):
        return False
    if token.coordinated or set(role.arguments) & {*NOMINAL_POS, *NUMBERS}:
        return False
    agreeing = (other for other in template.tokens if other.features[:1] == (token.name,))
    return any(template.roles[other.name].category == "verb" for other in agreeing)
