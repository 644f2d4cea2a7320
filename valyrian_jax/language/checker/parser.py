"""From words to a parse: the templates of `grammar.toml` read backwards, from the last word to the first.

The verb, which says most, stands last, and a phrase inside a phrase stands before its noun; so matching from the end
meets the head before what depends on it, and every phrase inside ends earlier: the search always comes to an end.

Only grammar is judged: what the generator's frequencies, senses and preferred tenses say is not looked at.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from valyrian_jax.language.generator.vocabulary import NOUN_KINDS
from valyrian_jax.language.grammar import Grammar, Pattern, Role, Token
from valyrian_jax.language.words.analysis import Reading
from valyrian_jax.language.words.morphology import NUMBERS, VOWELS, concord_case

FINAL = {".": ".!?", "!": "!.", "?": "?"}  # the marks that may stand where a template has one

# What a template's verb must take, by the kind of frame it asks for; and what verbs with other frames may take too, for
# an object may be left out.
_NEEDS = {
    "transitive": "object",
    "have": "object",
    "tool": "object",
    "benefit": "object",
    "give": "dative and object",
    "likes": "dative",
    "wish": "infinitive",
    "copula": "predicate",
    "located": "place",
}  # all others: nothing
_ALSO = {
    "object": {"nothing"},
    "dative and object": {"object", "nothing"},
    "dative": {"nothing"},
    "place": {"nothing"},
}


class Agreement(NamedTuple):
    """What is known of a participant; "" = not yet. `case` is the one that adjectives show."""

    gender: str = ""
    number: str = ""  # sg or pl
    person: str = ""
    case: str = ""


class Leaf(NamedTuple):
    """A word in a parse: where it stands, what it is read as, and the place that it fills."""

    place: int
    reading: Reading | None  # None: punctuation and words that the template itself spells out
    token: Token
    pattern: Pattern


class Parse(NamedTuple):
    """A match of a template with the words from `start` to the end that was asked for."""

    start: int
    bound: Mapping[str, Agreement]  # letter -> agreement
    leaves: tuple[Leaf, ...]
    tense: str = ""


class Phrase(NamedTuple):
    """A noun phrase that ends at a known place."""

    start: int
    case: str
    agreement: Agreement
    pos: str
    number: str
    joined: bool
    leaves: tuple[Leaf, ...]


@dataclass
class Sentence:
    """Words with their readings, and what has been found in them so far.

    Attributes:
        words: words and punctuation marks; the first without its capital unless it is a name.
        readings: of each word; none of a punctuation mark.
    """

    grammar: Grammar
    words: Sequence[str]
    readings: Sequence[Sequence[Reading]]
    tense_matters: bool = True
    phrases: dict[int, list[Phrase]] = field(default_factory=dict)


def parse(sentence: Sentence) -> Parse | None:
    """The first parse of the whole sentence, in the order of the templates; None: there is none."""
    present = {*sentence.words, *FINAL}
    for pattern in sentence.grammar.sentences:
        if not present.issuperset(token.name for token in pattern.tokens if not token.is_letter):
            continue
        for found in _match(
            sentence, pattern, len(pattern.tokens), Parse(len(sentence.words), {}, ())
        ):
            if found.start == 0 and _predicates_agree(pattern, found):
                return found
    return None


def _match(sentence: Sentence, pattern: Pattern, count: int, right: Parse) -> Iterator[Parse]:
    """All ways to match the first `count` tokens of a pattern with words that end where `right` starts."""
    if count == 0:
        yield right
        return
    token = pattern.tokens[count - 1]
    for found in _extend(sentence, pattern, count - 1, token, right):
        yield from _match(sentence, pattern, count - 1, found)


def _extend(
    sentence: Sentence, pattern: Pattern, index: int, token: Token, right: Parse
) -> Iterator[Parse]:
    """All ways to match one token with words that end where `right` starts."""
    role, end = pattern.roles.get(token.name), right.start
    if token.optional:
        yield right
    if role is None:
        if end and sentence.words[end - 1] in FINAL.get(token.name, (token.name,)):
            yield _with(right, Leaf(end - 1, None, token, pattern))
    elif role.category == "clause":
        for inner in sentence.grammar.sentences:
            if inner.clause in role.arguments:
                found = _match(sentence, inner, len(inner.tokens) - 1, Parse(end, {}, right.leaves))
                yield from (
                    Parse(f.start, right.bound, f.leaves)
                    for f in found
                    if _predicates_agree(inner, f)
                )
    elif role.category == "participant" and token.features:
        yield from _participant(sentence, pattern, token, role, right)
    elif end:
        for reading in sentence.readings[end - 1]:
            ends_phrase = (
                "N" in pattern.roles and index == len(pattern.tokens) - 1
            )  # the sentence says if it is joined
            if reading.joined != token.joined and not ends_phrase:
                continue
            if (bound := _fits(sentence, pattern, index, reading, right)) is not None:
                tense = (
                    reading.tense if reading.mood != "infinitive" and reading.tense else right.tense
                )
                grown = _with(right, Leaf(end - 1, reading, token, pattern))
                yield Parse(grown.start, bound, grown.leaves, tense)


def _with(right: Parse, leaf: Leaf) -> Parse:
    return Parse(leaf.place, right.bound, (leaf, *right.leaves), right.tense)


def _participant(
    sentence: Sentence, pattern: Pattern, token: Token, role: Role, right: Parse
) -> Iterator[Parse]:
    """A noun phrase in the case of the token; nothing, where a subject pronoun may be left out."""
    kinds = set(role.arguments) & set(NOUN_KINDS)
    numbers = set(role.arguments) & set(NUMBERS)
    case = token.features[0]
    if (
        case == "nom"
        and not kinds
        and not numbers
        and not token.joined
        and _has_subject_verb(pattern, token.name)
    ):
        yield right
    for phrase in phrases_ending(sentence, right.start):
        if phrase.case != case or phrase.joined != token.joined:
            continue
        if (kinds and phrase.pos not in kinds) or (numbers and phrase.number not in numbers):
            continue
        agreement = phrase.agreement
        if (bound := _bind(right.bound, token.name, agreement)) is not None:
            yield Parse(phrase.start, bound, (*phrase.leaves, *right.leaves), right.tense)


def phrases_ending(sentence: Sentence, end: int) -> list[Phrase]:
    """The noun phrases whose last word stands before position `end`."""
    if end not in sentence.phrases:
        found: dict[tuple[object, ...], Phrase] = {}
        for pattern in sentence.grammar.phrases if end else ():
            for match in _match(sentence, pattern, len(pattern.tokens), Parse(end, {}, ())):
                head = next(
                    leaf.reading
                    for leaf in match.leaves
                    if leaf.token.name == "N" and leaf.pattern is pattern
                )
                assert head is not None
                last = match.leaves[-1].reading
                phrase = Phrase(
                    match.start,
                    head.case,
                    match.bound["N"],
                    head.lexeme.pos,
                    head.number,
                    last is not None and last.joined,
                    match.leaves,
                )
                found.setdefault(phrase[:-1], phrase)
        sentence.phrases[end] = list(found.values())
    return sentence.phrases[end]


def _fits(
    sentence: Sentence, pattern: Pattern, index: int, reading: Reading, right: Parse
) -> Mapping[str, Agreement] | None:
    """What is known of the participants if this token is read so; None if it cannot be."""
    token, role = pattern.tokens[index], pattern.roles[pattern.tokens[index].name]
    match role.category:
        case "participant":
            return _head(reading, role, right)
        case "verb":
            return _verb(token, role, reading, right)
        case "word" | "adj" | "det" | "num" if token.features:
            return _agreeing(sentence, pattern, index, reading, right)
        case "word":
            return right.bound if reading.lexeme.lemma in role.arguments else None
        case "time" if reading.kind == "word":
            tenses = reading.lexeme.frame.split()
            goes = not sentence.tense_matters or not tenses or right.tense in tenses
            return right.bound if "time" in reading.lexeme.senses and goes else None
        case _ if reading.kind == "word":
            return right.bound if role.category in reading.lexeme.senses else None
    return None


def _head(reading: Reading, role: Role, right: Parse) -> Mapping[str, Agreement] | None:
    """The noun N of a phrase."""
    numbers = set(role.arguments) & set(NUMBERS)
    if reading.kind != "noun" or reading.lexeme.pos not in role.arguments:
        return None
    if numbers and reading.number not in numbers:
        return None
    number = "sg" if reading.number in ("sg", "collective") else "pl"
    gender = "" if reading.lexeme.gender == "" else reading.lexeme.gender
    case = concord_case(reading.lexeme, reading.case)
    return _bind(right.bound, "N", Agreement(gender, number, reading.person, case))


def _verb(
    token: Token, role: Role, reading: Reading, right: Parse
) -> Mapping[str, Agreement] | None:
    """A verb of the right kind in the right mood, agreeing with its subject."""
    target = token.features[0]
    mood = "infinitive" if target == "infinitive" else [*token.features, "indicative"][1]
    if reading.kind != "verb" or reading.mood != mood or not _has_frame(reading, role):
        return None
    if mood == "infinitive":
        return right.bound
    if len(target) == 2:  # a person, not a participant
        return right.bound if target == reading.person + reading.number[0] else None
    person = "" if mood == "imperative" else reading.person  # the vocative noun is who must act
    return _bind(right.bound, target, Agreement("", reading.number, person))


def _has_frame(reading: Reading, role: Role) -> bool:
    kinds = [frame.split()[0] for frame in reading.lexeme.frame.split(";") if frame]
    needed = {_NEEDS.get(kind, "nothing") for kind in role.arguments[0].split("|")}
    if not kinds:  # nothing is known of what it takes
        return not needed <= {"predicate", "infinitive"}
    takes = {_NEEDS.get(kind, "nothing") for kind in kinds} | (
        {"object"} if "speak" in kinds else set()
    )
    return bool(needed & takes.union(*(_ALSO.get(taken, set()) for taken in takes)))


def _agreeing(
    sentence: Sentence, pattern: Pattern, index: int, reading: Reading, right: Parse
) -> Mapping[str, Agreement] | None:
    """An adjective, determiner, numeral or relative, in the position that it has and agreeing with its noun."""
    role, target = pattern.roles[pattern.tokens[index].name], pattern.tokens[index].features[0]
    if reading.kind != "adjective":
        return None
    if role.category == "word" and reading.lexeme.lemma not in role.arguments:
        return None
    if role.category != "word" and (
        reading.lexeme.pos != role.category or reading.lexeme.lemma == "lua"
    ):
        return None
    if (
        role.arguments[1:]
        and role.category != "word"
        and reading.lexeme.lemma not in role.arguments[1:]
    ):
        return None
    position = "full"
    if any(later.name == target for later in pattern.tokens[index:]):
        following = sentence.words[right.start] if right.start < len(sentence.words) else ""
        position = "prevocalic" if following[:1].lower() in VOWELS else "prepositive"
    if reading.position != position:
        return None
    case = reading.case
    if target != "N" and not any(
        token.name == target and token.features[:1] == (case,) for token in pattern.tokens
    ):
        return None
    return _bind(right.bound, target, Agreement(reading.gender, reading.number, "", case))


def _bind(
    bound: Mapping[str, Agreement], letter: str, new: Agreement
) -> Mapping[str, Agreement] | None:
    """What is known of a participant with something more; None if they contradict each other."""
    old = bound.get(letter, Agreement())
    merged = []
    for known, said in zip(old, new, strict=True):
        if known and said and known != said:
            return None
        merged.append(known or said)
    return {**bound, letter: Agreement(*merged)}


def _has_subject_verb(pattern: Pattern, letter: str) -> bool:
    """Whether a verb shows the person of this participant, so that its pronoun may be left out."""
    agreeing = (token for token in pattern.tokens if token.features[:1] == (letter,))
    return any(pattern.roles[token.name].category == "verb" for token in agreeing)


def _predicates_agree(pattern: Pattern, found: Parse) -> bool:
    """Whether predicate nouns (`=x`, not joined) have the number of their subject."""
    for letter, role in pattern.roles.items():
        model = next((a[1:] for a in role.arguments if a.startswith("=")), None)
        joined = any(token.name == letter and token.joined for token in pattern.tokens)
        if model and not joined:
            numbers = {
                found.bound[name].number for name in (letter, model) if name in found.bound
            } - {""}
            if len(numbers) > 1:
                return False
    return True
