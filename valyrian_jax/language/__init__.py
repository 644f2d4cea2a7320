"""High Valyrian, David J. Peterson's constructed language: lexicon, inflection and a sentence generator.

Facts live in data that a linguist can edit (lexicon.csv, the ending tables, grammar.toml); code only combines them:

    lexicon.py     words                  morphology.py  word -> all its forms, sure and unsure
    grammar.py     sentence templates     realise.py     filled template -> words
    vocabulary.py  which words suit       filling.py     template -> filled template, by seeded chance
    sentences.py   paragraphs
"""

from valyrian_jax.language.lexicon import Lexeme, load_lexicon
from valyrian_jax.language.morphology import Form, conjugate, decline, inflect_adjective
from valyrian_jax.language.sentences import generate_paragraphs

__all__ = ["Form", "Lexeme", "conjugate", "decline", "generate_paragraphs", "inflect_adjective", "load_lexicon"]
