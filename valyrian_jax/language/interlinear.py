"""Interlinear glosses: what each word of a sentence is and means."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from valyrian_jax.language.checker.parse_tree import Leaf
from valyrian_jax.language.checker.reading import Word, read_words
from valyrian_jax.language.checker.verdict import find_parse
from valyrian_jax.language.meanings import list_senses
from valyrian_jax.language.set_phrases import SetPhrase, load_set_phrases
from valyrian_jax.language.words.analysis import Reading
from valyrian_jax.language.words.features import abbreviate_features
from valyrian_jax.language.words.lexicon import Lexeme
from valyrian_jax.language.words.spelling import suggest

UNKNOWN = "?"  # the analysis of an unknown word
_MAX_SENSES = 3  # senses of a word in the line of English words
_DERIVATIONS = {  # How the gloss of a derived word begins, and how its analysis ends.
    "adverb": ".ADV",
    "comparative": ".CMPR",
    "equative": ".EQU",
    "agent noun": ".AGT",
    "past agent noun": ".AGT.PRF",
}


class GlossedWord(NamedTuple):
    """A word of a sentence, or a set phrase, with its analysis.

    Attributes:
        text: As it was written.
        mark: The punctuation after it.
        analysis: Its meaning and features by the Leipzig Glossing Rules: "man-NOM.PL".
        english: Its first meanings, as the lexicon has them.
        lemma: Dictionary form; "" if unknown.
        source: Keys of the sources of its meaning.
        others: Its other analyses, which another sentence could need.
        nearest: Known words like it, if it is unknown.
    """

    text: str
    mark: str
    analysis: str
    english: str
    lemma: str = ""
    source: str = ""
    others: tuple[str, ...] = ()
    nearest: tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether the word is known."""
        return self.analysis != UNKNOWN


class Gloss(NamedTuple):
    """A sentence with the analysis of each word.

    Attributes:
        text: The sentence as it was written.
        words: Its words.
        is_parsed: Whether the grammar could parse the sentence and so decide between analyses. If
            not, each word has its first analysis.
    """

    text: str
    words: tuple[GlossedWord, ...]
    is_parsed: bool


def gloss(sentence: str) -> Gloss:
    """Analyse each word of a sentence by the Leipzig Glossing Rules.

    Where a word has several analyses, the parse of the sentence decides, if there is one.

    Example:
        >>> from valyrian_jax.language import gloss
        >>> [word.analysis for word in gloss("Sīr vali kari issi.").words]
        ['now', 'man-NOM.PL', 'great-NOM.PL.LUN', 'be-PRS.3PL']

    Args:
        sentence: One sentence, in any spelling that `check` accepts.
    """
    words = read_words(sentence)
    parsed = find_parse(words)
    leaves: dict[int, Leaf] = {}
    if parsed:
        attempt, tree = parsed  # The attempt may lack the commas.
        indices = [i for i, word in enumerate(words) if word in attempt]
        leaves = {indices[leaf.word_index]: leaf for leaf in tree.leaves}
    return Gloss(sentence, tuple(_gloss_words(words, leaves)), parsed is not None)


def gloss_record(result: Gloss) -> dict[str, Any]:
    """Return the gloss of a sentence as a JSON object."""
    words = [{**word._asdict(), "known": word.is_known} for word in result.words]
    return {"text": result.text, "parsed": result.is_parsed, "words": words}


def _gloss_words(words: Sequence[Word], leaves: Mapping[int, Leaf]) -> Iterator[GlossedWord]:
    start = 0
    while start < len(words):
        first, phrase = words[start], _find_set_phrase(words, leaves, start)
        end = start + (len(phrase.words) if phrase else 1)
        text = " ".join(word.text for word in words[start:end])
        next_start = next((i for i in range(end, len(words)) if not words[i].is_mark), len(words))
        mark = "".join(word.text for word in words[end:next_start])
        if phrase:
            yield _gloss_phrase(text, mark, phrase)
        elif not first.is_mark:
            yield _gloss_word(text, mark, first, leaves.get(start))
        start = next_start


