"""From a template to words: verbs, participants and all else are drawn so that they suit each other and agree.

Every choice goes through `Chance`, and is made among what can be printed, so that (dead ends apart, which are rare and
counted) the probability of a sentence is the product of its choices.
"""

from dataclasses import replace
from functools import cache

from valyrian_jax.language.generator.sentence_state import (
    Participant,
    Scene,
    SentenceState,
    kinds_of,
    senses_of,
)
from valyrian_jax.language.generator.verbs import (
    asked,
    fitting,
    persons_asked,
    possible_forms,
    tenses_for,
    verb_form,
    verbs_of,
)
from valyrian_jax.language.generator.vocabulary import (
    NOUN_KINDS,
    Word,
    adverbs,
    describing,
    frequencies,
    nouns,
    numbers_of,
    suits,
    unused,
    words,
)
from valyrian_jax.language.generator.weighted_choice import NO_CHOICE, DeadEndError
from valyrian_jax.language.grammar import Grammar, Pattern, Role, Token
from valyrian_jax.language.words.lexicon import Lexeme
from valyrian_jax.language.words.morphology import (
    NUMBERS,
    TENSES,
    VOWELS,
    concord_case,
    decline,
    inflect_adjective,
    lengthen_last_vowel,
)

PRONOUNS = {"1sg": "nyke", "2sg": "ao", "1pl": "īlon", "2pl": "jeme", "3pl": "pōnta"}


def realize(
    draft: SentenceState, scene: Scene, tenses: tuple[str, ...] = ()
) -> tuple[list[str], Scene]:
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
    verbs = verbs_of(draft.pattern)
    if verbs:
        draft.tense = draft.chance.pick_key(tenses_for(draft, scene, verbs, tenses))
        _go_on(draft, scene, verbs)
    for letter, role in verbs.items():
        uses = fitting(draft, letter, role)
        draft.verbs[letter] = draft.chance.pick(uses, frequencies(len(uses)))
        draft.used.add(draft.verbs[letter].verb.lemma)
        draft.chance.will_say(possible_forms(draft, letter))
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


def _go_on(draft: SentenceState, scene: Scene, verbs: dict[str, Role]) -> None:
    """Makes the topic of the text, or what it spoke of last, the subject x, where chance and the pattern allow it."""
    role = draft.pattern.roles.get("x")
    if role is None or {"pronoun", "you", *NOUN_KINDS, *NUMBERS} & set(role.arguments):
        return
    choices: list[Participant | None] = [None]
    weights = [1 - draft.probability("topic") - draft.probability("other")]
    for name, who in (("topic", scene.topic), ("other", scene.other)):
        if who and suits(who.referent, (senses_of(role),)):
            draft.fillers["x"] = who
            if all(fitting(draft, letter, role) for letter, role in verbs.items()):
                choices.append(who)
                weights.append(draft.probability(name))
            del draft.fillers["x"]
    who = draft.chance.pick(choices, weights)
    if who:
        case = draft.case("x")
        draft.fillers["x"] = _again(draft, who, case)
        draft.used.add(who.mark)
        _announce(draft, "x")


