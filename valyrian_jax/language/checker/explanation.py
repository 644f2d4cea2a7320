"""The wording of a verdict: each kind of mistake in one line."""

from collections.abc import Sequence

from valyrian_jax.language.checker.parse_tree import Leaf, Parse, Sentence
from valyrian_jax.language.words.analysis import Reading
from valyrian_jax.language.words.spelling import ALPHABET, correct_macrons, suggest

_VALUE_NAMES = {
    "nom": "nominative",
    "acc": "accusative",
    "gen": "genitive",
    "dat": "dative",
    "loc": "locative",
    "ins": "instrumental",
    "com": "comitative",
    "voc": "vocative",
    "sg": "singular",
    "pl": "plural",
    "1": "first person",
    "2": "second person",
    "3": "third person",
    "full": "after the noun",
    "prepositive": "before the noun",
    "prevocalic": "before the noun and a vowel",
}


def explain_unknown_word(word: str) -> str:
    """Explain a word that has no readings."""
    shown = word if len(word) <= 40 else word[:40] + "…"
    uncapitalized = word[:1].lower() + word[1:]
    for letter in word.lower():
        if letter not in ALPHABET:
            if not letter.isprintable():
                code = f"U+{ord(letter):04X}"
                return f"`{code}` cannot be High Valyrian: it is no letter or mark at all"
            return f"`{shown}` cannot be High Valyrian: it has no letter or mark `{letter}`"
    if spellings := correct_macrons(word) or correct_macrons(uncapitalized):
        quoted = _quote(spellings[:3])
        return f"`{shown}` has its macrons wrong or missing; it is spelt {quoted}"
    suggestions = suggest(word) or suggest(uncapitalized)
    nearest = f"; the nearest are {_quote(suggestions)}" if suggestions else ""
    return f"`{shown}` is not a known word{nearest}"


def _quote(words: Sequence[str]) -> str:
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
        tenses = adverb.lexeme.frame.split()
        if verb.tense not in tenses:
            allowed = " or ".join(tenses)
            return f"`{verb.text}` is {verb.tense}; with `{adverb.text}` the verb must be {allowed}"
    return "the adverb of time does not go with the tense of the verb"


def explain_order(sentence: Sentence, order: Sequence[int]) -> str:
    """Explain which word or words are misplaced, given the right order."""
    words = sentence.words
    first = next(i for i, index in enumerate(order) if i != index)
    if order[first + 1] == first:
        swapped = f"{words[first + 1]} {words[first]}"
        return f"`{words[first]}` and `{words[first + 1]}` stand in the wrong order: `{swapped}`"
    return f"`{words[first]}` stands in the wrong place: the verb belongs at the end"


def explain_form(sentence: Sentence, leaf: Leaf, leaves: Sequence[Leaf]) -> str:
    """Explain why a word must have another form: that of `leaf`, which makes the parse `leaves`."""
    form, word = leaf.reading, sentence.words[leaf.word_index]
    assert form is not None
    readings = (r for r in sentence.readings[leaf.word_index] if r.lexeme == form.lexeme)
    reading = min(readings, key=lambda reading: len(form.differing_features(reading)))
    features = form.differing_features(reading)
    if form.coordinated != reading.coordinated or not features:
        return f"`{word}` must be `{form.text}` here"
    actual, expected = _describe(reading, features), _describe(form, features)
    if features == ["position"]:
        return f"`{word}` is the form used {actual}; {expected} it must be `{form.text}`"
    slot = _describe_slot(leaf, leaves, features)
    return f"`{word}` is {actual}; {slot} must be {expected}: `{form.text}`"


def _describe(reading: Reading, features: Sequence[str]) -> str:
    values = (getattr(reading, name) for name in features)
    return " ".join(_VALUE_NAMES.get(value, value) for value in values)


def _describe_slot(leaf: Leaf, leaves: Sequence[Leaf], features: Sequence[str]) -> str:
    """Describe a word by its function, as the subject of the clause "... must be nominative"."""
    reading = leaf.reading
    assert reading is not None
    if reading.word_class == "verb":
        if "mood" in features:
            return "before `daor` the verb" if reading.mood == "subjunctive" else "the verb here"
        return f"to agree with its subject{_quote_subject(leaf, leaves)} it"
    if reading.word_class == "adjective":
        return f"to agree with{_quote_noun(leaf, leaves)} it"
    later = [other for other in leaves if other.word_index > leaf.word_index]
    verbs = (
        other.reading.text
        for other in later
        if other.reading
        and other.reading.word_class == "verb"
        and other.reading.mood != "infinitive"
    )
    of_verb = next((f" of `{text}`" for text in verbs), "")
    before = next((o.reading for o in reversed(leaves) if o.word_index < leaf.word_index), None)
    match reading.case:
        case "nom":
            return f"the subject{of_verb}"
        case "acc":
            return f"the object{of_verb}"
        case "gen":
            return f"the word before `{_text(later[0])}`" if later else "it"
        case "voc":
            return "the one who is spoken to"
        case "dat" | "loc" if before and before.word_class == "word":
            return f"after `{before.text}` the noun"
        case "dat":
            return f"the receiver{of_verb}"
        case _:
            return "the noun here"


def _quote_subject(leaf: Leaf, leaves: Sequence[Leaf]) -> str:
    """Quote the nearest nominative before a word, if there is one."""
    before = [
        other.reading for other in leaves if other.reading and other.word_index < leaf.word_index
    ]
    subjects = [r.text for r in before if r.word_class == "noun" and r.case == "nom"]
    return f" `{subjects[-1]}`" if subjects else ""


def _quote_noun(leaf: Leaf, leaves: Sequence[Leaf]) -> str:
    """Quote the noun that an adjective agrees with, or the subject of the sentence."""
    target = next(iter(leaf.token.features), "")
    nouns = [o for o in leaves if o.token.name == target and o.template is leaf.template]
    if nouns and nouns[0].reading:
        return f" `{nouns[0].reading.text}`"
    return f" its subject{_quote_subject(leaf, leaves)}"


def _text(leaf: Leaf) -> str:
    return leaf.reading.text if leaf.reading else leaf.token.name
