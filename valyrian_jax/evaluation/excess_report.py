"""The excess of a model, divided among groups of sentences."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.evaluation.calibration import Calibration, measure_calibration
from valyrian_jax.evaluation.excess import Excess, Part, measure_excess
from valyrian_jax.evaluation.report import open_run
from valyrian_jax.language.generator.derivations import SentenceDerivation, generate_derivations
from valyrian_jax.language.generator.paragraphs import split_words
from valyrian_jax.run_directory import load_run_bundle

SEED = 2  # that of the shipped corpus is 1
_EXAMPLES = 2
_LENGTHS = {1: "1-3 words", 4: "4-5 words", 6: "6-8 words", 9: "9 words and more"}


class Group(NamedTuple):
    """The sentences that have something in common.

    Attributes:
        name: What they have in common.
        sentences: Number of them.
        excess: Nats of the model above those of the source, in all of them together.
        examples: Those that cost most.
    """

    name: str
    sentences: int
    excess: float
    examples: tuple[str, ...]


class ExcessReport(NamedTuple):
    """What a model has left to learn, and where.

    Attributes:
        texts: Number of texts.
        excess: The excess on them.
        divisions: Groups of parts, by the name of the division; each part is in one group of a
            division, so their excess sums to the total.
        constructions: Groups by template of a phrase or part; a sentence counts for each that it
            has.
        calibration: Calibration of the model on the same texts.
    """

    texts: int
    excess: Excess
    divisions: dict[str, list[Group]]
    constructions: list[Group]
    calibration: list[Calibration]


def make_excess_report(directory: Path, texts: int) -> ExcessReport:
    """Divide the excess of a run's best weights, or of a bundle, on new texts of the grammar.

    Raises:
        UserError: The run has no bundle, its text has changed, or a loss is not finite.
    """
    bundle = load_run_bundle(directory)
    training = _find_training_sentences(directory, bundle)
    derivations = list(generate_derivations(texts, SEED))
    excess = measure_excess(bundle, derivations)
    divisions = {
        "template": _divide(excess.parts, lambda s: [s.templates[0].name]),
        "length": _divide(excess.parts, lambda s: [_name_length(s.text)]),
    }
    if training is not None:
        divisions["training text"] = _divide(
            excess.parts, lambda s: ["has it" if s.text in training else "does not have it"]
        )
    constructions = _divide(
        [part for part in excess.parts if part.derivation], lambda s: _name_constructions(s)
    )
    calibration = measure_calibration(bundle, [text.text for text in derivations])
    return ExcessReport(texts, excess, divisions, constructions, calibration)


def _find_training_sentences(directory: Path, bundle: Bundle) -> frozenset[str] | None:
    return open_run(directory)[1].training_sentences if "config" in bundle.manifest else None


def _divide(
    parts: Iterable[Part], name: Callable[[SentenceDerivation], Sequence[str]]
) -> list[Group]:
    """Return groups of parts, the one with most excess first; the ends of texts are one group."""
    groups = defaultdict[str, list[Part]](list)
    for part in parts:
        for group in name(part.derivation) if part.derivation else ["end of text"]:
            groups[group].append(part)
    divided = [_make_group(group, members) for group, members in groups.items()]
    return sorted(divided, key=lambda group: -group.excess)


def _make_group(name: str, parts: Sequence[Part]) -> Group:
    costly = sorted(parts, key=lambda part: -part.excess)
    examples = dict.fromkeys(part.derivation.text for part in costly if part.derivation)
    return Group(name, len(parts), sum(p.excess for p in parts), (*examples,)[:_EXAMPLES])


def _name_length(text: str) -> str:
    words = sum(word[0].isalpha() for word in split_words(text))
    return _LENGTHS[max(first for first in _LENGTHS if first <= max(words, 1))]


def _name_constructions(sentence: SentenceDerivation) -> list[str]:
    """Return the names of the phrases and parts of a sentence, without single nouns."""
    names = dict.fromkeys(template.name for template in sentence.templates[1:])
    return [name for name in names if name != "N"]
