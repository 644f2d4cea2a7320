"""A right sentence altered in one word, so that it breaks one rule.

As in BLiMP (Warstadt et al. 2020), the two sentences of a pair differ as little as the rule allows:
in the form of one word or, for the order of words, in the position of one word.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from valyrian_jax.language.checker.agreement import list_tenses
from valyrian_jax.language.checker.parse_tree import Leaf, Parse, Sentence
from valyrian_jax.language.checker.parser import parse
from valyrian_jax.language.checker.place import is_finite, is_noun, text_of
from valyrian_jax.language.checker.reading import Word, make_sentence, read_word, read_words
from valyrian_jax.language.checker.repair import Change, make_repair
from valyrian_jax.language.generator.paragraphs import join_words
from valyrian_jax.language.pairs.rules import RULES, name_rule
from valyrian_jax.language.words.analysis import Reading, inflect
from valyrian_jax.language.words.categories import concord_number
from valyrian_jax.language.words.vowels import shorten_last_vowel

_NUMBERS = ("", "sg", "pl")  # No rule distinguishes the other numbers from these.


class Pair(NamedTuple):
    """A right sentence and the same with one mistake.

    Attributes:
        rule: Name of the rule that the wrong one breaks.
        right: The right sentence.
        wrong: The wrong sentence.
        form: The word that is altered, in its right form.
        wrong_form: The same in its wrong form.
        governor: The word that demands the form; "" if no single word does.
        distance: Words from the governor to the form, 1 for neighbours; 0 without a governor.
        attractor: A misleading word, nearer than the governor, that the wrong form agrees with; ""
            if there is none. For a tense it is an adverb in the context.
        context: A sentence that precedes both sentences, or "".
    """

    rule: str
    right: str
    wrong: str
    form: str
    wrong_form: str
    governor: str = ""
    distance: int = 0
    attractor: str = ""
    context: str = ""

    @property
    def texts(self) -> tuple[str, str]:
        """The right and the wrong text, after the context."""
        before = f"{self.context} " if self.context else ""
        return before + self.right, before + self.wrong


class ParsedSentence(NamedTuple):
    """A right sentence: its text, its words, how the parser read them, and its parse."""

    text: str
    words: Sequence[Word]
    read: Sentence
    leaves: tuple[Leaf, ...]


def parse_sentence(text: str, rules: Collection[str] = RULES) -> ParsedSentence | None:
    """Parse a sentence.

    None: the grammar does not accept it exactly as it is written, or it can break none of the
    rules.
    """
    words = read_words(text)
    read = make_sentence(words)
    is_exact = join_words([word.text for word in words]) == text
    if not is_exact or not any(RULES[rule].can_break_in(read) for rule in rules):
        return None
    tree = parse(read) if not any(word.is_misspelt for word in words) else None
    if tree is None:
        return None
    return ParsedSentence(text, words, read, tree.leaves)


def list_pairs(
    sentence: ParsedSentence,
    contexts: Sequence[ParsedSentence] = (),
    rules: Collection[str] = RULES,
) -> Iterator[Pair]:
    """Yield candidates for pairs of some rules; they are pairs if `is_wrong` is true.

    Args:
        sentence: The right sentence.
        contexts: Sentences with an adverb of time, which may precede the right sentence.
        rules: Names of the rules.
    """
    classes = {word_class for rule in rules for word_class in RULES[rule].word_classes}
    for leaf in sentence.leaves:
        if leaf.reading and (leaf.reading.word_class in classes or leaf.reading.coordinated):
            for form in _list_wrong_forms(leaf.reading):
                if (pair := _alter(sentence, leaf, form)) and pair.rule in rules:
                    yield pair
    if "tense" in rules:
        yield from _list_tense_pairs(sentence, contexts)
    if "order" in rules:
        yield from _list_order_pairs(sentence)


def is_wrong(sentence: ParsedSentence, pair: Pair) -> bool:
    """Test whether the checker rejects the wrong sentence of a pair.

    It needs no diagnosis, because the right form, which a rule demands, is known.
    """
    words = read_words(pair.wrong)
    pairs = enumerate(zip(words, sentence.words, strict=True))
    changed = next(i for i, (word, right) in pairs if word.literal != right.literal)
    # Phrases that end before the first other word do not change.
    phrases = {end: found for end, found in sentence.read.phrases.items() if end <= changed}
    if parse(replace(make_sentence(words), phrases=phrases)):
        return False
    without_commas = [word for word in words if word.text != ","]  # It may be right without them.
    return len(without_commas) == len(words) or parse(make_sentence(without_commas)) is None


def describe_change(sentence: ParsedSentence, change: Change, wrong: str) -> Pair | None:
    """Return the pair of a sentence and its change to a wrong word; None if that breaks no rule."""
    (place, slot), rule = change, name_rule(change)
    if not rule:
        return None
    pair = _replace_word(sentence, rule, place.leaf, wrong)
    if slot.governor is None:
        return pair
    return pair._replace(
        governor=text_of(slot.governor),
        distance=_count_words(sentence, place.leaf, slot.governor),
        attractor=_find_attractor(sentence, change, slot.governor),
    )


def find_time_adverb(sentence: ParsedSentence) -> Leaf | None:
    """Return the first adverb of a sentence that decides the tense of a verb."""
    for leaf in sentence.leaves:
        if leaf.reading and leaf.reading.word_class == "word":
            lexeme = leaf.reading.lexeme
            if "time" in lexeme.senses and lexeme.frame:
                return leaf
    return None


@lru_cache(1 << 14)
def _list_wrong_forms(reading: Reading) -> Sequence[Reading]:
    """Return the forms of a word that differ from this one in what one rule decides."""
    if reading.coordinated:
        text = shorten_last_vowel(reading.text)
        return [replace(reading, text=text, coordinated=False)] if text else []
    return [
        form
        for form in inflect(reading.lexeme)
        if form.attested and form.text != reading.text and form.number in _NUMBERS
        if (form.mood == "indicative" and form.tense == "present") or reading.mood != "infinitive"
        if reading.mood == "infinitive" or len(form.differing_features(reading)) == 1
    ]


def _alter(sentence: ParsedSentence, leaf: Leaf, form: Reading) -> Pair | None:
    """Return the pair in which a word has another form, if a rule forbids it."""
    assert leaf.reading is not None
    if (leaf.reading.case, form.case) == ("voc", "nom"):
        return _replace_word(sentence, "vocative", leaf, form.text)
    if leaf.reading.coordinated:
        is_firm = all(r.coordinated for r in sentence.words[leaf.word_index].readings)
        return _replace_word(sentence, "coordination", leaf, form.text) if is_firm else None
    readings = [*sentence.read.readings]
    readings[leaf.word_index] = read_word(form.text).readings
    altered = replace(sentence.read, readings=readings, phrases={})
    repair = make_repair(altered, Parse(0, {}, sentence.leaves), [leaf.word_index])
    return describe_change(sentence, repair.changes[0], form.text) if repair else None


def _replace_word(sentence: ParsedSentence, rule: str, leaf: Leaf, text: str) -> Pair:
    words = [word.text for word in sentence.words]
    words[leaf.word_index] = text
    return Pair(rule, sentence.text, join_words(words), text_of(leaf), text)


def _count_words(sentence: ParsedSentence, leaf: Leaf, governor: Leaf) -> int:
    """Return the distance of two words, without counting marks."""
    start, end = sorted((leaf.word_index, governor.word_index))
    return 1 + sum(not word.is_mark for word in sentence.words[start + 1 : end])


def _find_attractor(sentence: ParsedSentence, change: Change, governor: Leaf) -> str:
    """Return a noun that is nearer to a word than its governor and that its wrong form agrees with.

    "": there is none.
    """
    place = change.place
    if not is_noun(governor) or place.form.word_class == "noun":
        return ""
    index = place.leaf.word_index
    for other in sentence.leaves:
        is_nearer = 0 < abs(other.word_index - index) < abs(governor.word_index - index)
        if is_nearer and other.reading and is_noun(other):
            noun = replace(other.reading, number=concord_number(other.reading.number))
            if all(getattr(place.reading, f) == getattr(noun, f, "") for f in place.features):
                return text_of(other)
    return ""


def _list_tense_pairs(
    sentence: ParsedSentence, contexts: Sequence[ParsedSentence]
) -> Iterator[Pair]:
    """Yield pairs in which a verb has a tense that its adverb of time does not go with.

    The adverb in the context of a pair goes with the wrong tense and not with the right one.
    """
    adverb = find_time_adverb(sentence)
    if adverb is None:
        return
    for leaf in sentence.leaves:
        if leaf.template is adverb.template and is_finite(leaf) and leaf.reading:
            distance, tense = _count_words(sentence, leaf, adverb), leaf.reading.tense
            for form in inflect(leaf.reading.lexeme):
                is_other = form.attested and form.text != leaf.reading.text
                if is_other and form.differing_features(leaf.reading) == ["tense"]:
                    pair = _replace_word(sentence, "tense", leaf, form.text)
                    pair = pair._replace(governor=text_of(adverb), distance=distance)
                    yield pair
                    for context in contexts:
                        other = find_time_adverb(context)
                        if other and _list_tenses(other) & {tense, form.tense} == {form.tense}:
                            yield pair._replace(context=context.text, attractor=text_of(other))
                            break


def _list_tenses(adverb: Leaf) -> set[str]:
    return set(list_tenses(adverb.reading.lexeme)) if adverb.reading else set()


def _list_order_pairs(sentence: ParsedSentence) -> Iterator[Pair]:
    """Yield the pair in which the verb at the end of a sentence precedes the word before it."""
    *words, last, mark = (word.literal for word in sentence.words)
    leaf = next((o for o in sentence.leaves if o.word_index == len(words)), None)
    if leaf and is_finite(leaf) and words and not sentence.words[len(words) - 1].is_mark:
        wrong = join_words([*words[:-1], last, words[-1], mark])
        if wrong != sentence.text:  # as in "irūdi irūdi", someone gives gifts
            yield Pair("order", sentence.text, wrong, last, last)
