"""The parser: matches the templates of `grammar.toml` from the last word to the first.

In High Valyrian the verb is last and a phrase inside a phrase precedes its noun. Matching from the
end therefore meets a head before its dependents, and each inner phrase ends before the outer one,
so the search terminates. The parser ignores the generator's weights, senses and preferred tenses.
"""

from collections.abc import Iterator

from valyrian_jax.language.checker.agreement import match_word, unify
from valyrian_jax.language.checker.parse_tree import Leaf, Parse, Phrase, Sentence
from valyrian_jax.language.grammar import Role, Template, Token
from valyrian_jax.language.words.lexicon import NOMINAL_POS
from valyrian_jax.language.words.morphology import NUMBERS

# The marks that are accepted where a template has one of these.
_MARKS = {".": ".!?", "!": "!.", "?": "?"}


def parse(sentence: Sentence) -> Parse | None:
    """Return the first parse of the whole sentence, in the order of the templates."""
    words = {*sentence.words, *_MARKS}
    for template in sentence.grammar.sentences:
        if not words.issuperset(token.name for token in template.tokens if not token.is_letter):
            continue
        end = Parse(len(sentence.words), {}, ())
        for result in _match_tokens(sentence, template, len(template.tokens), end):
            if result.start == 0 and _predicates_agree(template, result):
                return result
    return None


def _match_tokens(
    sentence: Sentence, template: Template, count: int, suffix: Parse
) -> Iterator[Parse]:
    """Yield every match of the first `count` tokens with words that end where `suffix` starts."""
    if count == 0:
        yield suffix
        return
    for result in _match_token(sentence, template, count - 1, suffix):
        yield from _match_tokens(sentence, template, count - 1, result)


def _match_token(
    sentence: Sentence, template: Template, index: int, suffix: Parse
) -> Iterator[Parse]:
    """Yield every match of one token with words that end where `suffix` starts."""
    token, end = template.tokens[index], suffix.start
    role = template.roles.get(token.name)
    if token.optional:
        yield suffix
    if role is None:
        if end and sentence.words[end - 1] in _MARKS.get(token.name, (token.name,)):
            yield _prepend(Leaf(end - 1, None, token, template), suffix)
    elif role.category == "clause":
        yield from _match_clause(sentence, role, suffix)
    elif role.category == "participant" and token.features:
        yield from _match_participant(sentence, template, token, role, suffix)
    elif end:
        # Whether the last word of a phrase is coordinated depends on the sentence around it.
        ends_phrase = "N" in template.roles and index == len(template.tokens) - 1
        for reading in sentence.readings[end - 1]:
            if reading.coordinated != token.coordinated and not ends_phrase:
                continue
            agreements = match_word(sentence, template, index, reading, suffix)
            if agreements is not None:
                result = _prepend(Leaf(end - 1, reading, token, template), suffix)
                is_finite = reading.tense and reading.mood != "infinitive"
                tense = reading.tense if is_finite else suffix.tense
                yield result._replace(agreements=agreements, tense=tense)


def _prepend(leaf: Leaf, suffix: Parse) -> Parse:
    return Parse(leaf.word_index, suffix.agreements, (leaf, *suffix.leaves), suffix.tense)


def _match_clause(sentence: Sentence, role: Role, suffix: Parse) -> Iterator[Parse]:
    """Yield every match of a whole sentence without its final mark."""
    end = Parse(suffix.start, {}, suffix.leaves)
    for template in sentence.grammar.sentences:
        if template.clause in role.arguments:
            for result in _match_tokens(sentence, template, len(template.tokens) - 1, end):
                if _predicates_agree(template, result):
                    yield Parse(result.start, suffix.agreements, result.leaves)


def _match_participant(
    sentence: Sentence, template: Template, token: Token, role: Role, suffix: Parse
) -> Iterator[Parse]:
    """Yield every noun phrase in the case of the token, or nothing for an omitted subject."""
    pos = set(role.arguments) & set(NOMINAL_POS)
    numbers = set(role.arguments) & set(NUMBERS)
    case = token.features[0]
    is_unrestricted = not pos and not numbers and not token.coordinated
    if case == "nom" and is_unrestricted and _has_agreeing_verb(template, token.name):
        yield suffix
    for phrase in find_phrases(sentence, suffix.start):
        if phrase.case != case or phrase.coordinated != token.coordinated:
            continue
        if (pos and phrase.pos not in pos) or (numbers and phrase.number not in numbers):
            continue
        agreements = unify(suffix.agreements, token.name, phrase.agreement)
        if agreements is not None:
            leaves = (*phrase.leaves, *suffix.leaves)
            yield Parse(phrase.start, agreements, leaves, suffix.tense)


def find_phrases(sentence: Sentence, end: int) -> list[Phrase]:
    """Find the noun phrases whose last word is the one before index `end`."""
    if end not in sentence.phrases:
        phrases: dict[tuple[object, ...], Phrase] = {}
        for template in sentence.grammar.phrases if end else ():
            for result in _match_tokens(
                sentence, template, len(template.tokens), Parse(end, {}, ())
            ):
                phrase = _make_phrase(template, result)
                # Of the matches that differ only in their leaves, the first is enough.
                phrases.setdefault(phrase[:-1], phrase)
        sentence.phrases[end] = list(phrases.values())
    return sentence.phrases[end]


def _make_phrase(template: Template, result: Parse) -> Phrase:
    head = next(
        leaf.reading
        for leaf in result.leaves
        if leaf.token.name == "N" and leaf.template is template
    )
    assert head is not None
    last = result.leaves[-1].reading
    return Phrase(
        start=result.start,
        case=head.case,
        agreement=result.agreements["N"],
        pos=head.lexeme.pos,
        number=head.number,
        coordinated=last is not None and last.coordinated,
        leaves=result.leaves,
    )


def _has_agreeing_verb(template: Template, letter: str) -> bool:
    """Test whether a verb shows the person of a participant, so that a pronoun can be omitted."""
    agreeing = (token for token in template.tokens if token.features[:1] == (letter,))
    return any(template.roles[token.name].category == "verb" for token in agreeing)


def _predicates_agree(template: Template, result: Parse) -> bool:
    """Test whether predicate nouns (`=x`, not coordinated) have the number of their subject."""
    for letter, role in template.roles.items():
        coordinated = any(token.name == letter and token.coordinated for token in template.tokens)
        if role.model and not coordinated:
            names = {letter, role.model} & result.agreements.keys()
            if len({result.agreements[name].number for name in names} - {""}) > 1:
                return False
    return True