def _participant(draft: SentenceState, letter: str, role: Role, scene: Scene) -> Participant:
    """A participant that meets its line, the verbs' frames and their forms."""
    chance, case = draft.chance, draft.case(letter)
    model = next((a[1:] for a in role.arguments if a.startswith("=")), letter)
    constraints = (senses_of(role), *asked(draft, model))
    if model != letter and not senses_of(role):
        constraints = (senses_of(draft.pattern.roles[model]), *constraints)
    persons = persons_asked(draft, letter)
    free = not role.arguments and draft.depth == 0
    other = scene.other
    known = (
        free
        and case != "nom"
        and other
        and other.mark not in draft.used
        and suits(other.referent, constraints)
    )
    if known and other and chance.happens(draft.probability("other_pronoun")):
        return _pronoun(other, case)
    speakers = _speakers(draft, persons) if suits(_someone(), constraints) else {}
    if "you" in role.arguments:
        return _speaker(
            draft, case, {p: w for p, w in speakers.items() if p[0] == "2"}, silent=True
        )
    mixed = "pronoun" in role.arguments and len(role.arguments) > 1
    maybe = speakers and (free or mixed)
    if (speakers and role.arguments == ("pronoun",)) or (
        maybe and chance.happens(draft.probability("pronoun"))
    ):
        return _speaker(draft, case, speakers, silent=case == "nom")
    allowed = tuple(a for a in role.arguments if a in NUMBERS) or NUMBERS
    if model != letter:
        allowed = (draft.fillers[model].number,)
    third = "2" if case == "voc" else "3"  # the vocative noun is who must act
    numbers = tuple(
        n for n in allowed if third + ("s" if n in ("sg", "collective") else "p") in persons
    )
    token = draft.printed(letter)
    joined = token is not None and token.joined
    pool = unused(*nouns(kinds_of(role), constraints, case, numbers, joined), draft.used)
    noun = chance.pick(list(pool), list(pool.values()))
    forms = [form for form in numbers_of(noun, case, joined) if form.cell in numbers]
    table = draft.grammar.weights["numbers"]
    form = chance.pick(forms, [table[form.cell] for form in forms])
    who = Participant(noun, form.cell, noun.gender, "3", noun, (form.text,))
    return replace(who, words=_phrase(draft, who, case))


def _announce(draft: SentenceState, letter: str) -> None:
    """Says that a participant's words will be printed, as far as they will be printed unchanged."""
    token, printed = draft.printed(letter), draft.fillers[letter].words
    if printed and token and not token.joined:
        draft.chance.will_say((" ".join(printed),))


def _someone() -> Lexeme:
    return words(("issaros",))[0]  # I, you and we are persons


def _speakers(draft: SentenceState, persons: frozenset[str]) -> dict[str, float]:
    """The weights of I, you, we, as far as the verb has the form and they are not in the sentence yet."""
    table = draft.grammar.weights["persons"]
    return {p: w for p, w in table.items() if p in persons and p[0] not in draft.used}


def _speaker(
    draft: SentenceState, case: str, speakers: dict[str, float], silent: bool
) -> Participant:
    """I, you or we; left out now and then if `silent`, and always in a command."""
    person, letter = tuple(
        draft.chance.pick_key(speakers) if speakers else draft.chance.pick((), ())
    )
    who = Participant(_someone(), {"s": "sg", "p": "pl"}[letter], "lunar", person, _someone())
    commanded = any("you" in role.arguments for role in draft.pattern.roles.values())
    if silent and (commanded or draft.chance.happens(draft.probability("silent"))):
        return who
    return _pronoun(who, case)


def _again(draft: SentenceState, who: Participant, case: str) -> Participant:
    """Somebody known as a subject: left out, a pronoun, or named again."""
    named = decline(who.referent).get((case, who.number)) if who.person == "3" else None
    if named and named.sure and draft.chance.happens(draft.probability("named_again")):
        return replace(who, head=who.referent, words=(named.text,))
    if draft.chance.happens(draft.probability("silent")):
        return replace(who, words=())
    return _pronoun(who, case)


def _pronoun(who: Participant, case: str) -> Participant:
    """Somebody as a personal pronoun; only the third person singular shows gender."""
    third = "ziry" if who.gender in ("lunar", "solar") else "ūja"
    pronoun = words((PRONOUNS.get(who.person + who.agreement, third),))[0]
    form = decline(pronoun)[case, who.agreement]
    return replace(who, head=pronoun, words=(form.text,))


def _phrase(draft: SentenceState, who: Participant, case: str) -> tuple[str, ...]:
    """The noun inside one of the phrases that suit it; phrases inside phrases are mostly the noun alone."""
    if draft.depth and (draft.depth > 1 or not draft.chance.happens(draft.probability("nested"))):
        return who.words
    shapes = _possible_shapes(draft.grammar, who, case, draft.depth == 0)
    shape = draft.chance.pick(shapes, [shape.weight for shape in shapes])
    used = {*draft.used, who.mark}
    inner = SentenceState(
        draft.grammar, shape, draft.chance, used, case, draft.depth + 1, fillers={"N": who}
    )
    printed, _ = realize(inner, Scene())
    draft.used |= inner.used
    return tuple(printed)


