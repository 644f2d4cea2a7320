"""Texts with their derivations: the information and the templates of every sentence.

Unlike the texts of a corpus, these are independent of each other: a sentence may occur twice. So
their mean information is the entropy of the grammar's derivations, without the rule that no
sentence occurs twice, which no model can follow.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import log2
from typing import Any, NamedTuple

from valyrian_jax.errors import UserError
from valyrian_jax.language.generator.paragraphs import ATTEMPTS, generate_sentence
from valyrian_jax.language.generator.sentence_state import Discourse
from valyrian_jax.language.generator.weighted_choice import (
    DeadEndError,
    WeightedChoice,
    make_chooser,
)
from valyrian_jax.language.grammar import NEXT_SPEAKER, Grammar, TextPlan, load_grammar
from valyrian_jax.language.template import Template


class SentenceDerivation(NamedTuple):
    """A sentence and the choices that made it.

    Attributes:
        text: The sentence.
        bits: -log2 of the probability of its kind after the kinds before it, and of its choices.
        templates: Its template, and then those of its phrases and parts.
    """

    text: str
    bits: float
    templates: tuple[Template, ...]


class TextDerivation(NamedTuple):
    """A text and the choices that made it.

    Attributes:
        sentences: Its sentences.
        end_bits: -log2 of the probability that it ends after them.
    """

    sentences: tuple[SentenceDerivation, ...]
    end_bits: float

    @property
    def text(self) -> str:
        """The sentences, separated by spaces."""
        return " ".join(sentence.text for sentence in self.sentences)

    @property
    def bits(self) -> float:
        """-log2 of the probability of the derivation."""
        return sum(sentence.bits for sentence in self.sentences) + self.end_bits


def generate_derivations(texts: int, seed: int) -> Iterator[TextDerivation]:
    """Generate independent texts with their derivations.

    After a dead end, the sentence is drawn again, as in a corpus, and the information of the dead
    end is not counted. After too many of them, the text is drawn again from its beginning.

    Args:
        texts: Number of texts, at least 1.
        seed: Seed from 0; the same one gives the same texts.

    Raises:
        UserError: `texts` is less than 1.
    """
    if texts < 1:
        raise UserError(f"the number of texts must be at least 1, found {texts}; ask for more")
    grammar, choose, templates = load_grammar(), make_chooser(seed), list[Template]()

    def choose_and_record(items: Sequence[Any], weights: Sequence[float]) -> int:
        index = choose(items, weights)
        if isinstance(items[index], Template):
            templates.append(items[index])
        return index

    choice = WeightedChoice(choose_and_record)
    while texts:
        if text := _generate_text(grammar, choice, templates):
            yield text
            texts -= 1


def _generate_text(
    grammar: Grammar, choice: WeightedChoice, templates: list[Template]
) -> TextDerivation | None:
    """Generate a text; None after too many dead ends. `templates` records the templates picked."""
    plan = choice.pick(grammar.texts, [text.weight for text in grammar.texts])
    sentences, discourse = list[SentenceDerivation](), Discourse()
    plan_bits, start = 0.0, 0
    for index, kind in enumerate(plan.kinds):
        if kind == NEXT_SPEAKER:
            discourse = discourse.change_speaker()
            continue
        plan_bits = _measure_plan(grammar.texts, plan.kinds[start : index + 1], plan.kinds[:start])
        start = index + 1
        for _ in range(ATTEMPTS):
            choice.bits = 0.0
            templates.clear()
            with suppress(DeadEndError):
                text, discourse = generate_sentence(choice, grammar, discourse, kind)
                break
        else:
            return None
        sentences.append(SentenceDerivation(text, plan_bits + choice.bits, (*templates,)))
    ending = sum(p.weight for p in grammar.texts if p.kinds == plan.kinds)
    return TextDerivation((*sentences,), -log2(ending / _weigh(grammar.texts, plan.kinds)))


def _measure_plan(
    plans: Sequence[TextPlan], following: Sequence[str], before: Sequence[str]
) -> float:
    """Return -log2 of the probability that a plan continues with these kinds after `before`."""
    return -log2(_weigh(plans, (*before, *following)) / _weigh(plans, before))


def _weigh(plans: Sequence[TextPlan], beginning: Sequence[str]) -> float:
    """Return the total weight of the plans that begin with these kinds."""
    return sum(p.weight for p in plans if p.kinds[: len(beginning)] == (*beginning,))
