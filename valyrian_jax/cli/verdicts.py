"""Format the language checker's results for sentences and words, as lines of text or JSON."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from valyrian_jax.errors import UserError
from valyrian_jax.language.checker.reading import Word, read_word
from valyrian_jax.language.checker.text import stream_sentences, tokenize
from valyrian_jax.language.checker.verdict import Verdict, check_sentence
from valyrian_jax.language.template import PUNCTUATION
from valyrian_jax.language.words.analysis import FEATURES, Reading
from valyrian_jax.language.words.features import merge_readings
from valyrian_jax.language.words.spelling import suggest
from valyrian_jax.tokenizer.display import escape_controls, to_json

INDENT = len("mistake  ")
STATUS = {"right": 0, "beyond": 3, "mistake": 1}  # exit statuses; a later one takes precedence
_MAX_SENTENCE, MAX_WORD = 300, 40  # characters printed for people


def format_verdicts(blocks: Iterable[str], as_json: bool, counts: Counter[str]) -> Iterator[str]:
    """Yield the verdict on each sentence and, without JSON, the number of each verdict.

    Args:
        blocks: A text of any size, in blocks.
        as_json: Whether to yield JSON.
        counts: Numbers of sentences by verdict, to add to.

    Raises:
        UserError: The text has no sentence.
    """
    for sentence in stream_sentences(blocks):
        verdict = check_sentence(sentence)
        counts[verdict.verdict] += 1
        yield _verdict_json(verdict) if as_json else _verdict_text(verdict)
    if not counts:
        raise UserError("the text has no sentence to check; expected at least one word")
    if not as_json:
        yield summarize(counts)


def summarize(counts: Counter[str]) -> str:
    """Return the number of sentences of each verdict."""
    names = {"right": "right", "mistake": "with a mistake", "beyond": "beyond the grammar"}
    parts = [f"{counts[kind]} {name}" for kind, name in names.items() if counts[kind]]
    total = counts.total()
    return f"{total} sentence{'s' * (total > 1)}: {', '.join(parts)}"


def exit_status(counts: Counter[str]) -> int:
    """Return the exit status for these numbers of verdicts."""
    return next((STATUS[kind] for kind in reversed(STATUS) if counts[kind]), 0)


def format_readings(words: Sequence[str], as_json: bool, counts: Counter[str]) -> Iterator[str]:
    """Yield the readings of each word: one JSON object per word, or lines of text.

    Args:
        words: Words, or sentences with several.
        as_json: Whether to yield JSON.
        counts: Numbers of known ("right") and unknown ("beyond") words, to add to.

    Raises:
        UserError: There is no word.
    """
    tokens = [token for text in words for token in tokenize(text) if token not in PUNCTUATION]
    if not tokens:
        raise UserError("--word expects at least one word, found none; name the words to look up")
    for word in map(read_word, tokens):
        counts["right" if word.is_known else "beyond"] += 1
        yield _word_json(word) if as_json else "\n".join(_word_lines(word))


def _word_json(word: Word) -> str:
    record = {"word": word.text, "readings": [*map(_reading_record, word.readings)]}
    return to_json(record if word.is_known else record | {"nearest": [*suggest(word.text)]})


def _word_lines(word: Word) -> Iterator[str]:
    shown = abbreviate(word.text, MAX_WORD)
    spellings = dict.fromkeys(reading.text for reading in word.readings)
    if not word.is_known:
        neighbours = ", ".join(suggest(word.text)) if len(word.text) <= MAX_WORD else ""
        yield f"{shown}: not a known word" + f"; the nearest are {neighbours}" * bool(neighbours)
    elif spellings and word.text.lower() not in (text.lower() for text in spellings):
        yield f"{shown}: written {', '.join(spellings)}"
    else:
        yield shown
    for reading, features in merge_readings(word.readings):
        lexeme = reading.lexeme
        marks = " (and)" * reading.coordinated + " (inferred)" * (not reading.attested)
        yield f"  {lexeme.lemma} ({lexeme.gloss}): {features or lexeme.pos}{marks}"


def _verdict_json(verdict: Verdict) -> str:
    names = "text", "grammatical", "verdict", "reason", "notes"
    return to_json({name: getattr(verdict, name) for name in names})


def _verdict_text(verdict: Verdict) -> str:
    lines = [verdict.reason] * bool(verdict.reason) + [*verdict.notes]
    sentence = abbreviate(verdict.text, _MAX_SENTENCE)
    first = f"{verdict.verdict:<{INDENT}}{sentence}"
    return "\n".join([first, *(" " * INDENT + line for line in lines)])


def abbreviate(text: str, length: int) -> str:
    """Return the beginning of a text in one line, with control characters as escapes."""
    escaped = escape_controls(text[: length + 1], kept="")
    return escaped if len(escaped) <= length else escaped[:length] + "…"


def _list_features(reading: Reading) -> dict[str, str]:
    """Return the grammatical features that a reading has."""
    return {name: value for name in FEATURES if (value := getattr(reading, name))}


def _reading_record(reading: Reading) -> dict[str, Any]:
    lexeme = reading.lexeme
    return {
        "lemma": lexeme.lemma,
        "pos": lexeme.pos,
        "gloss": lexeme.gloss,
        **_list_features(reading),
        "sure": reading.attested,
        **({"joined": True} if reading.coordinated else {}),
    }
