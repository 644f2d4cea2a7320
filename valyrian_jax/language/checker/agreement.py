"""The conditions on a word in a template: its word class, and agreement with the participants."""

from functools import cache

from valyrian_jax.language.checker.complements import complements_of, required_complements
from valyrian_jax.language.checker.parse_tree import Agreement, Agreements, Parse, Sentence
from valyrian_jax.language.grammar import find_free_adverbs
from valyrian_jax.language.template import Role, Template, Token
from valyrian_jax.language.words.analysis import Reading, inflect
from valyrian_jax.language.words.categories import CASES, NUMBERS, concord_number
from valyrian_jax.language.words.ending_tables import INFERRED
from valyrian_jax.language.words.lexicon import Lexeme
from valyrian_jax.language.words.morphology import concord_case


def match_word(
    sentence: Sentence, template: Template, index: int, reading: Reading, suffix: Parse
) -> Agreements | None:
    """Match a reading of the word before `suffix` with the token at `index`.

    Return the agreements with this word included, or None if the word does not match.
    """
    token = template.tokens[index]
    role = template.roles[token.name]
    match role.category:
        case "participant":
            return _match_head(role, reading, suffix)
        case "verb":
            return _match_verb(token, role, reading, suffix)
        case "word" | "adj" | "det" | "num" | "modifier" if token.features:
            return _match_modifier(sentence, template, index, reading, suffix)
        case _:
            return suffix.agreements if _matches(sentence, role, reading, suffix) else None


def _matches(sentence: Sentence, role: Role, reading: Reading, suffix: Parse) -> bool:
    """Test whether a word that agrees with nothing matches."""
    lexeme = reading.lexeme
    match role.category:
        case "word":  # Emphatic pronouns have cases, too.
            return lexeme.lemma in role.arguments and reading.case in ("", "nom", "acc", "voc")
        case "byname":
            is_name = lexeme.pos == "name" and lexeme.paradigm == "indecl"
            is_genitive = lexeme.pos == "noun" and reading.case == "gen"
            return sentence.words[suffix.start - 1][:1].isupper() and (is_genitive or is_name)
        case "adverb":
            free = find_free_adverbs(sentence.grammar)
            return lexeme.lemma in free and lexeme.lemma in (role.arguments or free)
        case "time" if sentence.check_tense and suffix.tense:
            return "time" in lexeme.senses and _goes_with(lexeme, suffix.tense)
        case _:
            return reading.word_class == "word" and role.category in lexeme.senses


def list_tenses(adverb: Lexeme) -> list[str]:
    """List the tenses that an adverb of time goes with, including those never generated."""
    return adverb.frame.replace(INFERRED, "").split()


def _goes_with(adverb: Lexeme, tense: str) -> bool:
    """Test whether an adverb of time goes with a tense.

    The pluperfect and the past habitual go with every adverb that goes with the perfect.
    """
    tenses = list_tenses(adverb)
    is_perfect = tense in ("pluperfect", "past habitual") and "perfect" in tenses
    return not tenses or tense in tenses or is_perfect


def _match_head(role: Role, reading: Reading, suffix: Parse) -> Agreements | None:
    """Match the noun N of a phrase, or the relative `lua` that takes its place."""
    lexeme = reading.lexeme
    if lexeme.lemma == "lua" and "lua" in role.arguments and reading.position == "full":
        agreement = Agreement(reading.gender, reading.number, "3", reading.case)
        return unify(suffix.agreements, "N", agreement)
    if not _can_be_head(role, reading):
        return None
    number, case = concord_number(reading.number), concord_case(lexeme, reading.case)
    if suffix.agreements.get("N", Agreement()).case == "nom" and _is_like_nominative(reading):
        case = "nom"
    return unify(suffix.agreements, "N", Agreement(lexeme.gender, number, reading.person, case))


@cache
def _is_like_nominative(noun: Reading) -> bool:
    """Test for an accusative plural with the same form as the nominative.

    A word that agrees with it may be in the nominative, too (brōza jevi).
    """
    if (noun.case, concord_number(noun.number)) != ("acc", "pl"):
        return False
    same = (reading for reading in inflect(noun.lexeme) if reading.text == noun.text)
    return any((r.case, r.number) == ("nom", noun.number) for r in same)


