"""The conditions on a word in a template: its word class, and agreement with the participants."""

from functools import cache

from valyrian_jax.language.checker.parse_tree import Agreement, Agreements, Parse, Sentence
from valyrian_jax.language.grammar import Role, Template, Token, find_free_adverbs
from valyrian_jax.language.words.analysis import Reading, inflect
from valyrian_jax.language.words.lexicon import Lexeme
from valyrian_jax.language.words.morphology import CASES, NUMBERS, concord_case, concord_number

# The complements that a kind of frame has; all other kinds have none.
_COMPLEMENTS = {
    "transitive": ("object",),
    "have": ("object",),
    "tool": ("object",),
    "benefit": ("object",),
    "give": ("dative and object", "object"),
    "likes": ("dative",),
    "wish": ("infinitive",),
    "copula": ("predicate",),
    "located": ("place",),
}
_NO_COMPLEMENT = ("nothing",)


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
        case "word":
            is_case = reading.case in ("", "nom", "acc", "voc")  # as in emphasis or after a pronoun
            matches = is_case and reading.lexeme.lemma in role.arguments
        case "time":
            tenses = reading.lexeme.frame.split()
            fits_tense = not (sentence.check_tense and tenses and suffix.tense)
            # What goes with the perfect goes with the tenses that are made of it.
            is_perfect = suffix.tense in ("pluperfect", "past habitual") and "perfect" in tenses
            fits_tense = fits_tense or is_perfect or suffix.tense in tenses
            matches = _is_adverb(reading, "time") and fits_tense
        case "byname":
            is_name = reading.lexeme.pos == "name" and reading.lexeme.paradigm == "indecl"
            is_genitive = reading.lexeme.pos == "noun" and reading.case == "gen"
            word = sentence.words[suffix.start - 1]
            matches = word[:1].isupper() and (is_genitive or is_name)
        case "adverb":
            free = find_free_adverbs(sentence.grammar)
            lemmas = role.arguments or free
            matches = reading.lexeme.lemma in lemmas and reading.lexeme.lemma in free
        case _:
            matches = _is_adverb(reading, role.category)
    return suffix.agreements if matches else None


def _is_adverb(reading: Reading, sense: str) -> bool:
    return reading.word_class == "word" and sense in reading.lexeme.senses


def _match_head(role: Role, reading: Reading, suffix: Parse) -> Agreements | None:
    """Match the noun N of a phrase."""
    lexeme, numbers = reading.lexeme, set(role.arguments) & set(NUMBERS)
    if lexeme.lemma == "lua" and lexeme.lemma in role.arguments and reading.position == "full":
        return unify(
            suffix.agreements, "N", Agreement(reading.gender, reading.number, "3", reading.case)
        )
    if reading.word_class != "noun" or not {lexeme.pos, lexeme.lemma} & {*role.arguments}:
        return None
    if f"-{lexeme.lemma}" in role.arguments:
        return None
    cases = set(role.arguments) & set(CASES)
    if (numbers and reading.number not in numbers) or (cases and reading.case not in cases):
        return None
    if lexeme.pos == "pron" and reading.number not in ("sg", "pl"):
        return None
    number, case = concord_number(reading.number), concord_case(lexeme, reading.case)
    if case == "acc" and number == "pl" and suffix.agreements.get("N", Agreement()).case == "nom":
        # The adjective after it may show the nominative if the noun has one form (brōza jevi).
        same = (r for r in inflect(lexeme) if r.text == reading.text and r.case == "nom")
        case = "nom" if any(r.number == reading.number for r in same) else case
    return unify(suffix.agreements, "N", Agreement(lexeme.gender, number, reading.person, case))


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
    """Test whether a verb has one of the complements that the required kinds of frames have."""
    return not _required_complements(role.arguments[0]).isdisjoint(_complements_of(reading.lexeme))


@cache
def _required_complements(kinds: str) -> frozenset[str]:
    """Return the complements that kinds of frames stand for; `=kind`, verbs and `any` are exact."""
    return frozenset(
        kind
        if kind == "any" or kind[0] == "=" or kind.endswith("gon")
        else _COMPLEMENTS.get(kind, _NO_COMPLEMENT)[0]
        for kind in kinds.split("|")
    )


@cache
def _complements_of(verb: Lexeme) -> frozenset[str]:
    """Return the complements of a verb in all its frames, and its exact kinds."""
    kinds = [frame.split()[0] for frame in verb.frame.split(";") if frame]
    complements = {c for kind in kinds for c in _COMPLEMENTS.get(kind, _NO_COMPLEMENT)}
    if not kinds:  # The complement of this verb is not known.
        complements = {"nothing", "object", "dative", "dative and object", "place"}
    if "speak" in kinds:
        complements.add("object")
    if "predicate" not in complements:
        complements.add("any")
    return frozenset((*complements, verb.lemma, *(f"={kind}" for kind in kinds)))


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
    # A numeral says which number its noun has.
    if reading.lexeme.pos == "num" and reading.number not in (reading.lexeme.frame or "sg pl"):
        return None
    following = sentence.words[suffix.start] if suffix.start < len(sentence.words) else ""
    if reading.position != template.modifier_position(index, following):
        return None
    cases = [other.features[:1] for other in template.tokens if other.name == target]
    if target != "N" and (reading.case,) not in (cases or [("nom",)]):
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