@cache
def _possible_shapes(
    grammar: Grammar, who: Participant, case: str, outermost: bool
) -> tuple[Pattern, ...]:
    """The noun phrases that are meant for a noun like this, and have sure forms to agree with it.

    A relative clause stands only in the outermost phrase, and never beside a vocative.
    """
    found = []
    for shape in grammar.phrases:
        head, verbs = shape.roles["N"], verbs_of(shape)
        numbers = set(head.arguments) & set(NUMBERS) or {who.number}
        if (
            who.head.pos not in head.arguments
            or who.number not in numbers
            or not suits(who.referent, (senses_of(head),))
        ):
            continue
        draft = SentenceState(grammar, shape, NO_CHOICE, set(), case, fillers={"N": who})
        if verbs and (not outermost or case == "voc" or not tenses_for(draft, Scene(), verbs)):
            continue
        agreeing = [
            i
            for i, t in enumerate(shape.tokens)
            if t.features[:1] == ("N",) and t.name not in verbs
        ]
        if all(agreeing_words(draft, index, who.words[0]) for index in agreeing):
            found.append(shape)
    return tuple(found)


def _clause(draft: SentenceState, role: Role, scene: Scene) -> tuple[list[str], Scene]:
    """A whole sentence inside the sentence, without its punctuation, and the scene after it."""
    inner = [pattern for pattern in draft.grammar.sentences if pattern.clause in role.arguments]
    tenses = tuple(argument for argument in role.arguments if argument in TENSES)
    pattern = draft.chance.pick(inner, [pattern.weight for pattern in inner])
    clause = SentenceState(draft.grammar, pattern, draft.chance, set())
    printed, scene = realize(clause, scene, tenses)
    draft.chance.will_say((" ".join(printed[:-1]),))
    return printed[:-1], scene


def _print(draft: SentenceState, index: int, following: str) -> list[str]:
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
            part = [verb_form(draft, token.name)]
        case "word" | "adj" | "det" | "num" if token.features:
            found = [
                word
                for word in agreeing_words(draft, index, following)
                if word.lexeme.lemma not in draft.used
            ]
            part = [_say(draft, draft.chance.pick(found, frequencies(len(found))))]
        case _:
            part = _small_word(draft, token, role)
    if token.joined and part:
        longer = lengthen_last_vowel(part[-1])
        if longer is None:
            raise DeadEndError
        part = [*part[:-1], longer]
    return part


def _small_word(draft: SentenceState, token: Token, role: Role) -> list[str]:
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


def _say(draft: SentenceState, word: Word) -> str:
    draft.used.add(word.lexeme.lemma)
    return word.text


def _scene_after(draft: SentenceState, scene: Scene) -> Scene:
    """The subject, if it is alive, is what the text is about; the object is what it spoke of last."""
    subject = draft.fillers.get("x")
    topic = subject if subject and suits(subject.referent, (("person", "animal"),)) else None
    rest = (
        who
        for letter, who in draft.fillers.items()
        if letter not in ("x", "N") and who.person == "3"
    )
    other = next(rest, None)
    if (
        topic
        and scene.topic
        and other is None
        and topic.mark != scene.topic.mark
        and scene.topic.person == "3"
    ):
        other = scene.topic
    return Scene(scene.tense or draft.tense, topic or scene.topic, other or scene.other)


def agreeing_words(draft: SentenceState, index: int, following: str) -> list[Word]:
    """The adjectives, determiners, numerals or relatives for a token such as A:x, in their agreeing forms."""
    token = draft.pattern.tokens[index]
    target = token.features[0]
    role, noun = draft.pattern.roles[token.name], draft.fillers[target]
    position = "full"
    if any(later.name == target for later in draft.pattern.tokens[index:]):
        position = "prevocalic" if following[:1].lower() in VOWELS else "prepositive"
    key = noun.gender, noun.agreement, concord_case(noun.head, draft.case(target))
    if role.category == "word":
        forms = [
            (word, inflect_adjective(word, position).get(key)) for word in words(role.arguments)
        ]
        return [Word(word, form.text) for word, form in forms if form and form.sure]
    return list(
        describing(
            role.category, role.arguments[1:], noun.referent.senses, noun.number, key, position
        )
    )