def _can_be_head(role: Role, reading: Reading) -> bool:
    """Test whether a noun has a part of speech or lemma, a number and a case that N may have."""
    lexeme, arguments = reading.lexeme, set(role.arguments)
    if reading.word_class != "noun" or arguments.isdisjoint((lexeme.pos, lexeme.lemma)):
        return False
    numbers = arguments & {*NUMBERS} or ({"sg", "pl"} if lexeme.pos == "pron" else {*NUMBERS})
    cases = arguments & {*CASES} or {*CASES}
    is_excluded = f"-{lexeme.lemma}" in arguments
    return reading.number in numbers and reading.case in cases and not is_excluded


def _match_verb(token: Token, role: Role, reading: Reading, suffix: Parse) -> Agreements | None:
    """Match a verb of the required kind and mood that agrees with its subject."""
    target, mood, tense = [*token.features, "", ""][:3]
    mood = "infinitive" if target == "infinitive" else mood or "indicative"
    if reading.word_class != "verb" or reading.mood != mood or not _has_frame(reading, role):
        return None
    if tense and tense != reading.tense:
        return None
    if mood == "infinitive":
        return suffix.agreements
    if len(target) == 2:  # A person, not a participant.
        return suffix.agreements if target == reading.person + reading.number[0] else None
    # The subject of a command is a vocative noun, which is in the third person.
    person = "" if mood == "imperative" else reading.person
    return unify(suffix.agreements, target, Agreement("", reading.number, person))


def _has_frame(reading: Reading, role: Role) -> bool:
    """Test whether a verb has one of the complements that the role's kinds of frames require."""
    required = required_complements(role.arguments[0])
    is_excluded = f"-{reading.lexeme.lemma}" in required
    return not is_excluded and not required.isdisjoint(complements_of(reading.lexeme))


def _match_modifier(
    sentence: Sentence, template: Template, index: int, reading: Reading, suffix: Parse
) -> Agreements | None:
    """Match an adjective, determiner, numeral or relative that agrees with its noun."""
    token, lemma = template.tokens[index], reading.lexeme.lemma
    role, target = template.roles[token.name], token.features[0]
    if role.category == "word":
        is_allowed = lemma in role.arguments
    else:
        lemmas = role.arguments[1:] or (lemma,)
        is_allowed = reading.lexeme.pos == role.category or role.category == "modifier"
        is_allowed = is_allowed and lemma != "lua" and lemma in lemmas
    if reading.word_class != "adjective" or not is_allowed:
        return None
    number = reading.number
    if reading.lexeme.pos == "num" and reading.lexeme.frame in ("sg", "pl"):
        number = reading.lexeme.frame  # A numeral says which number its noun has.
        if reading.number not in ("", number):
            return None
    following = sentence.words[suffix.start] if suffix.start < len(sentence.words) else ""
    if reading.position != template.modifier_position(index, following):
        return None
    cases = [other.features[:1] for other in template.tokens if other.name == target]
    is_case = not reading.case or (reading.case,) in (cases or [("nom",)])
    if target != "N" and not is_case:
        return None
    noun, case = suffix.noun, reading.case
    if target == "N" and case == "nom" and isinstance(noun, Reading) and _is_like_nominative(noun):
        case = "" if suffix.agreements["N"].case == "acc" else case
    return unify(suffix.agreements, target, Agreement(reading.gender, number, "", case))


def unify(agreements: Agreements, letter: str, agreement: Agreement) -> Agreements | None:
    """Add features to a participant; return None if they contradict its features so far."""
    old = agreements.get(letter)
    if old is None:
        return {**agreements, letter: agreement}
    for a, b in zip(old, agreement, strict=True):
        if a and b and a != b:
            return None
    merged = Agreement(*(a or b for a, b in zip(old, agreement, strict=True)))
    return {**agreements, letter: merged}
