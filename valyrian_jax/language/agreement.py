"""The adjectives, determiners, numerals and relatives that agree with a noun of the sentence."""

from valyrian_jax.language.draft import Draft
from valyrian_jax.language.morphology import VOWELS, concord_case, inflect_adjective
from valyrian_jax.language.vocabulary import Word, describing, words


def agreeing_words(draft: Draft, index: int, following: str) -> list[Word]:
    """The adjectives, determiners, numerals or relatives for a token such as A:x, in their agreeing forms."""
    token = draft.pattern.tokens[index]
    target = token.features[0]
    role, noun = draft.pattern.roles[token.name], draft.fillers[target]
    position = "full"
    if any(later.name == target for later in draft.pattern.tokens[index:]):
        position = "prevocalic" if following[:1].lower() in VOWELS else "prepositive"
    key = noun.gender, noun.agreement, concord_case(noun.head, draft.case(target))
    if role.category == "word":
        forms = [(word, inflect_adjective(word, position).get(key)) for word in words(role.arguments)]
        return [Word(word, form.text) for word, form in forms if form and form.sure]
    return list(describing(role.category, role.arguments[1:], noun.referent.senses, noun.number, key, position))
