"""The report of a model on minimal pairs, by rule and by what makes pairs hard."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.memory import count_texts
from valyrian_jax.bundle.text_generation import generate_many_texts
from valyrian_jax.data.text import encode_documents
from valyrian_jax.data.windows import EvalWindows
from valyrian_jax.evaluation.ngram import WittenBell
from valyrian_jax.evaluation.pairs import (
    Accuracy,
    Scorer,
    find_seen_pairs,
    fits_context,
    measure_accuracy,
    measure_margins,
    score_texts,
    score_with_trigram,
)
from valyrian_jax.evaluation.report import REPORT_SAMPLE, choose_scratch, open_run
from valyrian_jax.generation.generate import make_generator
from valyrian_jax.language.checker.text import split_sentences
from valyrian_jax.language.pairs.alteration import Pair
from valyrian_jax.language.pairs.mistake import make_mistake_pair
from valyrian_jax.language.pairs.pair_set import make_pairs, name_distance
from valyrian_jax.language.pairs.rules import RULES
from valyrian_jax.model.parameters import from_tensors
from valyrian_jax.run_directory import load_run_bundle
from valyrian_jax.tokenizer import Tokenizer

ALL, OWN_MISTAKES = "all", "own mistakes"
Margins = npt.NDArray[np.float64]


class PairRow(NamedTuple):
    """The accuracy on a group of pairs.

    Attributes:
        rule: Name of the rule; "all" for all rules.
        group: What the pairs have in common: "all", "attractor", "distance 1" ..., "seen",
            "unseen" or "own mistakes".
        model: Accuracy of the model.
        trigram: Accuracy of the trigram model; None if there is no text to train it on.
        equal_length: Number of pairs whose two texts have the same number of tokens.
    """

    rule: str
    group: str
    model: Accuracy
    trigram: Accuracy | None
    equal_length: int


class RunPairs(NamedTuple):
    """A model with the pairs to test it on.

    Attributes:
        bundle: The model.
        training: Documents of its training text; None if the bundle does not name it, or if it
            does not fit into memory.
        held_out: Windows of its held-out text; None if the bundle does not name it.
        pairs: Pairs for each rule, from sentences that the training text does not have.
        unseen: For each pair, whether no training sentence has its form and its governor together.
        too_long: Number of pairs that were left out because they are longer than the context.
    """

    bundle: Bundle
    training: Sequence[str] | None
    held_out: EvalWindows | None
    pairs: list[Pair]
    unseen: list[bool]
    too_long: int


class PairReport(NamedTuple):
    """The accuracy of a model on minimal pairs.

    Attributes:
        rows: Groups of all rules, and then those of each rule.
        failed: Pairs in which the model prefers the wrong sentence, the clearest first.
        too_long: Number of pairs that are longer than the context.
    """

    rows: list[PairRow]
    failed: list[Pair]
    too_long: int


def make_run_pairs(directory: Path, rules: Sequence[str], count: int, seed: int) -> RunPairs:
    """Make pairs for the model of a run or bundle, with its tokenizer.

    Raises:
        UserError: The run has no bundle, its text has changed, or an argument is wrong.
    """
    bundle = load_run_bundle(directory)
    training, held_out = None, None
    if "config" in bundle.manifest:
        dataset = open_run(directory)[1]
        held_out, documents = dataset.eval_set.windows, dataset.read_documents()
        training = documents.train if documents else None
    sentences = {s for document in training or () for s in split_sentences(document)}
    count_tokens = functools.partial(_count_tokens, bundle.tokenizer)
    pairs_by_rule = make_pairs(rules, count, seed, count_tokens, sentences)
    all_pairs = [pair for rule in rules for pair in pairs_by_rule[rule]]
    pairs = [p for p in all_pairs if fits_context(p, bundle.tokenizer, bundle.model.n_positions)]
    unseen = [not is_seen for is_seen in find_seen_pairs(pairs, sentences)]
    return RunPairs(bundle, training, held_out, pairs, unseen, len(all_pairs) - len(pairs))


def _count_tokens(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text))


def make_pair_report(directory: Path, count: int, seed: int, texts: int) -> PairReport:
    """Measure a run's best weights, or a bundle, on minimal pairs.

    Args:
        directory: Directory of the run or the bundle.
        count: Number of pairs for each rule.
        seed: Seed of the pairs.
        texts: Number of texts to sample; the mistakes in them, repaired, are pairs too.

    Raises:
        UserError: The run has no bundle, its text has changed, or an argument is wrong.
    """
    run = make_run_pairs(directory, [*RULES], count, seed)
    bundle = run.bundle
    mistakes = list_own_mistakes(bundle, texts)
    scorer = functools.partial(
        score_texts, from_tensors(bundle.tensors), bundle.model, bundle.tokenizer
    )
    scorers: list[Scorer] = [scorer]
    if run.training is not None:
        tokens = encode_documents(run.training, bundle.tokenizer, choose_scratch(directory))
        trigram = WittenBell(tokens, 3, bundle.tokenizer.vocab_size)
        scorers.append(functools.partial(score_with_trigram, trigram, bundle.tokenizer))

    generated = _Scored(run.pairs, [measure_margins(run.pairs, score) for score in scorers])
    repaired = _Scored(mistakes, [measure_margins(mistakes, score) for score in scorers])
    rows = [
        _make_row(scored, rule, group, indices, bundle.tokenizer)
        for scored, rule, group, indices in _list_groups(generated, repaired, run.unseen)
    ]
    margins = generated.margins[0]
    failed = [run.pairs[i] for i in np.argsort(margins) if margins[i] <= 0]
    return PairReport(rows, failed, run.too_long)


class _Scored(NamedTuple):
    """Pairs with the margins that the model, and then the trigram model, give them."""

    pairs: list[Pair]
    margins: list[Margins]


def _list_groups(
    generated: _Scored, repaired: _Scored, unseen: Sequence[bool]
) -> Iterator[tuple[_Scored, str, str, list[int]]]:
    """Yield the groups of pairs, first of all rules and then of each: rule, name and indices."""
    for rule in (ALL, *RULES):
        indices = [i for i, pair in enumerate(generated.pairs) if rule in (ALL, pair.rule)]
        groups: dict[str, list[int]] = {ALL: indices}
        for i in indices:
            pair = generated.pairs[i]
            groups.setdefault("unseen" if unseen[i] else "seen", []).append(i)
            if pair.attractor:
                groups.setdefault("attractor", []).append(i)
            if pair.distance:
                groups.setdefault(f"distance {name_distance(pair.distance)}", []).append(i)
        yield from (
            (generated, rule, name, groups[name]) for name in sorted(groups) if groups[name]
        )
        indices = [i for i, pair in enumerate(repaired.pairs) if rule in (ALL, pair.rule)]
        if indices:
            yield repaired, rule, OWN_MISTAKES, indices


def _make_row(
    scored: _Scored, rule: str, group: str, indices: list[int], tokenizer: Tokenizer
) -> PairRow:
    model, *trigram = (measure_accuracy(margins[indices]) for margins in scored.margins)
    equal = sum(_has_equal_length(scored.pairs[i], tokenizer) for i in indices)
    return PairRow(rule, group, model, trigram[0] if trigram else None, equal)


def _has_equal_length(pair: Pair, tokenizer: Tokenizer) -> bool:
    return len({len(tokenizer.encode(text)) for text in pair.texts}) == 1


def list_own_mistakes(bundle: Bundle, texts: int) -> list[Pair]:
    """Return the mistakes in sampled texts with their smallest repairs.

    The settings are those of the report of a run: temperature 1, top-p 0.9, seeds from 0.
    """
    if not texts:
        return []
    sampled = generate_many_texts(
        make_generator(bundle), bundle.tokenizer, REPORT_SAMPLE, texts, count_texts(bundle.model)
    )
    sentences = dict.fromkeys(s for text in sampled for s in split_sentences(text))
    pairs = [make_mistake_pair(sentence) for sentence in sentences if sentence[-1] in ".!?"]
    return [p for p in pairs if p and fits_context(p, bundle.tokenizer, bundle.model.n_positions)]
