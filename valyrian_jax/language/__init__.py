"""High Valyrian, David J. Peterson's constructed language: lexicon, inflection, grammar, checker.

The facts are data that a linguist can edit: lexicon.csv, the ending tables and grammar.toml. The
code combines them:

    words/      lexicon, inflection of a word, analysis of a form, spelling, paradigms
    grammar.py  the sentence templates (template.py), which generator and checker share
    generator/  from templates to sentences, and their exact probability
    checker/    from a sentence to a verdict with a reason
    dictionary.py, interlinear.py
                from a word to its entries, and from a sentence to its gloss

The names below are imported when one is used, so that a command imports no more than it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = [
    "Entry",
    "Form",
    "Gloss",
    "GlossedWord",
    "Lexeme",
    "LookUp",
    "Paragraph",
    "Verdict",
    "check",
    "conjugate",
    "decline",
    "generate_paragraphs",
    "gloss",
    "inflect_adjective",
    "load_grammar",
    "load_lexicon",
    "look_up",
    "text_bits",
]

if TYPE_CHECKING:
    from valyrian_jax.language.checker.verdict import Verdict, check
    from valyrian_jax.language.dictionary import Entry, LookUp, look_up
    from valyrian_jax.language.generator.entropy import text_bits
    from valyrian_jax.language.generator.paragraphs import Paragraph, generate_paragraphs
    from valyrian_jax.language.grammar import load_grammar
    from valyrian_jax.language.interlinear import Gloss, GlossedWord, gloss
    from valyrian_jax.language.words.ending_tables import Form
    from valyrian_jax.language.words.lexicon import Lexeme, load_lexicon
    from valyrian_jax.language.words.morphology import conjugate, decline, inflect_adjective
else:
    _HOMES = {
        "Verdict": "checker.verdict",
        "check": "checker.verdict",
        "Entry": "dictionary",
        "LookUp": "dictionary",
        "look_up": "dictionary",
        "text_bits": "generator.entropy",
        "Paragraph": "generator.paragraphs",
        "generate_paragraphs": "generator.paragraphs",
        "load_grammar": "grammar",
        "Gloss": "interlinear",
        "GlossedWord": "interlinear",
        "gloss": "interlinear",
        "Lexeme": "words.lexicon",
        "load_lexicon": "words.lexicon",
        "Form": "words.ending_tables",
        "conjugate": "words.morphology",
        "decline": "words.morphology",
        "inflect_adjective": "words.morphology",
    }

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
