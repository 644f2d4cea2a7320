"""From a template to words: verbs, participants and all else are drawn so that they suit each other and agree.

Every choice goes through `Chance`, and is made among what can be printed, so that (dead ends apart, which are rare and
counted) the probability of a sentence is the product of its choices.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from valyrian_jax.language.chance import Chance, DeadEndError
from valyrian_jax.language.grammar import Grammar, Pattern, Role, Token
from valyrian_jax.language.lexicon import Lexeme
from valyrian_jax.language.morphology import (
    NO_PERSON,
    NUMBERS,
    PERSONS,
    TENSES,
    VOWELS,
    concord_case,
    conjugate,
    decline,
    inflect_adjective,
    lengthen_last_vowel,
)
from valyrian_jax.language.vocabulary import (
    NOUN_KINDS,
    Constraints,
    Open,
    Senses,
    Use,
    Word,
    adverbs,
    describing,
    fitting_verbs,
    frequencies,
    nouns,
    numbers_of,
    persons_of,
    suits,
    unused,
    words,
)

NOT_SENSES = {*NOUN_KINDS, *NUMBERS, "pronoun", "you"}  # what else the line of a participant may say
PRONOUNS = {"1sg": "nyke", "2sg": "ao", "1pl": "īlon", "2pl": "jeme", "3pl": "pōnta"}


@dataclass(frozen=True)
class Participant:
    """Somebody or something a sentence speaks of.

    Attributes:
        referent: the noun or name; for I and you the word for a person.
        number: sg, pl, paucal or collective.
        gender: what adjectives agree with.
        person: "1", "2" or "3".
        head: the word that stands for it here: the referent or a pronoun.
        words: how it is printed here; empty if it is left out.
    """

    referent: Lexeme
    number: str
    gender: str
    person: str
    head: Lexeme
    words: tuple[str, ...] = ()

    @property
    def agreement(self) -> str:
        """The number of words that agree: singular with collectives, plural with paucals (Najahho, "Number")."""
        return "sg" if self.number in ("sg", "collective") else "pl"

    @property
    def verb_person(self) -> str:
        """The person of a verb whose subject this is, such as 3s."""
        return self.person + self.agreement[0]

    @property
    def mark(self) -> str:
        """What may stand in a sentence only once: the noun, or the person of I, you and we."""
        return self.referent.lemma if self.person == "3" else self.person


@dataclass(frozen=True)
class Scene:
    """What a sentence may go on about: its usual tense (that of its first sentence), whom it is about, and what else it
    spoke of last.
    """

    tense: str = ""
    topic: Participant | None = None
    other: Participant | None = None


@dataclass
class Draft:
    """A pattern while it is being filled."""

    grammar: Grammar
    pattern: Pattern
    chance: Chance
    used: set[str]  # marks of participants and lemmas of other words in the sentence so far
    head_case: str = "nom"  # of the noun N, if the pattern is a noun phrase
    depth: int = 0  # phrases around this one
    tense: str = ""
    fillers: dict[str, Participant] = field(default_factory=dict)
    verbs: dict[str, Use] = field(default_factory=dict)
    clauses: dict[str, list[str]] = field(default_factory=dict)

    def probability(self, name: str) -> float:
        return self.grammar.weights["chances"][name]

    def printed(self, letter: str) -> Token | None:
        """Where a participant is printed, if it is."""
        return next((t for t in self.pattern.tokens if t.name == letter), None)

    def case(self, letter: str) -> str:
        """The case of a participant; the nominative if it is not printed."""
        token = self.printed(letter)
        return token.features[0] if token and token.features else self.head_case


def fill(draft: Draft, scene: Scene, tenses: tuple[str, ...] = ()) -> tuple[list[str], Scene]:
    """Draws everything that a pattern leaves open.

    Verbs come first, for their frames say what the participants may be; then participants; then, from the last word
    to the first, all else, for a short adjective depends on the word that follows it.

    Args:
        draft: the pattern, and N if it is a noun phrase; filled on return.
        scene: what the sentence may go on about.
        tenses: the tenses allowed here; empty = those of the pattern.

    Returns:
        The words and punctuation marks, and the scene after them.

    Raises:
        DeadEndError: the choices lead nowhere.
    """
    verbs = _verbs(draft.pattern)
    if verbs:
        draft.tense = draft.chance.pick_key(_tenses(draft, scene, verbs, tenses))
        _go_on(draft, scene, verbs)
    for letter, role in verbs.items():
        fitting = _fitting(draft, letter, role)
        draft.verbs[letter] = draft.chance.pick(fitting, frequencies(len(fitting)))
        draft.used.add(draft.verbs[letter].verb.lemma)
        draft.chance.will_say(_possible_forms(draft, letter))
    for letter, role in draft.pattern.roles.items():
        if role.category == "participant" and letter not in draft.fillers:
            if draft.printed(letter) or "you" in role.arguments:
                draft.fillers[letter] = _participant(draft, letter, role, scene)
                draft.used.add(draft.fillers[letter].mark)
                _announce(draft, letter)
        elif role.category == "clause":
            draft.clauses[letter], scene = _clause(draft, role, scene)
    printed: list[str] = []
    for index in range(len(draft.pattern.tokens) - 1, -1, -1):
        printed[:0] = _print(draft, index, printed[0] if printed else "")
    return printed, _scene_after(draft, scene)


def senses_of(role: Role) -> Senses:
    """The senses in the line of a participant, without its numbers, parts of speech and references."""
    return tuple(a for a in role.arguments if a not in NOT_SENSES and not a.startswith("="))


# ------------------------------------------------------------------------------------------------------ verbs


def _verbs(pattern: Pattern) -> dict[str, Role]:
    return {letter: role for letter, role in pattern.roles.items() if role.category == "verb"}


def _tenses(draft: Draft, scene: Scene, verbs: dict[str, Role], asked: tuple[str, ...] = ()) -> dict[str, float]:
    """The weights of the tenses in which there are verbs for this pattern, the usual tense of the scene first."""
    stay = draft.probability("same_tense") if scene.tense else 0.0
    table = draft.grammar.weights["tenses"]
    weights = {}
    for tense in asked or draft.pattern.tenses or TENSES:
        draft.tense = tense
        if all(_fitting(draft, letter, role) for letter, role in verbs.items()):
            weights[tense] = (1 - stay) * table[tense] / sum(table.values()) + stay * (tense == scene.tense)
    return weights


def _go_on(draft: Draft, scene: Scene, verbs: dict[str, Role]) -> None:
    """Makes the topic of the text, or what it spoke of last, the subject x, where chance and the pattern allow it."""
    role = draft.pattern.roles.get("x")
    if role is None or {"pronoun", "you", *NOUN_KINDS, *NUMBERS} & set(role.arguments):
        return
    choices: list[Participant | None] = [None]
    weights = [1 - draft.probability("topic") - draft.probability("other")]
    for name, who in (("topic", scene.topic), ("other", scene.other)):
        if who and suits(who.referent, (senses_of(role),)):
            draft.fillers["x"] = who
            if all(_fitting(draft, letter, role) for letter, role in verbs.items()):
                choices.append(who)
                weights.append(draft.probability(name))
            del draft.fillers["x"]
    who = draft.chance.pick(choices, weights)
    if who:
        case = draft.case("x")
        draft.fillers["x"] = _again(draft, who, case)
        draft.used.add(who.mark)
        _announce(draft, "x")


def _fitting(draft: Draft, letter: str, role: Role) -> list[Use]:
    """The verbs that can stand for a letter: with places for its participants, and a sure form for the subject."""
    kinds, *letters = role.arguments
    target, mood = _target(draft, letter)
    persons = frozenset(PERSONS)
    if target in draft.fillers:
        persons = frozenset({draft.fillers[target].verb_person})
    elif target in draft.pattern.roles:
        persons = _possible_persons(draft.pattern.roles[target], mood)
    elif mood != "infinitive":
        persons = frozenset({target})
    places = tuple(_place(draft, place) for place in letters)
    uses = fitting_verbs(tuple(kinds.split("|")), places, draft.tense, mood, persons)
    return [use for use in uses if use.verb.lemma not in draft.used]


def _target(draft: Draft, letter: str) -> tuple[str, str]:
    """Whom the verb agrees with (a participant, or a person such as 3s), and its mood."""
    token = next(token for token in draft.pattern.tokens if token.name == letter)
    if token.features == ("infinitive",):
        return "", "infinitive"
    return token.features[0], token.features[1] if len(token.features) > 1 else "indicative"


def _place(draft: Draft, letter: str) -> Senses | Open:
    """A participant, as far as it matters to a verb."""
    if letter in draft.fillers:
        return draft.fillers[letter].referent.senses
    role = draft.pattern.roles[letter]
    return Open(_kinds(role), (senses_of(role), *_asked(draft, letter)), draft.case(letter))


def _possible_forms(draft: Draft, letter: str) -> Iterator[str]:
    """The forms of which a verb will have one, whoever its subject is."""
    forms, (_, mood) = conjugate(draft.verbs[letter].verb), _target(draft, letter)
    if mood == "infinitive":
        yield forms["present", mood, NO_PERSON].text
    else:
        found = (forms.get((draft.tense, mood, person)) for person in PERSONS)
        yield from (form.text for form in found if form)


def _possible_persons(role: Role, mood: str) -> frozenset[str]:
    """The persons that a participant may turn out to be."""
    if mood == "imperative":
        return frozenset(("2s", "2p"))
    if "pronoun" in role.arguments:
        return frozenset(PERSONS)
    numbers = set(role.arguments) & set(NUMBERS)
    singular, plural = not numbers or numbers & {"sg", "collective"}, not numbers or numbers & {"pl", "paucal"}
    return frozenset((*(("3s",) if singular else ()), *(("3p",) if plural else ())))


def _asked(draft: Draft, letter: str) -> Constraints:
    """What the verbs that are settled ask of a participant."""
    asked = []
    for verb, use in draft.verbs.items():
        places = draft.pattern.roles[verb].arguments[1:]
        asked += [senses for place, senses in zip(places, use.places, strict=False) if place == letter]
    return tuple(asked)


# ------------------------------------------------------------------------------------------------ participants


def _participant(draft: Draft, letter: str, role: Role, scene: Scene) -> Participant:
    """A participant that meets its line, the verbs' frames and their forms."""
    chance, case = draft.chance, draft.case(letter)
    model = next((a[1:] for a in role.arguments if a.startswith("=")), letter)
    constraints = (senses_of(role), *_asked(draft, model))
    if model != letter and not senses_of(role):
        constraints = (senses_of(draft.pattern.roles[model]), *constraints)
    persons = _persons_asked(draft, letter)
    free = not role.arguments and draft.depth == 0
    other = scene.other
    known = free and case != "nom" and other and other.mark not in draft.used and suits(other.referent, constraints)
    if known and other and chance.happens(draft.probability("other_pronoun")):
        return _pronoun(other, case)
    speakers = _speakers(draft, persons) if suits(_someone(), constraints) else {}
    if "you" in role.arguments:
        return _speaker(draft, case, {p: w for p, w in speakers.items() if p[0] == "2"}, silent=True)
    mixed = "pronoun" in role.arguments and len(role.arguments) > 1
    maybe = speakers and (free or mixed)
    if (speakers and role.arguments == ("pronoun",)) or (maybe and chance.happens(draft.probability("pronoun"))):
        return _speaker(draft, case, speakers, silent=case == "nom")
    allowed = tuple(a for a in role.arguments if a in NUMBERS) or NUMBERS
    if model != letter:
        allowed = (draft.fillers[model].number,)
    third = "2" if case == "voc" else "3"  # the vocative noun is who must act
    numbers = tuple(n for n in allowed if third + ("s" if n in ("sg", "collective") else "p") in persons)
    token = draft.printed(letter)
    joined = token is not None and token.joined
    pool = unused(*nouns(_kinds(role), constraints, case, numbers, joined), draft.used)
    noun = chance.pick(list(pool), list(pool.values()))
    forms = [form for form in numbers_of(noun, case, joined) if form.cell in numbers]
    table = draft.grammar.weights["numbers"]
    form = chance.pick(forms, [table[form.cell] for form in forms])
    who = Participant(noun, form.cell, noun.gender, "3", noun, (form.text,))
    return Participant(**{**vars(who), "words": _phrase(draft, who, case)})


