"""The sentence templates as values: `grammar.toml`, whose head explains the notation, read and checked."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from valyrian_jax.errors import UserError
from valyrian_jax.language.words.lexicon import load_lexicon

CATEGORIES = ("verb", "adj", "det", "num", "time", "place", "manner", "word", "clause")
PUNCTUATION = (".", ",", "!", "?")


@dataclass(frozen=True)
class Token:
    """One element of a template: a literal word, or a letter with its features (`V:x:subjunctive`)."""

    name: str
    features: tuple[str, ...]
    is_letter: bool
    optional: bool
    joined: bool  # last vowel long: "and ..."


@dataclass(frozen=True)
class Role:
    """What a letter stands for: a category of words with its arguments, or "participant" with its restrictions."""

    category: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, eq=False)  # equal only to itself, so that it can be a key
class Pattern:
    """A sentence template or a noun-phrase shape. `tenses` is empty where all are allowed."""

    name: str
    weight: float
    tokens: tuple[Token, ...]
    roles: Mapping[str, Role]
    tenses: tuple[str, ...]
    clause: str  # "statement", "negative", or "": not to be used inside another sentence
    example: str


@dataclass(frozen=True, eq=False)
class Grammar:
    """Everything in grammar.toml.

    Attributes:
        sentences, phrases: the templates.
        weights: its tables chances, words, sentences, tenses, numbers and persons.
        variants: endings that the checker accepts and the generator does not write.
    """

    sentences: tuple[Pattern, ...]
    phrases: tuple[Pattern, ...]
    weights: Mapping[str, Mapping[str, float]]
    variants: tuple[Mapping[str, str], ...]


@cache
def load_grammar() -> Grammar:
    """The grammar that the package ships.

    Raises:
        UserError: grammar.toml is not TOML or lacks a table, or a template uses a letter that it does not explain.
    """
    text = (files("valyrian_jax.language") / "grammar.toml").read_text(encoding="utf-8")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"grammar.toml is not valid TOML: {error}; correct that line") from error
    names = ("chances", "words", "sentences", "tenses", "numbers", "persons")
    if missing := [name for name in (*names, "sentence", "phrase") if name not in data]:
        raise UserError(f"grammar.toml has no table [{missing[0]}]; restore it")
    return Grammar(
        sentences=tuple(parse_pattern(table) for table in data["sentence"]),
        phrases=tuple(parse_pattern(table) for table in data["phrase"]),
        weights={name: data[name] for name in names},
        variants=tuple(data.get("variant", ())),
    )


def parse_pattern(table: Mapping[str, object]) -> Pattern:
    """One [[sentence]] or [[phrase]] table as a pattern.

    Args:
        table: its keys and values; every key of one letter is a role.

    Raises:
        UserError: `words` uses a letter without a role, or a role names no category.
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
                f"grammar.toml: {words!r} uses {token.name} without explaining it; add {token.name} = ..."
            )
    tenses = table.get("tense", [])
    return Pattern(
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
        categories = ", ".join(CATEGORIES)
        raise UserError(
            f"grammar.toml: {letter} = {value!r} in {words!r} must begin with one of {categories}"
        )
    if arguments[0] == "verb" and (strange := set(arguments[1].split("|")) - _verb_kinds()):
        kinds = ", ".join(sorted(_verb_kinds()))
        raise UserError(
            f"grammar.toml: no verb in lexicon.csv has the frame {min(strange)!r} of {words!r}; known: {kinds}"
        )
    return Role(arguments[0], tuple(arguments[1:]))


@cache
def _verb_kinds() -> frozenset[str]:
    """The kinds of frames that verbs have."""
    frames = (
        frame for word in load_lexicon() if word.pos == "verb" for frame in word.frame.split(";")
    )
    return frozenset(frame.split()[0] for frame in frames if frame)


def _parse_token(word: str) -> Token:
    optional = word.startswith("(")
    bare = word.strip("()")
    joined = bare.endswith("+")
    name, *features = bare.removesuffix("+").split(":")
    is_letter = len(name) == 1 and name not in PUNCTUATION
    return Token(name, tuple(features), is_letter, optional, joined)
