"""Noun phrases around a noun: the possible templates, and the modifiers that agree with it."""

from collections.abc import Sequence
from functools import cache

from valyrian_jax.language.generator.sentence_state import (
    Discourse,
    Participant,
    SentenceState,
    senses_of,
)
from valyrian_jax.language.generator.verbs import tense_weights
from valyrian_jax.language.generator.vocabulary import (
    WordForm,
    find_modifier_forms,
    find_words,
    meets,
)
from valyrian_jax.language.generator.weighted_choice import NO_CHOICE
from valyrian_jax.language.grammar import Grammar
from valyrian_jax.language.template import MODIFIERS, Template, Token
from valyrian_jax.language.words.categories import NUMBERS
from valyrian_jax.language.words.morphology import concord_case, inflect_adjective


@cache
def find_noun_phrases(
    grammar: Grammar, noun: Participant, case: str, depth: int, can_be_group: bool
) -> tuple[Template, ...]:
    """Return the noun-phrase templates that accept a noun and have attested forms agreeing with it.

    Inside another phrase or in the vocative, there are no relative clauses and no groups of nouns.
    """

    def accepts_noun(template: Template) -> bool:
        role = template.roles["N"]
        numbers = set(role.arguments) & set(NUMBERS) or {noun.number}
        return (
            noun.head.pos in role.arguments
            and noun.number in numbers
            and meets(noun.referent, (senses_of(role),))
        )

    def has_forms(template: Template) -> bool:
        verbs = template.verbs
        has_clause = verbs or any(role.category == "part" for role in template.roles.values())
        if has_clause and (depth or case == "voc"):
            return False
        state = SentenceState(
            grammar, template, NO_CHOICE, head_case=case, participants={"N": noun}
        )
        if verbs and not tense_weights(state, Discourse()):
            return False
        return all(
            find_agreeing_forms(state, index, noun.words[0])
            for index, token in enumerate(template.tokens)
            if token.features[:1] == ("N",) and _is_modifier(template, token)
        )

    is_single = depth or case == "voc" or not can_be_group
    templates = (*grammar.phrases, *(() if is_single else grammar.groups))
    return tuple(phrase for phrase in templates if accepts_noun(phrase) and has_forms(phrase))


def _is_modifier(template: Template, token: Token) -> bool:
    """Test whether a token is a modifier that the template always has."""
    role = template.roles.get(token.name)
    if role is None or token.optional or token.repeated:
        return False
    return role.category in (*MODIFIERS, "word")


def find_agreeing_forms(state: SentenceState, index: int, following: str) -> Sequence[WordForm]:
    """Return the adjectives, determiners, numerals or relatives for a token such as A:x.

    A short form of an adjective depends on the word that follows it.
    """
    token = state.template.tokens[index]
    target = token.features[0]
    role, noun = state.template.roles[token.name], state.participants[target]
    position = state.template.modifier_position(index, following)
    key = noun.gender, noun.agreement, concord_case(noun.head, state.case(target))
    if role.category == "word":
        words = find_words(role.arguments)
        forms = ((word, inflect_adjective(word, position).get(key)) for word in words)
        return [WordForm(word, form.text) for word, form in forms if form and form.attested]
    return find_modifier_forms(
        role.category, role.arguments[1:], noun.referent.senses, noun.number, key, position
    )