def _announce(draft: Draft, letter: str) -> None:
    """Says that a participant's words will be printed, as far as they will be printed unchanged."""
    token, printed = draft.printed(letter), draft.fillers[letter].words
    if printed and token and not token.joined:
        draft.chance.will_say((" ".join(printed),))


def _kinds(role: Role) -> tuple[str, ...]:
    return tuple(kind for kind in NOUN_KINDS if kind in role.arguments) or NOUN_KINDS


def _persons_asked(draft: Draft, letter: str) -> frozenset[str]:
    """The persons for which all verbs that agree with a participant have a sure form."""
    persons = frozenset(PERSONS)
    for verb, use in draft.verbs.items():
        target, mood = _target(draft, verb)
        if target == letter:
            persons &= persons_of(use.verb, draft.tense, mood)
    return persons


def _someone() -> Lexeme:
    return words(("issaros",))[0]  # I, you and we are persons


def _speakers(draft: Draft, persons: frozenset[str]) -> dict[str, float]:
    """The weights of I, you, we, as far as the verb has the form and they are not in the sentence yet."""
    table = draft.grammar.weights["persons"]
    return {p: w for p, w in table.items() if p in persons and p[0] not in draft.used}


def _speaker(draft: Draft, case: str, speakers: dict[str, float], silent: bool) -> Participant:
    person, letter = tuple(draft.chance.pick_key(speakers) if speakers else draft.chance.pick((), ()))
    who = Participant(_someone(), {"s": "sg", "p": "pl"}[letter], "lunar", person, _someone())
    if silent and ("you" in _arguments(draft) or draft.chance.happens(draft.probability("silent"))):
        return who
    return _pronoun(who, case)


