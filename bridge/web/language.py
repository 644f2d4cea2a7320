"""High Valyrian on the page: verdicts on what a reader types, glosses and the dictionary."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from starlette.routing import Route

from bridge.web.description_queue import DescriptionQueue
from bridge.web.request import MAX_PROMPT_CHARACTERS
from bridge.web.session import describe_verdict
from valyrian_jax.errors import UserError
from valyrian_jax.files import name_json_type
from valyrian_jax.language.checker.text import split_sentences
from valyrian_jax.language.checker.verdict import (
    NOT_IN_GRAMMAR,
    Verdict,
    check_sentence,
    check_without_diagnosis,
)
from valyrian_jax.language.dictionary import Entry, describe_entry, describe_lexeme, look_up
from valyrian_jax.language.examples import find_example, name_sources
from valyrian_jax.language.interlinear import gloss
from valyrian_jax.language.words.paradigm import list_tables

_CACHED_SENTENCES = 1 << 10
_MAX_DIAGNOSED = 120  # words of a text; diagnosing them takes a second or two
_OVER_BUDGET = f"{NOT_IN_GRAMMAR}, like many before it; check fewer sentences to learn more"


def create_language_routes(queue: DescriptionQueue) -> list[Route]:
    """Create the endpoints of the language."""
    return [
        queue.make_route("/check", parse_text, describe_check),
        queue.make_route("/gloss", parse_text, describe_gloss),
        queue.make_route("/word", parse_text, describe_word),
    ]


def parse_text(body: dict[str, Any]) -> str:
    """Return the text of a request.

    Raises:
        UserError: The value is not a string, not valid Unicode, or too long.
    """
    text = body.get("text")
    if not isinstance(text, str):
        raise UserError(f"text is {name_json_type(text)}, expected a string")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError("text is not valid Unicode: it has a lone surrogate; remove it")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise UserError(
            f"the text is too long: expected at most {MAX_PROMPT_CHARACTERS:,} characters, found "
            f"{len(text):,}; send it in parts"
        )
    return text


def describe_check(text: str) -> dict[str, Any]:
    """Describe the verdicts on the sentences of a text."""
    return {"sentences": [*map(describe_verdict, check_within(text, _MAX_DIAGNOSED))]}


def check_within(text: str, words: int) -> Iterator[Verdict]:
    """Check the sentences of a text, and diagnose the first that the grammar does not have.

    A diagnosis parses a sentence dozens of times, about as often as it has words.

    Args:
        text: The text.
        words: Number of words to diagnose; later sentences get no diagnosis.
    """
    for sentence in split_sentences(text):
        verdict = _check_quickly(sentence)
        if verdict.reason == NOT_IN_GRAMMAR:
            words -= verdict.words
            verdict = _check(sentence) if words >= 0 else verdict._replace(reason=_OVER_BUDGET)
        yield verdict


@lru_cache(_CACHED_SENTENCES)
def _check_quickly(sentence: str) -> Verdict:
    return check_without_diagnosis(sentence)


@lru_cache(_CACHED_SENTENCES)
def _check(sentence: str) -> Verdict:
    """Check a sentence; while a reader types one, the cache answers for the others."""
    return check_sentence(sentence)


def describe_gloss(text: str) -> dict[str, Any]:
    """Describe each word of a sentence."""
    words = [word._asdict() | {"known": word.is_known} for word in gloss(text).words]
    return {"text": text, "words": words}


def describe_word(text: str) -> dict[str, Any]:
    """Describe the entries of the dictionary for a word, or the nearest words."""
    result = look_up(text)
    entries = [_describe_entry(entry) for entry in result.entries]
    return {"query": text, "entries": entries, "nearest": [*result.nearest]}


def _describe_entry(entry: Entry) -> dict[str, Any]:
    lexeme = entry.lexeme
    example = find_example(lexeme, entry.form)
    return {
        "lemma": lexeme.lemma,
        "meaning": lexeme.gloss,
        "description": describe_lexeme(lexeme),
        "match": entry.match,
        "found": describe_entry(entry),
        "sources": name_sources(lexeme.source),
        "example": example
        and {
            "text": example.text,
            "english": example.english,
            "sources": name_sources(example.source),
        },
        "tables": [
            {"title": table.title, "columns": [*table.columns], "rows": [*table.rows]}
            for table in list_tables(lexeme)
        ],
    }
