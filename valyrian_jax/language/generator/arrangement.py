"""The arrangement of a template: which optional tokens are printed, and in which order."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from valyrian_jax.language.generator.sentence_state import SentenceState
from valyrian_jax.language.template import ADVERBS, Template, Token


def select_tokens(state: SentenceState) -> Template:
    """Choose which optional tokens of the state's template are printed.

    Whether an adverb or another word without agreement is printed is chosen later, with the word.
    """
    template = state.template
    if not _has_choice(template):
        return template
    printed = [i for i, token in enumerate(template.tokens) if _is_printed(state, token)]
    return _settle_tokens(template, tuple(printed))


def order_tokens(state: SentenceState) -> Template:
    """Choose the order of the tokens in braces: mostly that of the template."""
    template, order = state.template, list[int]()
    for index, group in enumerate(template.groups):
        if index == group[0]:
            order += _choose_order(state, group)
    return _settle_tokens(template, tuple(order))


@cache
def _has_choice(template: Template) -> bool:
    return any(t.repeated or _is_choice(template, t) for t in template.tokens)


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
    # A caller that looks for one sentence uses the role to decide whether the sentence can have it.
    role = state.template.roles.get(token.name, token)
    return state.choice.pick((role, None), (probability, 1 - probability)) is not None


def _choose_order(state: SentenceState, indices: Sequence[int]) -> Sequence[int]:
    if len(indices) < 2 or not state.happens("reordered"):
        return indices
    rest, order, words = [*indices], list[int](), list[str]()
    while rest:
        order.append(state.choice.pick(rest, [1.0] * len(rest)))
        rest.remove(order[-1])
        printed = state.known_words(state.template.tokens[order[-1]])
        words = [*words, *printed] if printed else []
        state.choice.expect((" ".join(words),))
    return order


@cache
def _settle_tokens(template: Template, indices: tuple[int, ...]) -> Template:
    """Return the template with these tokens; the cache makes equal results identical."""
    tokens = (template.tokens[index] for index in indices)
    fixed = (
        replace(
            token,
            repeated=False,
            optional=(token.optional or token.repeated) and not _is_choice(template, token),
        )
        for token in tokens
    )
    return replace(template, tokens=tuple(fixed))
