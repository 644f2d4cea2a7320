"""Choosing: a filler for every letter of a template, drawn so that verbs, nouns and adjectives suit each other."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from valyrian_jax.language.grammar import Grammar, Pattern, Role
from valyrian_jax.language.lexicon import Lexeme
from valyrian_jax.language.morphology import NUMBERS, TENSES
from valyrian_jax.language.realise import Filled, Filler, Participant
from valyrian_jax.language.vocabulary import (
    NOUN_KINDS,
    Chance,
    Constraints,
    Senses,
    adverbs,
    describing,
    nouns,
    suits,
    verb_uses,
    words,
)

NOT_SENSES = {*NOUN_KINDS, *NUMBERS, "pronoun", "you"}  # what else the line of a participant may say


def fill(
    grammar: Grammar,
    pattern: Pattern,
    chance: Chance,
    given: Mapping[str, Participant],
    tenses: Sequence[str] = (),
) -> Filled | None:
    """Draws the fillers of a pattern.

    Verbs come first, for their frames say what the participants may be; then participants; then all else.

    Args:
        grammar: templates and weights.
        pattern: what to fill.
        chance: the source of chance; advanced.
        given: participants that are settled; the head N makes the pattern a noun phrase.
        tenses: the tenses allowed here; empty = those of the pattern.

    Returns:
        The filled pattern, or None where the choices lead nowhere: draw again.
    """
    allowed = tenses or pattern.tenses or TENSES
    tense = chance.pick_key({name: w for name, w in grammar.weights["tenses"].items() if name in allowed})
    fillers: dict[str, Filler] = dict(given)
    asked: dict[str, Constraints] = {letter: (senses_of(role),) for letter, role in pattern.roles.items()}
    kinds: dict[str, str] = {}
    for letter, role in pattern.roles.items():
        if role.category == "verb":
            frame_kinds, *places = role.arguments
            who = tuple(given[place].referent if place in given else asked[place] for place in places)
            uses = verb_uses(tuple(frame_kinds.split("|")), who)
            if not uses:
                return None
            fillers[letter], kinds[letter], senses = chance.pick_frequent(uses)
            asked |= {place: (*asked[place], own) for place, own in zip(places, senses, strict=False)}
    for letter, role in pattern.roles.items():
        if role.category == "participant" and letter not in given:
            model = next((fillers[a[1:]] for a in role.arguments if a.startswith("=")), None)
            constraints = asked[letter] if model is None or senses_of(role) else asked[_model(role)]
            fillers[letter] = _participant(grammar, role, constraints, chance, model, plain="N" in given)
    optional = {token.name for token in pattern.tokens if token.optional}
    for letter, role in pattern.roles.items():
        if role.category not in ("verb", "participant"):
            left_out = letter in optional and not chance.happens(grammar.weights["chances"]["optional"])
            fillers[letter] = None if left_out else _word(grammar, role, fillers, kinds, tense, chance)
    gaps = [letter for letter, filler in fillers.items() if filler is None and letter not in optional]
    return None if gaps or not _all_different(fillers) else Filled(pattern, fillers, tense)


def senses_of(role: Role) -> Senses:
    """The senses in the line of a participant, without its numbers, parts of speech and references."""
    return tuple(a for a in role.arguments if a not in NOT_SENSES and not a.startswith("="))


def pronoun_for(grammar: Grammar, person: str, number: str, referent: Lexeme, chance: Chance) -> Participant:
    """The personal pronoun of a referent: person "1" to "3", number "sg" or "pl"; the third singular shows gender.

    As a subject it is left out as often as the grammar's chances say.
    """
    third = "ziry" if referent.gender in ("lunar", "solar") else "ūja"
    lemma = {"1sg": "nyke", "2sg": "ao", "3sg": third, "1pl": "īlon", "2pl": "jeme", "3pl": "pōnta"}[person + number]
    silent = chance.happens(grammar.weights["chances"]["silent"])
    return Participant(words((lemma,))[0], number, referent.gender, person, referent, silent)


def _model(role: Role) -> str:
    return next(argument[1:] for argument in role.arguments if argument.startswith("="))


def _all_different(fillers: Mapping[str, Filler]) -> bool:
    """No word stands twice, and no first or second person acts on itself, which would take a reflexive."""
    keys = [filler.lemma for filler in fillers.values() if isinstance(filler, Lexeme)]
    who = [filler for filler in fillers.values() if isinstance(filler, Participant)]
    keys += [p.referent.lemma if p.person == "3" else p.person for p in who]
    return len(set(keys)) == len(keys)


def _participant(
    grammar: Grammar, role: Role, constraints: Constraints, chance: Chance, model: Filler, plain: bool
) -> Participant | None:
    """A participant that meets the constraints and the rest of its line; `plain` = without a phrase around it."""
    if "you" in role.arguments or ("pronoun" in role.arguments and (len(role.arguments) == 1 or chance.happens(0.5))):
        return _speaker(grammar, role, constraints, chance)
    kinds = tuple(kind for kind in NOUN_KINDS if kind in role.arguments) or NOUN_KINDS
    noun = _noun(kinds, constraints, chance)
    if noun is None:
        return None
    who = Participant(noun, _number(grammar, noun, role, chance, model), noun.gender, "3", noun)
    if not role.arguments and not plain and chance.happens(grammar.weights["chances"]["pronoun"]):
        person = chance.pick_key(grammar.weights["persons"])[0] if "person" in noun.senses else "3"
        return pronoun_for(grammar, person, who.agreement, noun, chance)
    return who if plain else _with_phrase(grammar, who, chance)


def _speaker(grammar: Grammar, role: Role, constraints: Constraints, chance: Chance) -> Participant | None:
    """A personal pronoun for somebody not named: any person, or for `you` the second, which is never printed."""
    you = "you" in role.arguments
    persons = {key: w for key, w in grammar.weights["persons"].items() if not you or key[0] == "2"}
    person, number = tuple(chance.pick_key(persons))
    referent = _noun(("noun",), (("folk",),), chance)
    if referent is None or not suits(referent, constraints):
        return None
    who = pronoun_for(grammar, person, {"s": "sg", "p": "pl"}[number], referent, chance)
    return replace(who, silent=who.silent or you)


def _noun(kinds: tuple[str, ...], constraints: Constraints, chance: Chance) -> Lexeme | None:
    """A noun that meets all constraints; the senses of the first list are tried in its order of preference."""
    pools = [pool for sense in constraints[0] or constraints[-1] if (pool := nouns(kinds, ((sense,), *constraints)))]
    return chance.pick_frequent(chance.pick_frequent(pools)) if pools else None


def _number(grammar: Grammar, noun: Lexeme, role: Role, chance: Chance, model: Filler) -> str:
    if "single" in noun.senses or noun.pos != "noun":
        return "sg"
    if isinstance(model, Participant):
        return model.number
    return next((a for a in role.arguments if a in NUMBERS), None) or chance.pick_key(grammar.weights["numbers"])


def _with_phrase(grammar: Grammar, who: Participant, chance: Chance) -> Participant | None:
    """The participant inside one of the noun-phrase shapes that suit it."""

    def suitable(head: Role) -> bool:
        numbers = set(head.arguments) & set(NUMBERS) or {who.number}
        return who.lexeme.pos in head.arguments and who.number in numbers and suits(who.lexeme, (senses_of(head),))

    shapes = [shape for shape in grammar.phrases if suitable(shape.roles["N"])]
    phrase = chance.pick(shapes, [shape.weight for shape in shapes])
    filled = fill(grammar, phrase, chance, {"N": who}, ("present",))
    return None if filled is None else replace(who, phrase=filled)


def _word(
    grammar: Grammar,
    role: Role,
    fillers: Mapping[str, Filler],
    kinds: Mapping[str, str],
    tense: str,
    chance: Chance,
) -> Filler:
    """The filler of a letter that is neither a verb nor a participant."""
    pool: Sequence[Lexeme]
    match role.category:
        case "clause":
            inner = [pattern for pattern in grammar.sentences if pattern.clause in role.arguments]
            tenses = tuple(argument for argument in role.arguments if argument in TENSES)
            return fill(grammar, chance.pick(inner, [pattern.weight for pattern in inner]), chance, {}, tenses)
        case "word":
            pool = words(role.arguments)
        case "manner":
            pool = adverbs("manner", kinds[role.arguments[0]])
        case "time" | "place":
            pool = adverbs(role.category, tense)
        case _:
            noun = fillers[role.arguments[0]]
            pool = describing(role.category, noun.referent.senses, noun.number) if isinstance(noun, Participant) else ()
    return chance.pick_frequent(pool) if pool else None
