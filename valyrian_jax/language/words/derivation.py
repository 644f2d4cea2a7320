"""Derivation: words that a rule of the sources forms from others; all of them are inferred.

The lexicon lists the derived words that a source attests. This module adds the others. The checker
and the dictionary know them; the generator never uses them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from valyrian_jax.language.words.lexeme import RULE, Lexeme


@dataclass(frozen=True)
class _Rule:
    """A rule: from the words of a part of speech and some classes to another word."""

    name: str
    pos: str
    classes: tuple[str, ...]
    ending: str  # attached to the stem or, if has_perfect_stem, to the perfect stem
    new_pos: str
    new_class: str
    has_perfect_stem: bool = False
    finals: str = ""  # last consonants, after a vowel, that the stem must have; empty for any


_RULES = (
    _Rule("adverb", "adj", ("I",), "irī", "adv", "indecl"),  # lykirī
    _Rule("adverb", "adj", ("II", "IIr", "III"), "ī", "adv", "indecl"),  # gevī
    # kirinkta, aderpa; how other consonants change before k and p is not known.
    _Rule("comparative", "adj", ("I", "II", "IIr"), "kta", "adj", "I", finals="lnrs"),
    _Rule("equative", "adj", ("I", "II", "IIr"), "pa", "adj", "I", finals="lnrs"),
    _Rule("agent noun", "verb", ("c-fin",), "iros", "noun", "3sol"),  # dohaeriros
    _Rule("past agent noun", "verb", ("c-fin",), "ros", "noun", "3sol", has_perfect_stem=True),
)
_VOWELS = "aeiouyāēīōūȳ"
_LEMMA_ENDINGS = {"I": "a", "3sol": "os", "indecl": ""}


def derive_words(words: Sequence[Lexeme]) -> Iterator[Lexeme]:
    """Yield the words that the rules give and that are not among `words`."""
    lemmas = {word.lemma for word in words}
    for rule in _RULES:
        for word in words:
            stem = word.perfect_stem if rule.has_perfect_stem else word.stem
            stem += "r" * (word.paradigm == "IIr")
            lemma = stem + rule.ending
            if not stem or not _applies(rule, word, stem) or lemma in lemmas:
                continue
            lemmas.add(lemma)
            yield Lexeme(
                lemma=lemma,
                pos=rule.new_pos,
                paradigm=rule.new_class,
                stem=lemma.removesuffix(_LEMMA_ENDINGS[rule.new_class]),
                gender="solar" if rule.new_pos == "noun" else "",
                gloss=f"{rule.name} of {word.lemma}: {word.gloss}",
                source=RULE,
            )


def _applies(rule: _Rule, word: Lexeme, stem: str) -> bool:
    if word.pos != rule.pos or word.paradigm not in rule.classes or word.is_inferred:
        return False
    return not rule.finals or (stem[-1] in rule.finals and stem[-2:-1] in _VOWELS)
