"""The parser: matches the templates of `grammar.toml` from the last word to the first.

In High Valyrian the verb is last and a phrase inside a phrase precedes its noun. Matching from the
end therefore meets a head before its dependents, and each inner phrase ends before the outer one.
The noun phrases and the named parts that end at a word are found only once, so the time is
polynomial in the number of words. The parser ignores the generator's weights, preferred senses and
preferred tenses.
"""

from collections.abc import Iterator, Sequence

from valyrian_jax.language.checker.agreement import match_word, unify
from valyrian_jax.language.checker.clause_rules import find_violation
from valyrian_jax.language.checker.parse_tree import (
    Agreement,
    Agreements,
    Leaf,
    Parse,
    Part,
    Phrase,
    Sentence,
    list_shared_cases,
)
from valyrian_jax.language.checker.requirements import (
    find_alternatives,
    find_last_options,
    find_needs,
    list_steps,
)
from valyrian_jax.language.set_phrases import find_set_phrases
from valyrian_jax.language.template import END_MARKS, MODIFIERS, Role, Template, Token
from valyrian_jax.language.words.categories import NUMBERS
from valyrian_jax.language.words.lexicon import NOMINAL_POS, Lexeme

# The class of the words that a letter can match; for other categories, all readings are tried.
_WORD_CLASSES = {
    "verb": "verb",
    "time": "word",
    "place": "word",
    "manner": "word",
    "adverb": "word",
    **dict.fromkeys(MODIFIERS, "adjective"),
}
SENTENCES = "sentence"
_PHRASES, _GROUPS = "noun phrase", "noun phrases"  # one, and several that are coordinated


def parse(sentence: Sentence) -> Parse | None:
    """Return the first parse of the whole sentence, in the order of the templates."""
    end = Parse(len(sentence.words), {}, ())
    for template in list_templates(sentence, SENTENCES, end.start):
        for result in () if template.covered else match_template(sentence, template, end):
            if result.start == 0 and not (sentence.check_clauses and find_violation(result)):
                return result
    return None


def match_template(sentence: Sentence, template: Template, end: Parse) -> Iterator[Parse]:
    """Yield the matches of a template with words that end where `end` starts."""
    for result in _match_steps(sentence, template, len(list_steps(template)), 0, end, set()):
        if (completed := _unify_models(template, result)) is not None:
            yield completed


def list_templates(sentence: Sentence, name: str, end: int) -> Sequence[Template]:
    """List the templates of this name that may match words up to the one before index `end`."""
    if not end:
        return ()
    possible = sentence.templates.get(name)
    if possible is None:
        grammar = sentence.grammar
        others = {SENTENCES: grammar.sentences, _PHRASES: grammar.phrases, _GROUPS: grammar.groups}
        templates = others.get(name) or grammar.parts_by_name.get(name, ())
        features = sentence.features_before[-1]
        possible = sentence.templates[name] = [t for t in templates if _is_possible(t, features)]
    features, last = sentence.features_before[end], sentence.features_by_word[end - 1]
    return [
        template
        for template in possible
        if (not (options := find_last_options(template)) or not options.isdisjoint(last))
        and _is_possible(template, features)
    ]


def _is_possible(template: Template, features: frozenset[str]) -> bool:
    """Test whether words with these features together have what a template needs."""
    return find_needs(template) <= features and not any(
        options.isdisjoint(features) for options in find_alternatives(template)
    )


