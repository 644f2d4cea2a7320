"""The lexicon: the words of `lexicon.csv`, whose columns the README explains, and derived ones."""

import csv
from functools import cache
from importlib.resources import files

from valyrian_jax.errors import UserError
from valyrian_jax.language.words.derivation import derive_words
from valyrian_jax.language.words.lexeme import ADJECTIVAL_POS, NOMINAL_POS, Lexeme

__all__ = [
    "ADJECTIVAL_POS",
    "COLUMNS",
    "NOMINAL_POS",
    "Lexeme",
    "load_lexicon",
    "read_table",
]

COLUMNS = [
    "lemma",
    "pos",
    "class",
    "stem",
    "perfect_stem",
    "gender",
    "sense",
    "frame",
    "gloss",
    "source",
]


def read_table(name: str, columns: list[str]) -> list[dict[str, str]]:
    """Read a CSV file of this package.

    Args:
        name: File name, such as "nouns.csv".
        columns: Expected header.

    Returns:
        A dictionary from column name to text for every row, in file order.

    Raises:
        UserError: The header differs, or a row has too many or too few cells.
    """
    lines = (files("valyrian_jax.language") / name).read_text(encoding="utf-8").splitlines()
    header, *rows = csv.reader(lines)
    if header != columns:
        raise UserError(
            f"{name}: the header must be {','.join(columns)}, found {','.join(header)}; restore it"
        )
    for number, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            raise UserError(
                f"{name}, line {number}: expected {len(columns)} cells, found {len(row)}; "
                "add or remove commas"
            )
    return [dict(zip(columns, row, strict=True)) for row in rows]


@cache
def load_lexicon() -> tuple[Lexeme, ...]:
    """Load all words in file order, from frequent to rare, and then those derived from them.

    Raises:
        UserError: `lexicon.csv` is malformed or lists a word twice with the same part of speech.
    """
    lexemes: dict[tuple[str, str], Lexeme] = {}
    for row in read_table("lexicon.csv", COLUMNS):
        key = row["lemma"], row["pos"]
        if key in lexemes:
            raise UserError(
                f"lexicon.csv: {row['lemma']!r} ({row['pos']}) is listed twice; remove one row"
            )
        lexemes[key] = Lexeme(
            lemma=row["lemma"],
            pos=row["pos"],
            paradigm=row["class"],
            stem=row["stem"],
            perfect_stem=row["perfect_stem"],
            gender=row["gender"],
            senses=tuple(row["sense"].split()),
            frame=row["frame"],
            gloss=row["gloss"],
            source=row["source"],
        )
    return (*lexemes.values(), *derive_words(tuple(lexemes.values())))
