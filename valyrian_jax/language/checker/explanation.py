"""The wording of a verdict: each kind of mistake in one line."""

import re
import string
from collections.abc import Sequence
from unicodedata import combining

from valyrian_jax.language.checker.agreement import list_tenses
from valyrian_jax.language.checker.parse_tree import Parse, Sentence
from valyrian_jax.language.checker.reading import Word
from valyrian_jax.language.checker.repair import Change, Repair
from valyrian_jax.language.words.analysis import Reading, inflect
from valyrian_jax.language.words.features import FEATURE_NAMES, merge_readings
from valyrian_jax.language.words.spelling import ALPHABET, suggest

_MAX_UNKNOWN = 2  # unknown words that a reason names
_MAX_MEANINGS = 2  # of a word in a list of words
_MAX_SHOWN = 40  # letters of a word
_MAX_REASON, _MAX_DESCRIPTION = 240, 240  # characters


def explain_unknown_words(words: Sequence[str]) -> str:
    """Explain the words that have no readings."""
    for word in words:
        for letter in word.lower():
            if letter not in ALPHABET and not letter.isprintable():
                code = f"U+{ord(letter):04X}"
                return f"`{code}` cannot be High Valyrian: it is neither a letter nor a mark"
            if letter not in ALPHABET and letter not in string.ascii_lowercase:
                shown = _shorten(word)
                mark = "◌" * bool(combining(letter)) + letter
                return f"`{shown}` cannot be High Valyrian, which has no letter or mark `{mark}`"
    unknown = list(dict.fromkeys(words))
    reasons = [_explain_unknown(word) for word in unknown[:_MAX_UNKNOWN]]
    more = len(unknown) - len(reasons)
    return "; ".join([*reasons, f"{more} more words are unknown"] if more else reasons)


def _explain_unknown(word: str) -> str:
    suggestions = suggest(word) or suggest(word[:1].lower() + word[1:])
    nearest = f" (the nearest: {quote(suggestions)})" if suggestions else ""
    return f"`{_shorten(word)}` is not a known word{nearest}"


def _shorten(word: str) -> str:
    return word if len(word) <= _MAX_SHOWN else word[:_MAX_SHOWN] + "…"


def describe_words(words: Sequence[Word]) -> tuple[str, ...]:
    """Return a line that describes each known word; nothing if there is no known word."""
    parts, length = [], 0
    for word in dict.fromkeys(words):
        if word.is_mark or not word.is_known:
            continue
        part = _describe_word(word)
        length += len(part) + 2
        if length > _MAX_DESCRIPTION:
            parts.append("…")
            break
        parts.append(part)
    return (f"words: {'; '.join(parts)}",) if parts else ()


def _describe_word(word: Word) -> str:
    """Describe a word by its meanings and forms: ``vala` man (nom sg)``."""
    meanings: dict[str, str] = {}
    for reading, features in merge_readings(word.readings):
        gloss = re.split("[,;(]", reading.lexeme.gloss)[0].strip()
        shown = features.split(", ")[0] + " …" * (", " in features)
        meanings.setdefault(gloss, f"{gloss} ({shown})" if features else gloss)
    shown_meanings = [*meanings.values()][:_MAX_MEANINGS]
    return f"`{_shorten(word.text)}` {' or '.join(shown_meanings)}".strip()


def quote(words: Sequence[str]) -> str:
    """Return words in backquotes."""
    return ", ".join(f"`{word}`" for word in words)


def explain_tense(tree: Parse) -> str:
    """Name the first adverb of time that does not go with the verb of its own clause."""
    words = [(leaf, leaf.reading) for leaf in tree.leaves if leaf.reading]
    for leaf, adverb in words:
        if adverb.word_class != "word" or "time" not in adverb.lexeme.senses:
            continue
        verb = next(
            reading
            for later, reading in words
            if later.template is leaf.template
            and later.word_index > leaf.word_index
            and reading.tense
            and reading.mood != "infinitive"
        )
        tenses = list_tenses(adverb.lexeme)
        if verb.tense not in tenses:
            allowed = " or ".join(filter(None, [", ".join(tenses[:-1]), tenses[-1]]))
            forms = quote(_list_other_tenses(verb, tenses))
            reason = (
                f"`{verb.text}` is {verb.tense}; with `{adverb.text}` the verb must be {allowed}"
            )
            return f"{reason}: {forms}" if forms else reason
    return "the adverb of time does not go with the tense of the verb"


def _list_other_tenses(verb: Reading, tenses: Sequence[str]) -> list[str]:
    """Return the forms of a verb in the same person, number and mood, one for each tense."""
    forms = {
        tense: form.text
        for tense in tenses
        for form in reversed(inflect(verb.lexeme))
        if (form.tense, form.person, form.number, form.mood)
        == (tense, verb.person, verb.number, verb.mood)
    }
    return [*forms.values()]


def explain_order(sentence: Sentence, order: Sequence[int]) -> str:
    """Explain which order of the words the grammar accepts."""
    words = sentence.words
    first = next(i for i, index in enumerate(order) if i != index)
    if order[first + 1] == first:
        written, right = f"{words[first]} {words[first + 1]}", f"{words[first + 1]} {words[first]}"
        return f"the grammar accepts it with `{right}`, not with `{written}`"
    return f"the grammar accepts it with `{words[first]}` at the end"


def explain_repairs(repairs: Sequence[Repair]) -> str:
    """Explain a mistake by the repairs that are equally small."""
    first, *others = repairs
    same = [r for r in others if _make_key(r) == _make_key(first)]
    forms = " or ".join(quote(_list_forms(repair)) for repair in [first, *same])
    reason = f"{_explain_changes(first)}: {forms}"
    for other in others:
        longer = f"{reason}. Or {_explain_changes(other)}: {quote(_list_forms(other))}"
        if other not in same and len(longer) < _MAX_REASON:
            reason = longer
    return reason


def _list_forms(repair: Repair) -> list[str]:
    return [text for _, text in repair.forms]


def _make_key(repair: Repair) -> tuple[object, ...]:
    return tuple((change.place.leaf.word_index, change.slot) for change in repair.changes)


def _explain_changes(repair: Repair) -> str:
    return ", and ".join(map(_explain_change, repair.changes))


def _explain_change(change: Change) -> str:
    place, slot = change
    word, features = place.sentence.words[place.leaf.word_index], place.features
    if not features:
        return f"`{word}` is wrong: {slot.text}"
    if "infinitive" in (place.form.mood, place.reading.mood):
        features = ("mood",)
    actual, expected = _describe(place.reading, features), _describe(place.form, features)
    if features == ("position",):
        return f"`{word}` is the form used {actual}; it must be the one used {expected}"
    return f"`{word}` is {actual}; {slot.text} must be {expected}"


def _describe(reading: Reading, features: Sequence[str]) -> str:
    if reading.mood == "infinitive":
        return "an infinitive"
    values = filter(None, (getattr(reading, name) for name in features))
    return " ".join(FEATURE_NAMES.get(value, value) for value in values)