def _match_steps(
    sentence: Sentence,
    template: Template,
    count: int,
    used: int,
    suffix: Parse,
    seen: set[tuple[object, ...]],
) -> Iterator[Parse]:
    """Yield every match of the first `count` steps with words that end where `suffix` starts.

    The bits of `used` are the choices of the last step that have a match already. Of the matches
    that differ only in their leaves, the first is enough.
    """
    steps, start, choices = list_steps(template), suffix.start, []
    features = sentence.features_by_word[start - 1] if start else frozenset()
    while count:
        step = steps[count - 1]
        can_omit = not step.required & ~used
        if start:
            choices = [
                choice
                for choice in step.choices
                if (choice.repeated or not used & choice.bit) and choice.is_met(features)
            ]
        if choices or not can_omit:
            break
        count, used = count - 1, 0
    key = (count, used, start, suffix.tense, id(suffix.noun), *suffix.agreements.items())
    if key in seen:
        return
    seen.add(key)
    if count == 0:
        yield suffix
        return
    if can_omit:
        yield from _match_steps(sentence, template, count - 1, 0, suffix, seen)
    for choice in choices:
        is_last = len(step.choices) == 1 and not choice.repeated
        after = (count - 1, 0) if is_last else (count, used | choice.bit)
        for result in _match_token(sentence, template, choice.token_index, suffix):
            yield from _match_steps(sentence, template, *after, result, seen)


def _match_token(
    sentence: Sentence, template: Template, index: int, suffix: Parse
) -> Iterator[Parse]:
    """Yield every match of one token with words that end where `suffix` starts."""
    token, end = template.tokens[index], suffix.start
    role = template.roles.get(token.name)
    if not end:
        return
    if role is None:
        if sentence.words[end - 1] in END_MARKS.get(token.name, (token.name,)):
            leaves = (Leaf(end - 1, None, token, template), *suffix.leaves)
            yield suffix._replace(start=end - 1, leaves=leaves)
    elif role.category == "part":
        yield from _match_part(sentence, token, role, suffix)
    elif role.category == "set":
        for start in find_set_phrases(sentence.words, end, role.arguments):
            words = (Leaf(i, None, token, template) for i in range(start, end))
            yield suffix._replace(start=start, leaves=(*words, *suffix.leaves))
    elif role.category == "participant" and token.features:
        yield from _match_participant(sentence, template, token, role, suffix)
    else:
        # Whether the last word of a phrase is coordinated depends on the sentence around it.
        ends_phrase = "N" in template.roles and not suffix.leaves
        for reading in sentence.readings_of(end - 1, _WORD_CLASSES.get(role.category, "")):
            if reading.coordinated != token.coordinated and not ends_phrase:
                continue
            agreements = match_word(sentence, template, index, reading, suffix)
            if agreements is not None:
                leaf = Leaf(end - 1, reading, token, template)
                is_finite = reading.tense and reading.mood != "infinitive"
                tense = reading.tense if is_finite else suffix.tense
                noun = reading if token.name == "N" else suffix.noun
                yield Parse(end - 1, agreements, (leaf, *suffix.leaves), tense, noun)


def _match_part(sentence: Sentence, token: Token, role: Role, suffix: Parse) -> Iterator[Parse]:
    """Yield every match of one of several parts that agrees with its shared participant (`S:x`)."""
    for name in role.arguments:
        for part in find_parts(sentence, name, suffix.start):
            agreements: Agreements | None = suffix.agreements
            if token.features:
                agreements = unify(suffix.agreements, token.features[0], part.agreement)
            if agreements is not None:
                leaves = (*part.leaves, *suffix.leaves)
                yield suffix._replace(start=part.start, agreements=agreements, leaves=leaves)


def _match_participant(
    sentence: Sentence, template: Template, token: Token, role: Role, suffix: Parse
) -> Iterator[Parse]:
    """Yield every noun phrase in the case of the token."""
    pos = set(role.arguments) & set(NOMINAL_POS)
    numbers = set(role.arguments) & set(NUMBERS)
    case = token.features[0]
    if case == "N" and suffix.noun:
        case = suffix.noun.case
    for phrase in find_phrases(sentence, suffix.start, is_group="N" not in template.roles):
        noun = phrase.lexeme
        has_case = case in (phrase.case, "phrase")
        has_case = has_case or (phrase.case == "nom" and case in list_shared_cases(noun))
        if not has_case or phrase.coordinated != token.coordinated:
            continue
        if (pos and noun.pos not in pos) or (numbers and phrase.number not in numbers):
            continue
        if role.is_strict and not _has_sense(noun, role):
            continue
        if f"-{noun.lemma}" in role.arguments:
            continue
        agreements = unify(suffix.agreements, token.name, phrase.agreement)
        if agreements is not None:
            leaves = (*phrase.leaves, *suffix.leaves)
            head = phrase if case == "phrase" else suffix.noun
            yield Parse(phrase.start, agreements, leaves, suffix.tense, head)


