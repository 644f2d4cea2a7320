"""Format what the language checker says of sentences and words, as lines of text or JSON."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from valyrian_jax.errors import UserError
from valyrian_jax.language import Verdict
from valyrian_jax.language.checker.verdict import check_sentence, stream_sentences
from valyrian_jax.language.words.analysis import FEATURES, Reading, analyze
from valyrian_jax.language.words.spelling import nfc, suggest
from valyrian_jax.tokenizer.display import escape_controls, to_json

INDENT = len("right  ")
_MAX_SENTENCE, _MAX_WORD = 300, 40  # characters printed for people


def format_verdicts(blocks: Iterable[str], as_json: bool) -> Iterator[str]:
    """Yield the verdict of each sentence and, without JSON, the number of grammatical sentences.

    Args:
        blocks: A text of any size, in blocks.
        as_json: Whether to yield JSON.

    Raises:
        UserError: The text has no sentence.
    """
    right, total, is_nfc = 0, 0, True
    for sentence in stream_sentences(blocks):
        verdict = check_sentence(sentence)
        yield _verdict_json(verdict) if as_json else _verdict_text(verdict)
        right, total = right + verdict.grammatical, total + 1
        is_nfc = is_nfc and sentence == nfc(sentence)
    if not total:
        raise UserError("the text has no sentence to check; expected at least one word")
    if not as_json:
        yield _summarize(right, total)
        if not is_nfc:
            yield "note: the text is not NFC (its accents are separate characters); checked as NFC"


def _summarize(right: int, total: int) -> str:
    if total == 1:
        return f"1 sentence is {'' if right else 'not '}grammatical"
    return f"{right} of {total} sentences are grammatical"


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
            yield to_json({"word": word, "readings": [*map(_reading_record, readings)]})
        elif readings:
            yield word
            yield from map(_reading_text, readings)
        else:
            neighbours = ", ".join(suggest(word))
            hint = f"; the nearest are {neighbours}" if neighbours else ""
            raise UserError(f"'{_shorten(word, _MAX_WORD)}' is not a known word{hint}")


def _verdict_json(verdict: Verdict) -> str:
    return to_json(
        {"text": verdict.text, "grammatical": verdict.grammatical, "reason": verdict.reason}
    )


def _verdict_text(verdict: Verdict) -> str:
    sentence = _shorten(verdict.text, _MAX_SENTENCE)
    if verdict.grammatical:
        return f"right  {sentence}"
    return f"wrong  {sentence}\n{' ' * INDENT}{verdict.reason}"


def _shorten(text: str, length: int) -> str:
    """Return the beginning of a text in one line, with control characters as escapes."""
    escaped = escape_controls(text[: length + 1], kept="")
    return escaped if len(escaped) <= length else escaped[:length] + "…"


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