def _arguments(draft: Draft) -> set[str]:
    return {argument for role in draft.pattern.roles.values() for argument in role.arguments}


def _again(draft: Draft, who: Participant, case: str) -> Participant:
    """Somebody known as a subject: left out, a pronoun, or named again."""
    named = decline(who.referent).get((case, who.number)) if who.person == "3" else None
    if named and named.sure and draft.chance.happens(draft.probability("named_again")):
        return Participant(**{**vars(who), "head": who.referent, "words": (named.text,)})
    if draft.chance.happens(draft.probability("silent")):
        return Participant(**{**vars(who), "words": ()})
    return _pronoun(who, case)


def _pronoun(who: Participant, case: str) -> Participant:
    """Somebody as a personal pronoun; only the third person singular shows gender."""
    third = "ziry" if who.gender in ("lunar", "solar") else "ūja"
    pronoun = words((PRONOUNS.get(who.person + who.agreement, third),))[0]
    form = decline(pronoun)[case, who.agreement]
    return Participant(**{**vars(who), "head": pronoun, "words": (form.text,)})


def _phrase(draft: Draft, who: Participant, case: str) -> tuple[str, ...]:
    """The noun inside one of the phrases that suit it; phrases inside phrases are mostly the noun alone."""
    if draft.depth and (draft.depth > 1 or not draft.chance.happens(draft.probability("nested"))):
        return who.words
    drafts = [
        Draft(draft.grammar, shape, draft.chance, {*draft.used, who.mark}, case, draft.depth + 1, fillers={"N": who})
        for shape in draft.grammar.phrases
    ]
    drafts = [inner for inner in drafts if _is_possible(inner, who)]
    inner = draft.chance.pick(drafts, [inner.pattern.weight for inner in drafts])
    printed, _ = fill(inner, Scene())
    draft.used |= inner.used
    return tuple(printed)


