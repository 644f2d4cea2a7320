"""Format interlinear glosses: aligned lines for people, or JSON."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console

from valyrian_jax.cli.verdicts import MAX_WORD, abbreviate
from valyrian_jax.errors import UserError
from valyrian_jax.language.checker.text import stream_sentences
from valyrian_jax.language.dictionary import look_up
from valyrian_jax.language.interlinear import Gloss, GlossedWord, gloss, gloss_record
from valyrian_jax.tokenizer.display import to_json

_GAP = 2  # columns between two words


def format_glosses(
    blocks: Iterable[str], as_json: bool, with_others: bool, counts: Counter[str]
) -> Iterator[str]:
    """Yield the gloss of each sentence, with an empty line between two.

    Args:
        blocks: A text of any size, in blocks.
        as_json: Whether to yield JSON.
        with_others: Whether to list the other analyses of each word.
        counts: Numbers of sentences ("all") and unknown words ("unknown"), to add to.

    Raises:
        UserError: The text has no sentence.
    """
    width = Console().width
    for sentence in stream_sentences(blocks):
        result = gloss(sentence)
        counts["unknown"] += sum(not word.is_known for word in result.words)
        lines = [*_align(result.words, width), *_list_notes(result, with_others)]
        separator = "\n" * (counts["all"] > 0)
        counts["all"] += 1
        yield to_json(gloss_record(result)) if as_json else separator + "\n".join(lines)
    if not counts["all"]:
        raise UserError("the text has no sentence to gloss; expected at least one word")


def _align(words: Sequence[GlossedWord], width: int) -> Iterator[str]:
    """Yield three lines with aligned columns, and again for the words that do not fit."""
    block: list[tuple[str, str, str]] = []
    used = 0
    for word in words:
        column = abbreviate(word.text, MAX_WORD) + word.mark, word.analysis, word.english
        size = max(map(cell_len, column)) + _GAP
        if block and used + size - _GAP > width:
            yield from _join(block)
            yield ""
            block, used = [], 0
        block.append(column)
        used += size
    yield from _join(block)


def _join(block: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    widths = [max(map(cell_len, column)) for column in block]
    for cells in zip(*block, strict=True):
        padded = (
            cell + " " * (size - cell_len(cell)) for cell, size in zip(cells, widths, strict=True)
        )
        yield (" " * _GAP).join(padded).rstrip()


def _list_notes(result: Gloss, with_others: bool) -> Iterator[str]:
    for word in result.words:
        text = abbreviate(word.text, MAX_WORD)
        if not word.is_known:
            yield f"{text}: {_describe_unknown(word)}"
        elif with_others and word.others:
            yield f"{text}: also {', '.join(word.others)}"


def _describe_unknown(word: GlossedWord) -> str:
    entries = look_up(word.text).entries
    if lemmas := [entry.lexeme.lemma for entry in entries if entry.match == "sense"]:
        return f"an English word; in High Valyrian, {' or '.join(lemmas)}"
    return "not a known word" + f"; the nearest are {', '.join(word.nearest)}" * bool(word.nearest)
