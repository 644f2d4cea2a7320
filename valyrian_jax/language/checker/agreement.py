"""The conditions on a word in a template: its word class, and agreement with the participants."""

from valyrian_jax.language.checker.parse_tree import Agreement, Agreements, Parse, Sentence
from valyrian_jax.language.grammar import Role, Template, Token
from valyrian_jax.language.words.analysis import Reading
from valyrian_jax.language.words.morphology import NUMBERS, concord_case, concord_number

# The complement that a kind of frame has; all other kinds have none.
_COMPLEMENTS = {
    "transitive": "object",
    "have": "object",
    "tool": "object",
    "benefit": "object",
    "give": "dative and object",
    "likes": "dative",
    "wish": "infinitive",
    "copula": "predicate",
    "located": "place",
}
# What else a verb with this complement accepts, because an object can be omitted.
_REDUCED_COMPLEMENTS = {
    "object": {"nothing"},
    "dative and object": {"object", "nothing"},
    "dative": {"nothing"},
    "place": {"nothing"},
}


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
        case "word" | "adj" | "det" | "num" if token.features:
            return _match_modifier(sentence, template, index, reading, suffix)
        case "word":
            matches = reading.lexeme.lemma in role.arguments
        case "time":
            tenses = reading.lexeme.frame.split()
            fits_tense = not sentence.check_tense or not tenses or suffix.tense in tenses
            matches = _is_adverb(reading, "time") and fits_tense
        case _:
            matches = _is_adverb(reading, role.category)
    return suffix.agreements if matches else None


def _is_adverb(reading: Reading, sense: str) -> bool:
    return reading.word_class == "word" and sense in reading.lexeme.senses


def _match_head(role: Role, reading: Reading, suffix: Parse) -> Agreements | None:
    """Match the noun N of a phrase."""
    lexeme, numbers = reading.lexeme, set(role.arguments) & set(NUMBERS)
    if reading.word_class != "noun" or lexeme.pos not in role.arguments:
        return None
    if numbers and reading.number not in numbers:
        return None
    number, case = concord_number(reading.number), concord_case(lexeme, reading.case)
    return unify(suffix.agreements, "N", Agreement(lexeme.gender, number, reading.person, case))


def _match_verb(token: Token, role: Role, reading: Reading, suffix: Parse) -> Agreements | None:
    """Match a verb of the required kind and mood that agrees with its subject."""
    target = token.features[0]
    mood = "infinitive" if target == "infinitive" else [*token.features, "indicative"][1]
    if reading.word_class != "verb" or reading.mood != mood or not _has_frame(reading, role):
        return None
    if mood == "infinitive":
        return suffix.agreements
    if len(target) == 2:  # A person, not a participant.
        return suffix.agreements if target == reading.person + reading.number[0] else None
    # The subject of a command is a vocative noun, which is in the third person.
    person = "" if mood == "imperative" else reading.person
    return unify(suffix.agreements, target, Agreement("", reading.number, person))


def _has_frame(reading: Reading, role: Role) -> bool:
    kinds = [frame.split()[0] for frame in reading.lexeme.frame.split(";") if frame]
    required = {_COMPLEMENTS.get(kind, "nothing") for kind in role.arguments[0].split("|")}
    if not kinds:  # The complement of this verb is not known.
        return not required <= {"predicate", "infinitive"}
    accepted = {_COMPLEMENTS.get(kind, "nothing") for kind in kinds}
    if "speak" in kinds:
        accepted.add("object")
    accepted = accepted.union(*(_REDUCED_COMPLEMENTS.get(name, ()) for name in accepted))
    return not required.isdisjoint(accepted)


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
        is_allowed = reading.lexeme.pos == role.category and lemma != "lua" and lemma in lemmas
    if reading.word_class != "adjective" or not is_allowed:
        return None
    following = sentence.words[suffix.start] if suffix.start < len(sentence.words) else ""
    if reading.position != template.modifier_position(index, following):
        return None
    if target != "N" and not any(
        token.name == target and token.features[:1] == (reading.case,) for token in template.tokens
    ):
        return None
    agreement = Agreement(reading.gender, reading.number, "", reading.case)
    return unify(suffix.agreements, target, agreement)


def unify(agreements: Agreements, letter: str, agreement: Agreement) -> Agreements | None:
    """Add features to a participant; return None if they contradict those it has."""
    old = agreements.get(letter, Agreement())
    if any(a and b and a != b for a, b in zip(old, agreement, strict=True)):
        return None
    merged = Agreement(*(a or b for a, b in zip(old, agreement, strict=True)))
    return {**agreements, letter: merged}