def _is_possible(draft: Draft, who: Participant) -> bool:
    """Whether a phrase is meant for a noun like this, and has sure forms to agree with it."""
    shape, head = draft.pattern, draft.pattern.roles["N"]
    if who.head.pos not in head.arguments or not suits(who.referent, (senses_of(head),)):
        return False
    if who.number not in (set(head.arguments) & set(NUMBERS) or {who.number}):
        return False
    verbs = _verbs(shape)
    if verbs and (draft.depth > 1 or draft.head_case == "voc" or not _tenses(draft, Scene(), verbs)):
        return False
    agreeing = [i for i, t in enumerate(shape.tokens) if t.features[:1] == ("N",) and t.name not in verbs]
    return all(_agreeing(draft, index, who.words[0]) for index in agreeing)


# --------------------------------------------------------------------------------------------------- all else


def _clause(draft: Draft, role: Role, scene: Scene) -> tuple[list[str], Scene]:
    """A whole sentence inside the sentence, without its punctuation, and the scene after it."""
    inner = [pattern for pattern in draft.grammar.sentences if pattern.clause in role.arguments]
    tenses = tuple(argument for argument in role.arguments if argument in TENSES)
    pattern = draft.chance.pick(inner, [pattern.weight for pattern in inner])
    clause = Draft(draft.grammar, pattern, draft.chance, set())
    printed, scene = fill(clause, scene, tenses)
    draft.chance.will_say((" ".join(printed[:-1]),))
    return printed[:-1], scene


