"""Surface realisation: from a template to words that fit each other and agree.

Every choice goes through `WeightedChoice` and is among words that can be printed. The probability
of a derivation is therefore the product of its choices, except for rare dead ends, which are
counted.
"""

from collections.abc import Sequence
from dataclasses import replace

from valyrian_jax.language.generator.arrangement import order_tokens, select_tokens
from valyrian_jax.language.generator.noun_phrases import find_agreeing_forms, find_noun_phrases
from valyrian_jax.language.generator.participants import choose_known_subject, choose_participant
from valyrian_jax.language.generator.sentence_state import Discourse, Participant, SentenceState
from valyrian_jax.language.generator.verbs import (
    allowed_persons,
    find_verb_frames,
    has_finite_verb,
    possible_forms,
    tense_weights,
    verb_form,
)
from valyrian_jax.language.generator.vocabulary import (
    Tense,
    find_adverbs,
    find_nouns,
    find_words,
    meets,
    rank_weights,
)
from valyrian_jax.language.generator.weighted_choice import DeadEndError, WeightedChoice
from valyrian_jax.language.grammar import Grammar, find_free_adverbs, find_part_templates
from valyrian_jax.language.set_phrases import SetPhrase, load_set_phrases
from valyrian_jax.language.template import TELL, Role, Token
from valyrian_jax.language.words.categories import TENSES
from valyrian_jax.language.words.lexicon import Lexeme
from valyrian_jax.language.words.morphology import decline
from valyrian_jax.language.words.vowels import lengthen_last_vowel


def realize(
    state: SentenceState, discourse: Discourse, tenses: tuple[str, ...] = ()
) -> tuple[list[str], Discourse]:
    """Choose everything that a template leaves open.

    Verbs come first, because their frames restrict the participants; then participants; then all
    other words from last to first, because a short adjective depends on the word after it.

    Args:
        state: The template, and the noun N if it is a noun phrase; complete on return.
        discourse: What the sentence can refer to.
        tenses: Tenses to choose from; empty for those of the template.

    Returns:
        The words and punctuation marks, and the discourse after them.

    Raises:
        DeadEndError: No word fits the earlier choices.
    """
    state.template = select_tokens(state)
    _choose_verbs(state, discourse, tenses)
    for letter, role in state.template.roles.items():
        is_new = letter not in state.participants and role.category == "participant"
        if is_new and (state.is_used(letter) or "you" in role.arguments):
            participant = choose_participant(state, letter, discourse)
            if participant.is_named:
                participant = _realize_noun_phrase(state, participant, letter)
            _add_participant(state, letter, participant)
    for letter, role in state.template.roles.items():
        if role.category == "part" and state.find_token(letter):
            state.parts[letter], discourse = _realize_part(state, letter, role, discourse)
    state.template = order_tokens(state)
    words: list[str] = []
    for index in range(len(state.template.tokens) - 1, -1, -1):
        words[:0] = _realize_token(state, index, words[0] if words else "")
        if "N" not in state.template.roles:  # The last vowel of a noun phrase can become long.
            state.choice.expect((" ".join(words),))
    return words, _update_discourse(state, discourse)


def _choose_verbs(state: SentenceState, discourse: Discourse, tenses: tuple[str, ...]) -> None:
    verbs = state.template.verbs
    if not verbs:
        return
    weights = tense_weights(state, discourse, tenses)
    is_visible = has_finite_verb(state.template)
    names = [Tense(name, is_visible) for name in weights]
    state.tense = state.choice.pick(names, [*weights.values()]).name
    is_known = "x" in state.participants
    if not is_known and (subject := choose_known_subject(state, discourse)):
        _add_participant(state, "x", subject)
    for letter in verbs:
        frames = find_verb_frames(state, letter)
        if letter == "V" and state.template.is_reply:
            frames = [frame for frame in frames if frame == discourse.verb]
        state.verbs[letter] = state.choice.pick(frames, rank_weights(len(frames)))
        state.used.add(state.verbs[letter].verb.lemma)
        token = state.find_token(letter)
        if token and not token.coordinated:
            state.choice.expect(possible_forms(state, letter))


def _add_participant(state: SentenceState, letter: str, participant: Participant) -> None:
    state.participants[letter] = participant
    state.used.add(participant.identity)
    token = state.find_token(letter)
    if participant.words and token and not token.coordinated:
        state.choice.expect((" ".join(participant.words),))


def _realize_noun_phrase(state: SentenceState, noun: Participant, letter: str) -> Participant:
    """Put a noun into one of its possible phrases; inside another phrase it mostly stays bare."""
    if state.depth and (state.depth > 1 or not state.happens("nested")):
        return noun
    case, used = state.case(letter), frozenset({*state.used, noun.identity})
    arguments = state.grammar, noun, case, state.depth, used, _can_be_group(state, letter)
    noun, used = state.choice.run(_choose_noun_phrase, *arguments)
    state.used |= used
    return noun


def _can_be_group(state: SentenceState, letter: str) -> bool:
    """Test whether a participant can be several nouns: only verbs agree with it, in the plural.

    How other words agree with several nouns of different genders is not attested.
    """
    template = state.template
    agreeing = {t.name for t in template.tokens if t.features[:1] == (letter,)}
    is_model = any(role.model == letter for role in template.roles.values())
    role = template.roles[letter]
    token = state.find_token(letter)
    return (
        "N" not in template.roles
        and agreeing <= template.verbs.keys()
        and not (is_model or role.model or role.arguments)
        and not (token and token.coordinated)
        and "3p" in allowed_persons(state, letter)
    )


