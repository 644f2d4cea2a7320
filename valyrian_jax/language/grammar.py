"""The grammar: templates of texts, sentences and phrases, and all weights, from `grammar.toml`."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.resources import files

from valyrian_jax.errors import UserError
from valyrian_jax.language.frames import expand_frames
from valyrian_jax.language.template import Template, parse_template
from valyrian_jax.language.words.lexicon import Lexeme, load_lexicon

_WEIGHT_TABLES = ("chances", "words", "tenses", "numbers", "persons")
NEXT_SPEAKER = "/"


@dataclass(frozen=True)
class TextPlan:
    """The kinds of the sentences of a text, in order; after NEXT_SPEAKER the other one speaks."""

    weight: float
    kinds: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Grammar:
    """The contents of grammar.toml."""

    texts: tuple[TextPlan, ...]
    sentences: tuple[Template, ...]
    phrases: tuple[Template, ...]
    groups: tuple[Template, ...]  # coordinated noun phrases
    other_parts: tuple[Template, ...]  # parts of sentences that are not sentences themselves
    weights: Mapping[str, Mapping[str, float]]  # the tables [chances], [words] ...
    variants: tuple[Mapping[str, str], ...]  # endings that only the checker uses

    @property
    def templates(self) -> tuple[Template, ...]:
        """All templates."""
        return (*self.sentences, *self.phrases, *self.groups, *self.other_parts)

    @cached_property
    def sentences_by_kind(self) -> Mapping[str, Sequence[Template]]:
        """The sentence templates that the generator uses, by kind."""
        kinds = dict.fromkeys(kind for template in self.sentences for kind in template.kinds)
        return {k: [t for t in self.sentences if k in t.kinds and t.weight] for k in kinds}

    @cached_property
    def parts(self) -> tuple[Template, ...]:
        """The parts of sentences; a sentence that is a part of another one has no final mark."""
        clauses = (replace(t, tokens=t.tokens[:-1]) for t in self.sentences if t.part)
        return (*clauses, *self.other_parts)

    @cached_property
    def parts_by_name(self) -> Mapping[str, Sequence[Template]]:
        """The parts of each name."""
        names = dict.fromkeys(template.part for template in self.parts)
        return {name: [t for t in self.parts if t.part == name] for name in names}


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
    for name in (*_WEIGHT_TABLES, "text", "sentence", "phrase"):
        if name not in data:
            raise UserError(f"grammar.toml has no table [{name}]; restore it")
    parts = (*data.get("part", ()), *expand_frames(data.get("frame", ()), data.get("form", ())))
    return Grammar(
        texts=tuple(TextPlan(t["weight"], (*t["sentences"].split(),)) for t in data["text"]),
        sentences=tuple(parse_template(table) for table in data["sentence"]),
        phrases=tuple(parse_template(table) for table in data["phrase"]),
        groups=tuple(parse_template(table) for table in data.get("group", ())),
        other_parts=tuple(parse_template(table) for table in parts),
        weights={name: data[name] for name in _WEIGHT_TABLES},
        variants=tuple(data.get("variant", ())),
    )


@cache
def find_part_templates(grammar: Grammar, names: Sequence[str]) -> Sequence[Template]:
    """Return the templates of the parts with these names that the generator uses."""
    return [template for template in grammar.parts if template.part in names and template.weight]


@cache
def find_free_adverbs(grammar: Grammar) -> Mapping[str, Lexeme]:
    """Return the adverbs that may be anywhere in a sentence, because no template names them.

    Phrases are not among them, nor adverbs of time, which must agree with a tense. The result is by
    lemma, from frequent to rare.
    """
    named = {token.name for template in grammar.templates for token in template.tokens}
    roles = [role for template in grammar.templates for role in template.roles.values()]
    named |= {word for role in roles if role.category == "word" for word in role.arguments}
    return {
        word.lemma: word
        for word in load_lexicon()
        if word.pos == "adv"
        and word.lemma not in named
        and " " not in word.lemma
        and "time" not in word.senses
    }
