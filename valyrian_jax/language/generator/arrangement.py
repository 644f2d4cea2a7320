"""The arrangement of a template: which optional tokens are printed, and in which order."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from valyrian_jax.language.generator.sentence_state import SentenceState
from valyrian_jax.language.grammar import ADVERBS, Template, Token


def arrange(state: SentenceState) -> Template:
    """Choose the tokens of the state's template and their order.

    Whether an adverb or another word without agreement is printed is chosen later, with the word.
    """
    template = state.template
    if not _is_variable(template):
        return template
    indices: list[int] = []
    for index, group in enumerate(template.groups):
        if index == group[0]:
            printed = [i for i in group if _is_printed(state, template.tokens[i])]
            indices += _order(state, printed)
    return _select_tokens(template, tuple(indices))


@cache
def _is_variable(template: Template) -> bool:
    return any(t.group or t.repeated or _is_choice(template, t) for t in template.tokens)


def _is_choice(template: Template, token: Token) -> bool:
    """Test whether a token may be missing and is not a word without agreement."""
    role = template.roles.get(token.name)
    is_invariable = role is not None and not token.features and role.category in _INVARIABLE
    return (token.optional or token.repeated) and not is_invariable


_INVARIABLE = (*ADVERBS, "word", "set")


def _is_printed(state: SentenceState, token: Token) -> bool:
    if not _is_choice(state.template, token):
        return True
    probability = state.grammar.weights["chances"]["optional"]
    # A caller that looks for one sentence tells by the role whether the sentence can have it.
    role = state.template.roles.get(token.name, token)
    return state.choice.pick((role, None), (probability, 1 - probability)) is not None


def _order(state: SentenceState, indices: Sequence[int]) -> Sequence[int]:
    """Keep the order of the template, or choose another one."""
    if len(indices) < 2 or not state.happens("reordered"):
        return indices
    rest, order = [*indices], []
    while rest:
        order.append(state.choice.pick(rest, [1.0] * len(rest)))
        rest.remove(order[-1])
    return order


@cache
def _select_tokens(template: Template, indices: tuple[int, ...]) -> Template:
    """Return the template with these tokens; a cache keeps its identity."""
    tokens = (template.tokens[index] for index in indices)
    fixed = (
        replace(
            token,
            group=0,
            repeated=False,
            optional=(token.optional or token.repeated) and not _is_choice(template, token),
        )
        for token in tokens
    )
    return replace(template, tokens=tuple(fixed))