def _choose_noun_phrase(
    choice: WeightedChoice,
    grammar: Grammar,
    noun: Participant,
    case: str,
    depth: int,
    used: frozenset[str],
    can_be_group: bool,
) -> tuple[Participant, frozenset[str]]:
    """Return a noun with the words of its phrase, and the identities and lemmas used so far."""
    phrases = find_noun_phrases(grammar, noun, case, depth, can_be_group)
    template = choice.pick(phrases, [phrase.weight for phrase in phrases])
    phrase = SentenceState(
        grammar, template, choice, {*used}, case, depth + 1, participants={"N": noun}
    )
    words, _ = realize(phrase, Discourse())
    noun = replace(noun, words=tuple(words), is_group=template in grammar.groups)
    if template.number == "pl":
        noun = replace(noun, number="pl")
    return noun, frozenset(phrase.used)


def _realize_part(
    state: SentenceState, letter: str, role: Role, discourse: Discourse
) -> tuple[tuple[str, ...], Discourse]:
    """Return the words of a part of the sentence, and the discourse after it.

    A part may share a participant, which it does not print.
    """
    token = state.find_token(letter)
    shared = state.participants.get(token.features[0]) if token and token.features else None
    if shared:
        shared, discourse = replace(shared, words=()), Discourse(discourse.tense)
    arguments = state.grammar, role.arguments, shared, discourse
    words, discourse = state.choice.run(_choose_part, *arguments)
    state.choice.expect((" ".join(words),))
    return words, discourse


def _choose_part(
    choice: WeightedChoice,
    grammar: Grammar,
    names: tuple[str, ...],
    shared: Participant | None,
    discourse: Discourse,
) -> tuple[tuple[str, ...], Discourse]:
    """Return the words of one of the parts of these names, and the discourse after it."""
    templates = find_part_templates(grammar, names)
    template = choice.pick(templates, [template.weight for template in templates])
    part = SentenceState(grammar, template, choice)
    if shared:
        part.participants[template.head] = shared
        part.used = {shared.identity}
    tenses = tuple(name for name in names if name in TENSES)
    words, discourse = realize(part, discourse, tenses)
    return tuple(words), discourse


def _realize_token(state: SentenceState, index: int, following: str) -> list[str]:
    """Return the words of one token, given the word after it."""
    token = state.template.tokens[index]
    role = state.template.roles.get(token.name)
    if role is None:
        return [token.name]
    match role.category:
        case "participant":
            words = list(state.participants[token.name].words)
        case "part":
            words = list(state.parts[token.name])
        case "verb":
            words = [verb_form(state, token.name)]
        case "word" | "adj" | "det" | "num" | "modifier" if token.features:
            forms = [
                form
                for form in find_agreeing_forms(state, index, following)
                if form.lexeme.lemma not in state.used
            ]
            form = state.choice.pick(forms, rank_weights(len(forms)))
            state.used.add(form.lexeme.lemma)
            words = [form.text]
        case _:
            words = _realize_invariable(state, token, role)
    if token.coordinated and words:
        lengthened = lengthen_last_vowel(words[-1])
        if lengthened is None:
            raise DeadEndError
        words = [*words[:-1], lengthened]
    return words


def _realize_invariable(state: SentenceState, token: Token, role: Role) -> list[str]:
    """Choose an adverb or another word with one form; an optional token may stay empty."""
    pool: Sequence[Lexeme | SetPhrase]
    match role.category:
        case "word":
            pool = find_words(role.arguments)
        case "manner":
            pool = find_adverbs("manner", state.verbs[role.arguments[0]].kind)
        case "adverb":
            free = find_free_adverbs(state.grammar)
            pool = [free[lemma] for lemma in role.arguments or free if lemma in free]
        case "set":
            pool = [phrase for phrase in load_set_phrases() if phrase.kind in role.arguments]
        case "byname":
            pool = find_nouns(("noun",), (role.arguments,), "gen", ("sg",)).nouns
        case _:
            pool = find_adverbs(role.category, state.tense)
    if token.optional and not (pool and state.happens("optional")):
        return []
    word = state.choice.pick(pool, rank_weights(len(pool)))
    if isinstance(word, SetPhrase):
        return [*word.words]
    state.used.add(word.lemma)
    if role.category == "byname":
        text = decline(word)["gen", "sg"].text
        return [text[:1].upper() + text[1:]]
    return [word.lemma]


def _update_discourse(state: SentenceState, discourse: Discourse) -> Discourse:
    """Make a living subject the topic, and the first other participant the last mention."""
    subject, old_topic = state.participants.get("x"), discourse.topic
    is_asked = state.template.kinds != TELL
    is_alive = subject and meets(subject.referent, (("person", "animal"),))
    topic = subject if subject and not subject.is_group and (is_alive or is_asked) else None
    others = (other for letter, other in state.participants.items() if letter not in ("x", "N"))
    mention = next((o for o in others if o.person == "3" and not o.is_group), None)
    if mention is None and topic and old_topic and old_topic.person == "3":
        # A new topic replaces the old one, which can still be mentioned.
        mention = old_topic if topic.identity != old_topic.identity else None
    return Discourse(
        tense=state.tense if is_asked else discourse.tense or state.tense,
        topic=_forget_words(topic) or old_topic,
        mention=_forget_words(mention or discourse.mention),
        verb=state.verbs.get("V") if is_asked else None,
    )


def _forget_words(participant: Participant | None) -> Participant | None:
    return participant and replace(participant, head=participant.referent, words=())
