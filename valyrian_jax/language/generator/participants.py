"""The choice of participants: a noun, a pronoun, or the topic of the text once again."""

from dataclasses import replace

from valyrian_jax.language.generator.sentence_state import (
    NOT_SENSES,
    Discourse,
    Participant,
    SentenceState,
    numbers_of,
    pos_of,
    senses_of,
)
from valyrian_jax.language.generator.verbs import (
    allowed_persons,
    has_verbs,
    is_subject,
    verb_constraints,
)
from valyrian_jax.language.generator.vocabulary import (
    Constraints,
    exclude_used,
    find_nouns,
    find_words,
    meets,
    noun_forms,
)
from valyrian_jax.language.words.categories import concord_number
from valyrian_jax.language.words.lexicon import Lexeme
from valyrian_jax.language.words.morphology import decline

PRONOUNS = {"1sg": "nyke", "2sg": "ao", "1pl": "īlon", "2pl": "jeme", "3pl": "pōnta"}


def choose_known_subject(state: SentenceState, discourse: Discourse) -> Participant | None:
    """Choose the topic of the text or the last mention as subject x, or None for a new subject."""
    role = state.template.roles.get("x")
    if role is None or NOT_SENSES & set(role.arguments):
        return None
    chances = state.grammar.weights["chances"]
    candidates: list[Participant | None] = [None]
    weights = [1 - chances["topic"] - chances["other"]]
    for name, participant in (("topic", discourse.topic), ("other", discourse.mention)):
        if participant and meets(participant.referent, (senses_of(role),)):
            state.participants["x"] = participant
            if has_verbs(state):
                candidates.append(participant)
                weights.append(chances[name])
            del state.participants["x"]
    if state.template.is_reply and discourse.topic in candidates:
        subject = discourse.topic
    else:
        subject = state.choice.pick(candidates, weights)
    return _refer_again(state, subject, state.case("x")) if subject else None


def _refer_again(state: SentenceState, participant: Participant, case: str) -> Participant:
    """Name a known subject again, leave it out, or use a pronoun."""
    if participant.person == "3":
        form = decline(participant.referent).get((case, participant.number))
        if form and form.attested and state.happens("named_again"):
            return replace(participant, head=participant.referent, words=(form.text,))
    if is_subject(state, "x") and (state.template.is_reply or state.happens("silent")):
        return replace(participant, words=())
    return _as_pronoun(participant, case)


def choose_participant(state: SentenceState, letter: str, discourse: Discourse) -> Participant:
    """Choose a participant that its role and the verbs accept; a noun comes without its phrase.

    Raises:
        DeadEndError: There is no such participant.
    """
    role, case = state.template.roles[letter], state.case(letter)
    constraints = _role_constraints(state, letter)
    is_free = not role.arguments and state.depth == 0
    mention = discourse.mention
    if (
        is_free
        and case != "nom"
        and mention
        and mention.identity not in state.used
        and meets(mention.referent, constraints)
        and (state.template.is_reply or state.happens("other_pronoun"))
    ):
        return _as_pronoun(mention, case)
    speakers = _speaker_weights(state, letter) if meets(_person(), constraints) else {}
    if "you" in role.arguments:
        second_persons = {p: weight for p, weight in speakers.items() if p[0] == "2"}
        return _choose_speaker(state, letter, second_persons)
    if speakers and (
        role.arguments == ("pronoun",)
        or ((is_free or "pronoun" in role.arguments) and state.happens("pronoun"))
    ):
        return _choose_speaker(state, letter, speakers)
    return _choose_noun(state, letter, constraints)


def _role_constraints(state: SentenceState, letter: str) -> Constraints:
    role = state.template.roles[letter]
    constraints = (senses_of(role), *verb_constraints(state, role.model or letter))
    if "~N" in role.arguments:  # like the noun that it is coordinated with
        return (state.participants["N"].referent.senses[:1], *constraints)
    if role.model and not senses_of(role):
        return (senses_of(state.template.roles[role.model]), *constraints)
    return constraints


def _choose_noun(state: SentenceState, letter: str, constraints: Constraints) -> Participant:
    role, case, token = state.template.roles[letter], state.case(letter), state.find_token(letter)
    numbers = (state.participants[role.model].number,) if role.model else numbers_of(role)
    person = "2" if case == "voc" else "3"  # A command addresses the vocative noun.
    persons = allowed_persons(state, letter)
    numbers = tuple(n for n in numbers if person + concord_number(n)[0] in persons)
    is_coordinated = token is not None and token.coordinated
    pool = find_nouns(pos_of(role), constraints, case, numbers, is_coordinated)
    pool = exclude_used(pool, state.used)
    noun = state.choice.pick(pool.nouns, pool.weights)
    forms = [form for form in noun_forms(noun, case, is_coordinated) if form.number in numbers]
    number_weights = state.grammar.weights["numbers"]
    form = state.choice.pick(forms, [number_weights[form.number] for form in forms])
    return Participant(noun, form.number, noun.gender, "3", noun, (form.text,))


def _person() -> Lexeme:
    """Return the word for "person", the referent of I, you and we."""
    return find_words(("issaros",))[0]


def _speaker_weights(state: SentenceState, letter: str) -> dict[str, float]:
    """Return the weights of the persons that the verbs have forms for and the sentence lacks."""
    persons = allowed_persons(state, letter)
    table = state.grammar.weights["persons"]
    return {p: weight for p, weight in table.items() if p in persons and p[0] not in state.used}


def _choose_speaker(state: SentenceState, letter: str, weights: dict[str, float]) -> Participant:
    """Choose I, you or we; a subject may be left out, and the subject of a command always is."""
    role, case = state.template.roles[letter], state.case(letter)
    person = state.choice.pick_key(weights)
    number = "sg" if person[1] == "s" else "pl"
    speaker = Participant(_person(), number, "lunar", person[0], head=_person())
    is_command = any("you" in other.arguments for other in state.template.roles.values())
    can_be_omitted = is_subject(state, letter) or "you" in role.arguments
    if can_be_omitted and (is_command or state.happens("silent")):
        return speaker
    return _as_pronoun(speaker, case)


def _as_pronoun(participant: Participant, case: str) -> Participant:
    """Print a participant as a pronoun; only the third person singular shows gender."""
    third_singular = "ziry" if participant.gender in ("lunar", "solar") else "ūja"
    lemma = PRONOUNS.get(participant.person + participant.agreement, third_singular)
    pronoun = find_words((lemma,))[0]
    form = decline(pronoun)[case, participant.agreement]
    return replace(participant, head=pronoun, words=(form.text,))