def _find_set_phrase(
    words: Sequence[Word], leaves: Mapping[int, Leaf], start: int
) -> SetPhrase | None:
    """Return the longest set phrase that begins at word `start` and fits the parse.

    Without a parse, a single word does not count as a set phrase.
    """
    for phrase in _phrases_by_first_word().get(words[start].literal, ()):
        end = start + len(phrase.words)
        if tuple(word.literal for word in words[start:end]) != phrase.words:
            continue
        categories = {_find_category(leaves[i]) for i in range(start, end) if i in leaves}
        if categories == {"set"} or (len(phrase.words) > 1 and categories <= {""}):
            return phrase
    return None


@cache
def _phrases_by_first_word() -> dict[str, list[SetPhrase]]:
    phrases: dict[str, list[SetPhrase]] = {}
    for phrase in sorted(load_set_phrases(), key=lambda phrase: -len(phrase.words)):
        phrases.setdefault(phrase.words[0], []).append(phrase)
    return phrases


def _find_category(leaf: Leaf) -> str:
    """Return the category of a word's role in the parse; "" for a literal word of the template."""
    role = leaf.template.roles.get(leaf.token.name)
    return role.category if role else ""


def _gloss_phrase(text: str, mark: str, phrase: SetPhrase) -> GlossedWord:
    senses = list_senses(phrase.gloss)
    analysis, lemma = senses[0].replace(" ", "."), " ".join(phrase.words)
    return GlossedWord(text, mark, analysis, ", ".join(senses), lemma, phrase.source)


def _gloss_word(text: str, mark: str, word: Word, leaf: Leaf | None) -> GlossedWord:
    if not word.is_known:
        return GlossedWord(text, mark, UNKNOWN, UNKNOWN, nearest=suggest(word.text))
    if not word.readings:  # It means something in a set phrase only.
        return GlossedWord(text, mark, word.literal, word.literal, word.literal)
    reading = _choose_reading(word, leaf)
    analysis, lexeme = analyze_by_leipzig(reading), reading.lexeme
    analyses = dict.fromkeys(map(analyze_by_leipzig, word.readings))
    others = tuple(other for other in analyses if other != analysis)
    english = ", ".join(list_senses(lexeme.gloss)[:_MAX_SENSES]) or lexeme.gloss
    return GlossedWord(text, mark, analysis, english, lexeme.lemma, lexeme.source, others)


def _choose_reading(word: Word, leaf: Leaf | None) -> Reading:
    """Return the reading in the parse; else that of a function word, or the first one."""
    if leaf and leaf.reading:
        return leaf.reading
    readings = sorted(word.readings, key=lambda r: (r.coordinated, not r.attested))
    function_words = (
        reading
        for reading in readings
        if reading.word_class == "word" and (leaf or reading.lexeme.pos != "interj")
    )
    return next(function_words, readings[0])


def analyze_by_leipzig(reading: Reading) -> str:
    r"""Return the meaning and features of a form: "man-NOM.PL"; "man-NOM.SG\and" if lengthened."""
    features = abbreviate_features(reading)
    stem = _name_stem(reading.lexeme)
    return stem + f"-{features}" * bool(features) + r"\and" * reading.coordinated


def _name_stem(lexeme: Lexeme) -> str:
    """Return the first sense, without spaces; for a name, or without a sense, the lemma."""
    senses = list_senses(lexeme.gloss)
    if lexeme.pos == "name" or not senses:
        return lexeme.lemma.replace(" ", ".")
    if lexeme.pos == "pron":  # he/she/it
        return "/".join(senses).replace(" ", ".")
    derivation = _DERIVATIONS.get(lexeme.gloss.partition(" of ")[0], "")
    return senses[0].replace(" ", ".") + derivation * lexeme.is_inferred
