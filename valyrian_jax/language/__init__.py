"""High Valyrian, David J. Peterson's constructed language: lexicon, inflection, grammar, checker.

The facts are data that a linguist can edit: lexicon.csv, the ending tables and grammar.toml. The
code combines them:

    words/      lexicon, inflection of a word, analysis of a form, spelling, paradigms
    grammar.py  the sentence templates, which generator and checker share
    generator/  from templates to sentences, and their exact probability
    checker/    from a sentence to a verdict with a reason
    dictionary.py, interlinear.py
                from a word to its entries, and from a sentence to its gloss
"""

from valyrian_jax.language.checker.verdict import Verdict, check
from valyrian_jax.language.dictionary import Entry, LookUp, look_up
from valyrian_jax.language.generator.entropy import text_bits
from valyrian_jax.language.generator.paragraphs import Paragraph, generate_paragraphs
from valyrian_jax.language.grammar import load_grammar
from valyrian_jax.language.interlinear import Gloss, GlossedWord, gloss
from valyrian_jax.language.words.lexicon import Lexeme, load_lexicon
from valyrian_jax.language.words.morphology import Form, conjugate, decline, inflect_adjective

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