def _print(draft: Draft, index: int, following: str) -> list[str]:
    """The words of one token. `following` is the word after it."""
    token = draft.pattern.tokens[index]
    role = draft.pattern.roles.get(token.name)
    if role is None:
        return [token.name]
    match role.category:
        case "participant":
            part = list(draft.fillers[token.name].words)
        case "clause":
            part = draft.clauses[token.name]
        case "verb":
            part = [_verb_form(draft, token.name)]
        case "word" | "adj" | "det" | "num" if token.features:
            found = [word for word in _agreeing(draft, index, following) if word.lexeme.lemma not in draft.used]
            part = [_say(draft, draft.chance.pick(found, frequencies(len(found))))]
        case _:
            part = _small_word(draft, token, role)
    if token.joined and part:
        longer = lengthen_last_vowel(part[-1])
        if longer is None:
            raise DeadEndError
        part = [*part[:-1], longer]
    return part


def _verb_form(draft: Draft, letter: str) -> str:
    """The form of a verb that agrees with its subject."""
    forms, (target, mood) = conjugate(draft.verbs[letter].verb), _target(draft, letter)
    if mood == "infinitive":
        return forms["present", mood, NO_PERSON].text
    person = draft.fillers[target].verb_person if target in draft.fillers else target
    if mood == "imperative":
        person = "2" + person[1]  # the vocative noun is who must act
    return forms[draft.tense, mood, person].text


def _agreeing(draft: Draft, index: int, following: str) -> list[Word]:
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


def _small_word(draft: Draft, token: Token, role: Role) -> list[str]:
    """An adverb or another word that does not change; nothing, if it is optional and chance says so."""
    match role.category:
        case "word":
            pool = words(role.arguments)
        case "manner":
            pool = adverbs("manner", draft.verbs[role.arguments[0]].kind)
        case _:
            pool = adverbs(role.category, draft.tense)
    if token.optional and (not pool or not draft.chance.happens(draft.probability("optional"))):
        return []
    word = draft.chance.pick(pool, frequencies(len(pool)))
    return [_say(draft, Word(word, word.lemma))]


def _say(draft: Draft, word: Word) -> str:
    draft.used.add(word.lexeme.lemma)
    return word.text


def _scene_after(draft: Draft, scene: Scene) -> Scene:
    """The subject, if it is alive, is what the text is about; the object is what it spoke of last."""
    subject = draft.fillers.get("x")
    topic = subject if subject and suits(subject.referent, (("person", "animal"),)) else None
    rest = (who for letter, who in draft.fillers.items() if letter not in ("x", "N") and who.person == "3")
    other = next(rest, None)
    if topic and scene.topic and other is None and topic.mark != scene.topic.mark and scene.topic.person == "3":
        other = scene.topic
    return Scene(scene.tense or draft.tense, topic or scene.topic, other or scene.other)
