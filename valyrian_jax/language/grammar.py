"""The grammar: sentence and noun-phrase templates, and all weights, from `grammar.toml`.

The head of that file explains the notation.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from valyrian_jax.errors import UserError
from valyrian_jax.language.words.lexicon import load_lexicon
from valyrian_jax.language.words.morphology import VOWELS

CATEGORIES = ("verb", "adj", "det", "num", "time", "place", "manner", "word", "clause")
PUNCTUATION = (".", ",", "!", "?")
_WEIGHT_TABLES = ("chances", "words", "sentences", "tenses", "numbers", "persons")


@dataclass(frozen=True)
class Token:
    """An element of a template: a literal word, or a letter with features (`V:x:subjunctive`)."""

    name: str
    features: tuple[str, ...]
    is_letter: bool
    optional: bool
    coordinated: bool  # The last vowel is lengthened, "and ...".


@dataclass(frozen=True)
class Role:
    """The definition of a letter."""

    category: str  # "participant" or one of CATEGORIES
    arguments: tuple[str, ...]  # of the category, or the restrictions of a participant

    @property
    def model(self) -> str | None:
        """The participant whose number and senses this one has (`=x`)."""
        return next((a[1:] for a in self.arguments if a.startswith("=")), None)


@dataclass(frozen=True, eq=False)  # Comparing by identity makes it a dictionary key.
class Template:
    """A template of a sentence or of a noun phrase."""

    name: str
    weight: float
    tokens: tuple[Token, ...]
    roles: Mapping[str, Role]
    tenses: tuple[str, ...]  # empty if all are allowed
    clause: str  # "statement" or "negative"; "" if it cannot be a clause of another sentence
    example: str

    def modifier_position(self, index: int, following: str) -> str:
        """Return the position of the modifier with this token index, before a following word."""
        if not any(token.name == self.tokens[index].features[0] for token in self.tokens[index:]):
            return "full"
        return "prevocalic" if following[:1].lower() in VOWELS else "prepositive"


@dataclass(frozen=True, eq=False)
class Grammar:
    """The contents of grammar.toml."""

    sentences: tuple[Template, ...]
    phrases: tuple[Template, ...]
    weights: Mapping[str, Mapping[str, float]]  # the tables [chances], [words] ...
    variants: tuple[Mapping[str, str], ...]  # endings that only the checker uses


@cache
def load_grammar() -> Grammar:
    """Load the grammar of the package.

    Raises:
        UserError: grammar.toml is not TOML or lacks a table, or a template is invalid.
    """
    text = (files("valyrian_jax.language") / "grammar.toml").read_text(encoding="utf-8")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"grammar.toml is not valid TOML: {error}; correct that line") from error
    for name in (*_WEIGHT_TABLES, "sentence", "phrase"):
        if name not in data:
            raise UserError(f"grammar.toml has no table [{name}]; restore it")
    return Grammar(
        sentences=tuple(parse_template(table) for table in data["sentence"]),
        phrases=tuple(parse_template(table) for table in data["phrase"]),
        weights={name: data[name] for name in _WEIGHT_TABLES},
        variants=tuple(data.get("variant", ())),
    )


def parse_template(table: Mapping[str, object]) -> Template:
    """Parse a [[sentence]] or [[phrase]] table; every key of one letter defines a role.

    Raises:
        UserError: A letter of `words` has no role, or a role is invalid.
    """
    words = str(table["words"])
    roles = {
        letter: _parse_role(letter, str(value), words)
        for letter, value in table.items()
        if len(letter) == 1
    }
    tokens = tuple(_parse_token(word) for word in words.split())
    for token in tokens:
        if token.is_letter and token.name not in roles:
            raise UserError(
                f"grammar.toml: {words!r} uses {token.name} without defining it; "
                f"add {token.name} = ..."
            )
    tenses = table.get("tense", [])
    return Template(
        name=str(table.get("template", words)),
        weight=float(str(table["weight"])),
        tokens=tokens,
        roles=roles,
        tenses=tuple(str(tense) for tense in tenses) if isinstance(tenses, list) else (),
        clause=str(table.get("clause", "")),
        example=str(table.get("example", "")),
    )


def _parse_role(letter: str, value: str, words: str) -> Role:
    arguments = value.split()
    if letter.islower() or letter == "N":
        return Role("participant", tuple(arguments))
    if not arguments or arguments[0] not in CATEGORIES:
        raise UserError(
            f"grammar.toml: {letter} = {value!r} in {words!r} must begin with one of "
            f"{', '.join(CATEGORIES)}"
        )
    category, *rest = arguments
    if category == "verb" and (unknown := set(rest[0].split("|")) - _verb_kinds()):
        raise UserError(
            f"grammar.toml: no verb in lexicon.csv has the frame {min(unknown)!r} of {words!r}; "
            f"use one of {', '.join(sorted(_verb_kinds()))}"
        )
    return Role(category, tuple(rest))


@cache
def _verb_kinds() -> frozenset[str]:
    """Return the kinds of frames that verbs have."""
    frames = (
        frame for word in load_lexicon() if word.pos == "verb" for frame in word.frame.split(";")
    )
    return frozenset(frame.split()[0] for frame in frames if frame)


def _parse_token(word: str) -> Token:
    optional = word.startswith("(")
    text = word.strip("()")
    name, *features = text.removesuffix("+").split(":")
    is_letter = len(name) == 1 and name not in PUNCTUATION
    return Token(name, tuple(features), is_letter, optional, coordinated=text.endswith("+"))
