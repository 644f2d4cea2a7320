"""The exact probability of a text: the sum over all its derivations.

A derivation is one sequence of the generator's choices. A text may have several, for example where
a form is both singular and plural, or where an omitted subject may be either of two participants.
The sum uses dynamic programming: the generator runs along the choices that can lead to the words
of a sentence, the outcomes of each piece of a derivation (a clause, a noun phrase) are found once,
and the sentences of a text are a forward pass over every possible discourse (the forward algorithm
of hidden Markov models; Rabiner 1989).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from math import inf, log2
from typing import Any

from valyrian_jax.language.generator.evidence import find_evidence
from valyrian_jax.language.generator.paragraphs import generate_sentence, split_words
from valyrian_jax.language.generator.sentence_state import Discourse
from valyrian_jax.language.generator.weighted_choice import (
    Chooser,
    DeadEndError,
    WeightedChoice,
)
from valyrian_jax.language.grammar import NEXT_SPEAKER, Grammar, TextPlan


def text_bits(sentences: Sequence[str], grammar: Grammar) -> float:
    """Return -log2 of the probability that the generator writes these sentences as one text.

    The rule that no sentence occurs twice in a corpus is ignored, so texts are independent. The
    result is infinite if the grammar cannot generate the text.
    """
    sums = [DerivationSum(sentence, grammar) for sentence in sentences]
    total = sum(text.weight for text in grammar.texts)
    probability = sum(
        plan.weight / total * _plan_probability(sums, plan)
        for plan in grammar.texts
        if len(sums) == sum(kind != NEXT_SPEAKER for kind in plan.kinds)
    )
    return -log2(probability) if probability else inf


def _plan_probability(sums: Sequence["DerivationSum"], plan: TextPlan) -> float:
    probabilities = {Discourse(): 1.0}
    remaining = iter(sums)
    for kind in plan.kinds:
        if kind == NEXT_SPEAKER:
            steps = ((d.change_speaker(), p) for d, p in probabilities.items())
        else:
            derivations = next(remaining)
            steps = (
                (after, probability * conditional)
                for discourse, probability in probabilities.items()
                for after, conditional in derivations.after(discourse, kind).items()
            )
        totals: dict[Discourse, float] = {}
        for discourse, probability in steps:
            totals[discourse] = totals.get(discourse, 0.0) + probability
        probabilities = totals
    return sum(probabilities.values())


class DerivationSum:
    """The sum over the derivations of one sentence.

    Args:
        sentence: The sentence.
        grammar: The grammar.
    """

    def __init__(self, sentence: str, grammar: Grammar) -> None:
        self._sentence = sentence
        self._grammar = grammar
        self._evidence = find_evidence(split_words(sentence), grammar)
        self._outcomes: dict[tuple[Hashable, ...], dict[Any, float]] = {}

    def after(self, discourse: Discourse, kind: str = "tell") -> dict[Discourse, float]:
        """Return every discourse that can follow, with the joint probability of the sentence."""
        outcomes = self._sum_outcomes(generate_sentence, self._grammar, discourse, kind)
        return {after: p for (text, after), p in outcomes.items() if text == self._sentence}

    def _sum_outcomes(
        self, procedure: Callable[..., Any], *arguments: Hashable
    ) -> Mapping[Any, float]:
        """Return the outcomes of a procedure that the sentence allows, and their probabilities."""
        key = (procedure, *arguments)
        if key not in self._outcomes:
            self._outcomes[key] = sum_paths(
                lambda choose: WeightedChoice(
                    choose, self._evidence.contains_any, self._sum_outcomes
                ),
                lambda choice: procedure(choice, *arguments),
                self._evidence.allows,
            )
        return self._outcomes[key]


def sum_paths(
    make_choice: Callable[[Chooser], WeightedChoice],
    procedure: Callable[[WeightedChoice], Any],
    allows: Callable[[Any], bool],
) -> dict[Any, float]:
    """Run a procedure along every path of allowed choices; return its outcomes' probabilities."""
    outcomes: dict[Any, float] = {}
    paths: list[list[int]] = [[]]
    while paths:
        choice = make_choice(_follow_path(paths.pop(), paths, allows))
        with suppress(DeadEndError):
            outcome = procedure(choice)
            outcomes[outcome] = outcomes.get(outcome, 0.0) + 2**-choice.bits
    return outcomes


def _follow_path(path: list[int], paths: list[list[int]], allows: Callable[[Any], bool]) -> Chooser:
    """Return a chooser that follows a path, and then takes the first choice that is allowed.

    It extends `path` by its own choices and adds the alternatives to `paths`.
    """
    step = -1

    def choose(items: Sequence[Any], weights: Sequence[float]) -> int:
        nonlocal step
        step += 1
        if step == len(path):
            indices = [i for i, item in enumerate(items) if weights[i] > 0 and allows(item)]
            if not indices:
                raise DeadEndError
            paths.extend([*path, index] for index in indices[1:])
            path.append(indices[0])
        return path[step]

    return choose
