"""Format what the language checker says of sentences and words, as lines of text or JSON."""

from collections.abc import Iterator, Sequence
from typing import Any

from valyrian_jax.cli.tables import json_line
from valyrian_jax.errors import UserError
from valyrian_jax.files import decode_utf8
from valyrian_jax.language import Verdict, check
from valyrian_jax.language.words.analysis import FEATURES, Reading, analyze
from valyrian_jax.language.words.spelling import nfc, suggest

_MAX_SENTENCE, _MAX_WORD = 300, 40  # characters printed for people


def format_verdicts(encoded: bytes, as_json: bool) -> Iterator[str]:
    """Yield the verdict of each sentence and, without JSON, the number of grammatical sentences.

    Raises:
        UserError: The text is not UTF-8 or has no sentence.
    """
    text = decode_utf8(encoded, "the text")
    verdicts = check(text)
    if not verdicts:
        raise UserError("the text has no sentence to check; expected at least one word")
    for verdict in verdicts:
        yield _verdict_json(verdict) if as_json else _verdict_text(verdict)
    if not as_json:
        right = sum(verdict.grammatical for verdict in verdicts)
        yield f"{right} of {len(verdicts)} sentences are grammatical"
        if text != nfc(text):
            yield "note: the text is not NFC (its accents are separate characters); checked as NFC"


def format_readings(words: Sequence[str], as_json: bool) -> Iterator[str]:
    """Yield the readings of each word: one JSON object a word, or lines of text.

    Raises:
        UserError: There is no word, or (without JSON) a word is unknown.
    """
    if not words:
        raise UserError("--word expects at least one word, found none; name the words to look up")
    for word in map(nfc, words):
        readings = analyze(word) or analyze(word[:1].lower() + word[1:])
        if as_json:
            record = {"word": word, "readings": [*map(_reading_record, readings)]}
            yield json_line(record)
        elif readings:
            yield word
            yield from map(_reading_text, readings)
        else:
            neighbours = ", ".join(suggest(word))
            hint = f"; the nearest are {neighbours}" if neighbours else ""
            raise UserError(f"{_printable(word, _MAX_WORD)!r} is not a known word{hint}")


def _verdict_json(verdict: Verdict) -> str:
    record = {
        "text": verdict.text,
        "grammatical": verdict.grammatical,
        "reason": verdict.reason,
    }
    return json_line(record)


def _verdict_text(verdict: Verdict) -> str:
    sentence = _printable(verdict.text, _MAX_SENTENCE)
    if verdict.grammatical:
        return f"right  {sentence}"
    return f"wrong  {sentence}\n       {verdict.reason}"


def _printable(text: str, length: int) -> str:
    """Return the beginning of a text, with U+FFFD for each character that cannot be printed."""
    beginning = text if len(text) <= length else text[:length] + "…"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in beginning)


def _features(reading: Reading) -> dict[str, str]:
    """Return the grammatical features that a reading has."""
    return {name: value for name in FEATURES if (value := getattr(reading, name))}


def _reading_text(reading: Reading) -> str:
    lexeme = reading.lexeme
    description = " ".join(_features(reading).values()) or lexeme.pos
    marks = " (and)" * reading.coordinated + " (inferred)" * (not reading.attested)
    return f"  {lexeme.lemma} ({lexeme.gloss}): {description}{marks}"


def _reading_record(reading: Reading) -> dict[str, Any]:
    lexeme = reading.lexeme
    return {
        "lemma": lexeme.lemma,
        "pos": lexeme.pos,
        "gloss": lexeme.gloss,
        **_features(reading),
        "sure": reading.attested,
        **({"joined": True} if reading.coordinated else {}),
    }
