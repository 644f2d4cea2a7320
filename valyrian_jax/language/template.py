"""Templates of sentences and noun phrases, parsed from the tables of `grammar.toml`.

The head of that file explains the notation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from valyrian_jax.errors import UserError
from valyrian_jax.language.words.lexicon import load_lexicon
from valyrian_jax.language.words.vowels import VOWELS

MODIFIERS = ("adj", "det", "num", "modifier")  # These agree with a noun; `modifier` is any of them.
ADVERBS = ("time", "place", "manner", "adverb")
CATEGORIES = ("verb", *MODIFIERS, *ADVERBS, "word", "byname", "set", "part")
PUNCTUATION = (".", ",", "!", "?")
END_MARKS = {".": ".!?", "!": "!.", "?": "?"}  # final mark of a template -> marks that match it
TELL = ("tell",)  # the kinds of a sentence template that names none


@dataclass(frozen=True)
class Token:
    """An element of a template: a literal word, or a letter with features (`V:x:subjunctive`)."""

    name: str
    features: tuple[str, ...]
    is_letter: bool
    optional: bool = False
    repeated: bool = False  # any number of times, including none
    coordinated: bool = False  # whether the last vowel is lengthened, "and ..."
    group: int = 0  # number of the group in braces, whose tokens come in any order; 0: none


@dataclass(frozen=True, eq=False)  # Comparing by identity makes it a cheap dictionary key.
class Role:
    """The definition of a letter."""

    category: str  # "participant" or one of CATEGORIES
    arguments: tuple[str, ...]  # of the category, or the restrictions of a participant

    @cached_property
    def model(self) -> str | None:
        """The participant whose number and senses this one has (`=x`)."""
        return next((a[1:] for a in self.arguments if a.startswith("=")), None)

    @property
    def is_strict(self) -> bool:
        """Whether the checker, too, requires these senses (`only`)."""
        return self.arguments[:1] == ("only",)


@dataclass(frozen=True, eq=False)  # Comparing by identity makes it a dictionary key.
class Template:
    """A template of a sentence, of a noun phrase, or of a part of other templates.

    Attributes:
        name: Name, for messages.
        weight: Frequency among the templates of its kind.
        tokens: What is printed, from left to right.
        roles: The definitions of its letters.
        tenses: Tenses that the generator chooses from; empty for all.
        part: Which part of other templates it is, such as "statement"; "" if it is none.
        head: The letter that it shares with the token of another template, as in `S:x`.
        kinds: What a sentence does in a text: tell, ask, affirm ...
        is_reply: Whether its subject, its verb V and its tense are those of the sentence before.
        number: Number of the verb with this group of noun phrases: "sg", "pl" or "any".
        covered: Whether another template matches the same, so that the checker need not try it.
        example: A sentence or phrase that it matches.
    """

    name: str
    weight: float
    tokens: tuple[Token, ...]
    roles: Mapping[str, Role]
    tenses: tuple[str, ...]
    part: str
    head: str
    kinds: tuple[str, ...]
    is_reply: bool
    number: str
    covered: bool
    example: str

    @cached_property
    def token_by_name(self) -> Mapping[str, Token]:
        """The first token of each name."""
        return {token.name: token for token in reversed(self.tokens)}

    @cached_property
    def verbs(self) -> Mapping[str, Role]:
        """The letters that are verbs."""
        return {letter: role for letter, role in self.roles.items() if role.category == "verb"}

    @cached_property
    def models(self) -> Mapping[str, str]:
        """Participants that take their number from another (letter -> letter), if uncoordinated."""
        coordinated = {token.name for token in self.tokens if token.coordinated}
        models = {letter: role.model for letter, role in self.roles.items()}
        return {letter: m for letter, m in models.items() if m and letter not in coordinated}

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """For every token, the indices of the tokens in its group, including its own."""
        return tuple(
            tuple(
                i for i, t in enumerate(self.tokens) if t is token or (token.group == t.group > 0)
            )
            for token in self.tokens
        )

    @cached_property
    def postpositive(self) -> frozenset[int]:
        """The tokens that agree with a participant and do not precede it."""
        names = [token.name for token in self.tokens]
        return frozenset(
            index
            for index, token in enumerate(self.tokens)
            if token.features and token.features[0] not in names[index:]
        )

    def modifier_position(self, index: int, following: str) -> str:
        """Return the position of the modifier with this token index, before a following word."""
        if index in self.postpositive:
            return "full"
        return "prevocalic" if following[:1].lower() in VOWELS else "prepositive"


def parse_template(table: Mapping[str, Any]) -> Template:
    """Parse a table of grammar.toml; every key that is a single letter defines a role.

    Raises:
        UserError: A letter of `words` has no role, or a role is invalid.
    """
    words = str(table["words"])
    tokens = tuple(_parse_tokens(words))
    definitions = {letter: str(value) for letter, value in table.items() if len(letter) == 1}
    for token in tokens:
        if token.is_letter and token.name not in definitions:
            raise UserError(
                f"grammar.toml: {words!r} uses {token.name} without defining it; "
                f"add {token.name} = ..."
            )
    # A frame defines letters that some forms of its verb do not use.
    used = {token.name for token in tokens}
    for letter in used & {*definitions}:
        used |= {argument.removeprefix("=") for argument in definitions[letter].split()}
    return Template(
        name=str(table.get("template", words)),
        weight=float(table["weight"]),
        tokens=tokens,
        roles={
            letter: _parse_role(letter, value, words)
            for letter, value in definitions.items()
            if letter in used
        },
        tenses=tuple(table.get("tense", ())),
        part=str(table.get("part", "")),
        head=str(table.get("head", "x")),
        kinds=tuple(table.get("kinds", TELL)),
        is_reply=bool(table.get("reply")),
        number=str(table.get("number", "")),
        covered=bool(table.get("covered")),
        example=str(table.get("example", "")),
    )


def _parse_role(letter: str, value: str, words: str) -> Role:
    arguments = value.split()
    if letter.islower() or letter == "N":
        return Role("participant", tuple(arguments))
    if not arguments or arguments[0] not in CATEGORIES:
        raise UserError(
            f"grammar.toml: {letter} = {value!r} in {words!r} must begin with one of "
            f"{', '.join(CATEGORIES)}; correct it"
        )
    category, *rest = arguments
    kinds = rest[0].split("|") if category == "verb" else ()
    named = {kind.removeprefix("=") for kind in kinds if not kind.endswith("gon")}
    if unknown := named - _verb_kinds():
        raise UserError(
            f"grammar.toml: no verb in lexicon.csv has the frame {min(unknown)!r} of {words!r}; "
            f"use one of {', '.join(sorted(_verb_kinds()))}, or an infinitive"
        )
    return Role(category, tuple(rest))


@cache
def _verb_kinds() -> frozenset[str]:
    """Return the kinds of frames that verbs have, and `any`."""
    frames = (
        frame for word in load_lexicon() if word.pos == "verb" for frame in word.frame.split(";")
    )
    return frozenset({frame.split()[0] for frame in frames if frame} | {"any"})


def _parse_tokens(words: str) -> Iterator[Token]:
    group, is_inside = 0, False
    for word in words.split():
        if word in ("{", "}"):
            is_inside = word == "{"
            group += is_inside
            continue
        text = word.strip("()")
        name, *features = text.rstrip("+*").replace("-", " ").split(":")
        yield Token(
            name,
            tuple(features),
            is_letter=len(name) == 1 and name not in PUNCTUATION,
            optional=word.startswith("("),
            repeated=text.endswith("*"),
            coordinated=text.endswith("+"),
            group=group if is_inside else 0,
        )
