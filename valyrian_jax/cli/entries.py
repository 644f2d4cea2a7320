"""Format the entries of the dictionary for people."""

import textwrap
from collections.abc import Container, Iterator, Sequence

from valyrian_jax.cli.verdicts import MAX_WORD, abbreviate
from valyrian_jax.errors import UserError
from valyrian_jax.language.dictionary import (
    Entry,
    LookUp,
    describe_entry,
    describe_lexeme,
    look_up,
)
from valyrian_jax.language.examples import find_example, name_sources
from valyrian_jax.language.words.lexicon import Lexeme
from valyrian_jax.language.words.paradigm import format_paradigm

_WIDTH = 80  # columns
_INDENT = "  "


def find_entries(query: str) -> Sequence[Entry]:
    """Find the words of High Valyrian that have this form; if it is the lemma of some, only those.

    Raises:
        UserError: There is no such word.
    """
    result = look_up(query)
    entries = [entry for entry in result.entries if entry.match in ("form", "spelling")]
    if not entries:
        others = result.nearest or [entry.lexeme.lemma for entry in result.entries]
        raise UserError(
            f"{abbreviate(query, MAX_WORD)!r} is not a word of the lexicon: expected one in any "
            f"form; similar words: {', '.join(others) or 'none'}"
        )
    return [entry for entry in entries if entry.lexeme.lemma == entry.form] or entries


def format_look_up(result: LookUp, above: Container[Lexeme] = ()) -> Iterator[str]:
    """Yield the best entries in full, and then each of the others in one line.

    Args:
        result: What was found.
        above: Words whose forms are printed already.
    """
    shown = choose_shown(result.entries)
    others = [entry for entry in result.entries if entry not in shown]
    if not result.entries:
        yield _describe_failure(result)
    yield "\n\n".join(
        _format_again(entry) if entry.lexeme in above else format_entry(entry) for entry in shown
    )
    if others:
        yield f"\n\nOther words for {abbreviate(result.query, MAX_WORD)}:\n" if shown else ""
        yield "\n".join(map(_format_line, others))


def choose_shown(entries: Sequence[Entry]) -> list[Entry]:
    """Choose the entries to print in full: all words that have this form, or else the best one."""
    forms = [entry for entry in entries if entry.match == "form"]
    if not forms and entries and entries[0].match == "spelling":
        forms = [entry for entry in entries if entry.match == "spelling"]
    is_best = len(entries) == 1 or (entries and entries[0].match == "sense")
    return forms or [*entries[:1]] * bool(is_best)


def _describe_failure(result: LookUp) -> str:
    query = abbreviate(result.query, MAX_WORD)
    if result.nearest:
        return f"{query}: not found; the nearest are {', '.join(result.nearest)}"
    if " " in result.query.strip():
        return f"{query}: not found; look its words up one by one; `gloss` explains a sentence"
    return f"{query}: not found, and no word of either language is like it"


def format_entry(entry: Entry) -> str:
    """Format an entry: what the word is and means, its forms, an example and the sources."""
    lexeme = entry.lexeme
    head = [f"{lexeme.lemma}: {describe_lexeme(lexeme)}", lexeme.gloss, *describe_entry(entry)]
    blocks = [[_wrap(head[0], ""), *map(_wrap, head[1:])], [format_paradigm(lexeme)]]
    blocks.append([*map(_wrap, _list_sources(entry))])
    return "\n\n".join("\n".join(lines) for lines in blocks if any(lines))


def _format_again(entry: Entry) -> str:
    lexeme = entry.lexeme
    lines = f"{lexeme.gloss}; its forms are above", *describe_entry(entry)
    return "\n".join([f"{lexeme.lemma}: {describe_lexeme(lexeme)}", *map(_wrap, lines)])


def _list_sources(entry: Entry) -> Iterator[str]:
    if example := find_example(entry.lexeme, entry.form):
        english = f' "{example.english}"' if example.english else ""
        sources = ", ".join(name_sources(example.source))
        yield f"example: {example.text}{english} ({sources})"
    yield f"source: {'; '.join(name_sources(entry.lexeme.source))}"


def _format_line(entry: Entry) -> str:
    lexeme = entry.lexeme
    return _wrap(f"{lexeme.lemma}: {describe_lexeme(lexeme).split(',')[0]}, {lexeme.gloss}")


def _wrap(text: str, indent: str = _INDENT) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
