"""What a template asks of a sentence, known before any search: most templates need none."""

from collections.abc import Iterator
from functools import cache

from valyrian_jax.language.template import PUNCTUATION, Role, Template, Token
from valyrian_jax.language.words.categories import CASES, NUMBERS
from valyrian_jax.language.words.lexicon import NOMINAL_POS


@cache
def find_needs(template: Template) -> frozenset[str]:
    """Return the features of `Sentence` that every match of a template has."""
    omissible = find_omissible(template)
    needs = set()
    for index, token in enumerate(template.tokens):
        role = template.roles.get(token.name)
        if role is not None and index not in omissible:
            needs |= {*_find_token_needs(token, role)}
    return frozenset(needs)


def _find_token_needs(token: Token, role: Role) -> Iterator[str]:
    if token.coordinated:
        yield "coordinated"
    match role.category:
        case "verb":
            is_infinitive = token.features == ("infinitive",)
            yield "infinitive" if is_infinitive else [*token.features, "indicative"][1]
        case "adj" | "det" | "num" | "modifier":
            yield "adjective"
        case "byname":
            yield "capital"
        case "word" if len(role.arguments) == 1:
            yield role.arguments[0]
        case "participant" if token.features[:1] and token.features[0] in CASES:
            yield token.features[0]
        case "participant" if len(role.arguments) == 1 and token.name == "N":
            yield role.arguments[0]


@cache
def find_last_needs(template: Template) -> frozenset[str]:
    """Return the features that the last word of every match has; none if it can be of any kind."""
    last = len(template.tokens) - 1
    token = template.tokens[last]
    role = template.roles.get(token.name)
    if last in find_omissible(template) or len(template.groups[last]) > 1:
        return frozenset()
    if role is None:
        return frozenset() if token.name in PUNCTUATION else frozenset((token.name,))
    if role.category == "verb" or (role.category == "word" and not token.features):
        return frozenset(need for need in _find_token_needs(token, role) if need != "coordinated")
    return frozenset()


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
