"""The lexicon: one row of `lexicon.csv` is one `Lexeme`. README.md beside it explains the columns."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from valyrian_jax.errors import UserError


@dataclass(frozen=True, eq=False)  # equal only to itself: quick to look up
class Lexeme:
    """A word of the lexicon, as its row has it.

    Attributes:
        lemma: dictionary form: nominative singular, lunar nominative singular, or infinitive.
        pos: noun, name, adj, det, num, verb, pron, adp, conj, adv or interj.
        paradigm: the row group of the ending tables (column `class`); "" = unknown, "indecl" = one form only.
        stem: what the endings of that paradigm attach to.
        perfect_stem: what the endings of the perfect tenses attach to; "" = not known, so no perfect.
        gender: lunar, solar, terrestrial, aquatic or "".
        senses: what a noun is, what an adjective may describe, what kind of adverb it is; the main one first.
        frame: how the word combines with others, in the notation of README.md.
        gloss: English meaning.
        source: keys of the sources, listed in README.md.
    """

    lemma: str
    pos: str
    paradigm: str = ""
    stem: str = ""
    perfect_stem: str = ""
    gender: str = ""
    senses: tuple[str, ...] = ()
    frame: str = ""
    gloss: str = ""
    source: str = ""


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
    """The rows of a CSV file of this package.

    Args:
        name: file name, such as "nouns.csv".
        columns: the header that the file must have.

    Returns:
        One dictionary per row, column name -> text, in file order.

    Raises:
        UserError: the header differs, or a row has too many or too few cells.
    """
    lines = (files("valyrian_jax.language") / name).read_text(encoding="utf-8").splitlines()
    header, *rows = csv.reader(lines)
    if header != columns:
        raise UserError(
            f"{name}: the header must be {','.join(columns)}, found {','.join(header)}; restore it"
        )
    for number, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            found = f"{name}, line {number}: expected {len(columns)} cells, found {len(row)}"
            raise UserError(f"{found}; add or remove commas")
    return [dict(zip(columns, row, strict=True)) for row in rows]


@cache
def load_lexicon() -> tuple[Lexeme, ...]:
    """All words, in file order: within a part of speech from frequent to rare, as far as the generator is concerned.

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
    return tuple(lexemes.values())
