"""The generator: short paragraphs of High Valyrian sentences, every sentence new."""

from collections.abc import Iterator
from unicodedata import normalize

from valyrian_jax.errors import UserError
from valyrian_jax.language.filling import fill, pronoun_for, senses_of
from valyrian_jax.language.grammar import PUNCTUATION, Grammar, Pattern, load_grammar
from valyrian_jax.language.morphology import NUMBERS
from valyrian_jax.language.realise import Filled, Participant, realise
from valyrian_jax.language.vocabulary import NOUN_KINDS, Chance, suits

TRIES = 8  # fillings of one template before another template is drawn
ATTEMPTS = 5_000  # templates drawn without one new sentence, after which the grammar counts as used up


def generate_paragraphs(sentences: int, seed: int) -> Iterator[str]:
    """Paragraphs of High Valyrian in which no sentence stands twice.

    Args:
        sentences: how many sentences altogether, at least 1.
        seed: an integer from 0; the same seed gives the same paragraphs, whatever the platform and Python version.

    Yields:
        Paragraphs: sentences parted by single spaces, without line breaks; Unicode NFC.

    Raises:
        UserError: `sentences` is less than 1, or more than the grammar can say.
    """
    if sentences < 1:
        raise UserError(f"the number of sentences must be at least 1, found {sentences}; ask for more")
    grammar, chance = load_grammar(), Chance(seed)
    seen: set[str] = set()
    while len(seen) < sentences:
        length = int(chance.pick_key(grammar.weights["sentences"]))
        topic: Participant | None = None
        paragraph = []
        for _ in range(min(length, sentences - len(seen))):
            text, filled = _draw_new(grammar, chance, topic, seen)
            seen.add(text)
            paragraph.append(text)
            topic = _subject(filled) or topic
        yield " ".join(paragraph)


def draw(
    grammar: Grammar, pattern: Pattern, chance: Chance, topic: Participant | None = None
) -> tuple[str, Filled] | None:
    """One sentence from a template, and the choices behind it.

    Args:
        grammar: phrases and weights.
        pattern: the template.
        chance: the source of chance; advanced.
        topic: whom the sentence before was about, if this one may go on about them.

    Returns:
        The sentence and its filled template, or None where the choices have no sure wording: draw again.
    """
    filled = fill(grammar, pattern, chance, _going_on(grammar, pattern, topic, chance))
    words = realise(filled) if filled else None
    if filled is None or words is None:
        return None
    spoken = [word for word in words if word not in PUNCTUATION]
    if len(set(spoken)) < len(spoken):  # a word twice in one sentence reads like a slip
        return None
    return to_text(words), filled


def to_text(words: list[str]) -> str:
    """Words and punctuation marks as a sentence: spaces, a capital first letter, Unicode NFC."""
    text = " ".join(words)
    for mark in PUNCTUATION:
        text = text.replace(f" {mark}", mark)
    return normalize("NFC", text[:1].upper() + text[1:])


def _draw_new(grammar: Grammar, chance: Chance, topic: Participant | None, seen: set[str]) -> tuple[str, Filled]:
    weights = [pattern.weight for pattern in grammar.sentences]
    for _ in range(ATTEMPTS):
        pattern = chance.pick(grammar.sentences, weights)
        for _ in range(TRIES):
            drawn = draw(grammar, pattern, chance, topic)
            if drawn is not None and drawn[0] not in seen:
                return drawn
    raise UserError(f"no new sentence found after {len(seen)}; ask for fewer, or add words or templates")


def _subject(filled: Filled) -> Participant | None:
    """The subject of a sentence, if it is a person or an animal: later sentences may go on about it."""
    subject = filled.fillers.get("x")
    return subject if isinstance(subject, Participant) and suits(subject.referent, (("person", "animal"),)) else None


def _going_on(grammar: Grammar, pattern: Pattern, topic: Participant | None, chance: Chance) -> dict[str, Participant]:
    """The topic as the x of this pattern, mostly as a pronoun, where chance and the pattern allow it."""
    role = pattern.roles.get("x")
    if topic is None or role is None or not chance.happens(grammar.weights["chances"]["topic"]):
        return {}
    if {"pronoun", "you", *NOUN_KINDS, *NUMBERS} & set(role.arguments) or not suits(topic.referent, (senses_of(role),)):
        return {}
    if topic.person == "3" and chance.happens(grammar.weights["chances"]["fresh_noun"]):
        return {"x": Participant(topic.referent, topic.number, topic.gender, "3", topic.referent)}
    return {"x": pronoun_for(grammar, topic.person, topic.agreement, topic.referent, chance)}