def _has_sense(noun: Lexeme, role: Role) -> bool:
    """Test whether a noun has one of the role's senses, or may have it because none are listed."""
    if not noun.senses:
        return "known" not in role.arguments
    return not set(noun.senses).isdisjoint(role.arguments)


def find_parts(sentence: Sentence, name: str, end: int) -> Sequence[Part]:
    """Find the parts of this name whose last word is the one before index `end`."""
    cached = sentence.phrases.setdefault(end, {})
    if name not in cached:
        cached[name] = ()  # A part of the same name that ends at the same word adds nothing.
        parts: dict[tuple[int, Agreement], Part] = {}
        for template in list_templates(sentence, name, end):
            for result in match_template(sentence, template, Parse(end, {}, ())):
                agreement = result.agreements.get(template.head, Agreement())._replace(case="")
                key = result.start, agreement
                parts.setdefault(key, Part(*key, result.leaves))
        cached[name] = tuple(parts.values())
    return cached[name]


def find_phrases(sentence: Sentence, end: int, is_group: bool = False) -> Sequence[Phrase]:
    """Find the noun phrases whose last word is the one before index `end`.

    Args:
        sentence: Sentence to search.
        end: Index after the last word.
        is_group: Whether to find coordinated noun phrases too.
    """
    name = _GROUPS if is_group else _PHRASES
    cached = sentence.phrases.setdefault(end, {})
    if name not in cached:
        cached[name] = ()
        phrases: dict[tuple[object, ...], Phrase] = {}
        for template in list_templates(sentence, name, end):
            if template.covered:
                continue
            for result in match_template(sentence, template, Parse(end, {}, ())):
                phrase = _make_phrase(template, result)
                # Of the matches that differ only in their leaves, the first is enough.
                phrases.setdefault(phrase[:-1], phrase)
        simple = find_phrases(sentence, end) if is_group else ()
        cached[name] = (*simple, *phrases.values())
    return cached[name]


def _make_phrase(template: Template, result: Parse) -> Phrase:
    """Return the noun phrase around the noun N, or the coordinated noun phrases up to N."""
    head = result.noun
    assert head is not None
    if isinstance(head, Phrase):
        persons = {agreement.person for agreement in result.agreements.values()}
        person = "3" if persons == {"3"} else ""
        number = "" if template.number == "any" else template.number
        genders = {agreement.gender for agreement in result.agreements.values()}
        gender = genders.pop() if len(genders) == 1 else ""
        agreement = Agreement(gender, number, person, head.agreement.case)
        return head._replace(
            start=result.start,
            agreement=agreement,
            number="pl",
            coordinated=False,
            leaves=result.leaves,
        )
    last_reading = result.leaves[-1].reading
    return Phrase(
        start=result.start,
        case=head.case,
        agreement=result.agreements["N"],
        number=head.number,
        coordinated=last_reading is not None and last_reading.coordinated,
        lexeme=head.lexeme,
        leaves=result.leaves,
    )


def _unify_models(template: Template, result: Parse) -> Parse | None:
    """Give a predicate noun (`=x`, not coordinated) the number of its subject, or fail."""
    agreements: Agreements | None = result.agreements
    for letter, model in template.models.items():
        if agreements and letter in agreements:
            number = Agreement(number=agreements[letter].number)
            agreements = unify(agreements, model, number)
    return None if agreements is None else result._replace(agreements=agreements)
