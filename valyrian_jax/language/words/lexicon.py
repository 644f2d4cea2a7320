"""The lexicon: every row of `lexicon.csv` is a `Lexeme`; the README explains the columns."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from valyrian_jax.errors import UserError

NOMINAL_POS = ("noun", "name", "pron")  # parts of speech that decline
ADJECTIVAL_POS = ("adj", "det", "num")  # parts of speech that agree with a noun
COLUMNS = [
    "lemma",
    "pos",
    "class",
    "stem",
    "perfect_stem",
    "gender",
    "sense",
    "frame",
    "checker_class",
    "checker_frame",
    "gloss",
    "source",
]


@dataclass(frozen=True, eq=False)  # Comparing by identity makes it a cheap dictionary key.
class Lexeme:
    """A word of the lexicon.

    Attributes:
        lemma: Dictionary form: nominative singular, lunar nominative singular, or infinitive.
        pos: Part of speech: noun, name, adj, det, num, verb, pron, adp, conj, adv or interj.
        paradigm: Class in the ending tables; "" if unknown, "indecl" if the word has one form only.
        stem: Stem that the endings attach to.
        perfect_stem: Stem of the perfect tenses; "" if unknown, and then the verb has none.
        gender: lunar, solar, terrestrial, aquatic or "".
        senses: What a noun is, what an adjective may describe, or the kind of an adverb; the main
            sense comes first.
        frame: How the word combines with others, in the notation of the README.
        checker_class: The paradigms that the sources give, where they differ from what the
            generator uses: `class:stem:perfect_stem`, separated by `;`.
        checker_frame: The same for `frame`.
        gloss: English meaning.
        source: Keys of the sources, which the README lists.
    """

    lemma: str
    pos: str
    paradigm: str = ""
    stem: str = ""
    perfect_stem: str = ""
    gender: str = ""
    senses: tuple[str, ...] = ()
    frame: str = ""
    checker_class: str = ""
    checker_frame: str = ""
    gloss: str = ""
    source: str = ""


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
    """Load all words in file order, which the generator reads as frequent to rare.

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
            checker_class=row["checker_class"],
            checker_frame=row["checker_frame"],
            gloss=row["gloss"],
            source=row["source"],
        )
    return tuple(lexemes.values())
