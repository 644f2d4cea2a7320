"""High Valyrian, David J. Peterson's constructed language: lexicon, inflection and a sentence generator.

Facts live in data that a linguist can edit (lexicon.csv, the ending tables, grammar.toml); code only combines them:

    lexicon.py     words                  morphology.py  word -> all its forms, sure and unsure
    grammar.py     sentence templates     vocabulary.py  which words suit where, and how often
    chance.py      choices with bits      draft.py       participants, scene, a template being filled
    verbs.py       which verb, which form agreement.py   which adjective, which form
    filling.py     template -> words
    sentences.py   texts                  entropy.py     text -> its exact probability
    analysis.py    form -> its readings   parsing.py     words -> a parse, by the same templates
    checking.py    text -> verdicts       paradigm.py    word -> the table of its forms
"""

from valyrian_jax.language.checker.verdict import Verdict, check
from valyrian_jax.language.generator.entropy import text_bits
from valyrian_jax.language.generator.paragraphs import Paragraph, generate_paragraphs
from valyrian_jax.language.grammar import load_grammar
from valyrian_jax.language.words.lexicon import Lexeme, load_lexicon
from valyrian_jax.language.words.morphology import Form, conjugate, decline, inflect_adjective

__all__ = [
    "Form",
    "Lexeme",
    "Paragraph",
    "Verdict",
    "check",
    "conjugate",
    "decline",
    "generate_paragraphs",
    "inflect_adjective",
    "load_grammar",
    "load_lexicon",
    "text_bits",
]
