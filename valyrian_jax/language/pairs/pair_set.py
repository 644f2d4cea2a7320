"""Sets of minimal pairs: equally many for every rule, from new sentences, and hard ones.

A pair is easy if the right form is more common than the wrong one, or if the word that demands it
is next to it. So as many pairs of a rule as possible have a wrong form that is more common, an
attractor (a nearer word that the wrong form agrees with), and a distant governor.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from random import Random

from valyrian_jax.errors import UserError
from valyrian_jax.language.generator.paragraphs import generate_paragraphs, split_words
from valyrian_jax.language.pairs.alteration import (
    Pair,
    ParsedSentence,
    find_time_adverb,
    is_wrong,
    list_pairs,
    parse_sentence,
)
from valyrian_jax.language.pairs.rules import check_rule

CountTokens = Callable[[str], int]
_Candidate = tuple[ParsedSentence, Pair]

_DISTANCES = {1: "1", 2: "2-3", 4: "4-6", 7: "7 and more"}  # ranges by their first number
_MIN_SENTENCES, _SENTENCES_PER_PAIR = 400, 40  # to search; a rarer rule gets fewer pairs
_MIN_CANDIDATES, _CANDIDATES_PER_PAIR = 20, 2  # sentences to choose from
_CONTEXTS = 6  # sentences that may precede another one


def name_distance(distance: int) -> str:
    """Return the name of the range of a distance, counted in words; "" for 0, no distance."""
    return _DISTANCES[max(first for first in _DISTANCES if first <= distance)] if distance else ""


def make_pairs(
    rules: Collection[str],
    count: int,
    seed: int,
    count_tokens: CountTokens = len,
    exclude: Collection[str] = (),
) -> dict[str, list[Pair]]:
    """Make the pairs of some rules.

    The checker accepts every right sentence and no wrong one. No sentence is in two pairs of a
    rule. Both sentences of a pair have the same number of tokens, if there are enough such pairs.

    Args:
        rules: Names of rules.
        count: Number of pairs for each rule; a rule that few sentences can break gets fewer.
        seed: Seed from 0; the same one gives the same pairs.
        count_tokens: Function that counts the tokens of a text; the default counts characters.
        exclude: Sentences to leave out, such as those of a training text.

    Raises:
        UserError: There is no such rule, or the count is less than 1.
    """
    for rule in rules:
        check_rule(rule)
    if count < 1:
        raise UserError(f"the number of pairs must be at least 1, found {count}; ask for more")
    sentences = _generate_sentences(_MIN_SENTENCES + _SENTENCES_PER_PAIR * count, seed)
    word_counts = Counter[str]()
    needed = max(_MIN_CANDIDATES, _CANDIDATES_PER_PAIR * count)
    candidates = _collect(rules, needed, sentences, word_counts, exclude)
    random, count_once = Random(seed).random, cache(count_tokens)
    pairs = {}
    for rule in rules:
        # Unlike `shuffle`, this gives the same order in every version of Python.
        shuffled = sorted(candidates[rule], key=lambda _: random())
        groups: tuple[list[_Candidate], list[_Candidate]] = ([], [])  # as many tokens, or not
        for candidate in shuffled:
            groups[len({*map(count_once, candidate[1].texts)}) - 1].append(candidate)
        pairs[rule] = _select(groups, count, word_counts)
    return pairs


def _generate_sentences(limit: int, seed: int) -> Iterator[str]:
    for paragraph in generate_paragraphs(limit, seed):
        yield from paragraph.sentences


def _collect(
    rules: Collection[str],
    needed: int,
    sentences: Iterable[str],
    word_counts: Counter[str],
    exclude: Collection[str],
) -> dict[str, list[_Candidate]]:
    """Collect candidates for pairs, for each rule from as many sentences as it needs.

    Args:
        rules: Names of rules.
        needed: Number of sentences for each rule.
        sentences: Right sentences; reading stops when no rule needs more.
        word_counts: Counts of words; those of the sentences are added.
        exclude: Sentences to leave out.
    """
    counts = dict.fromkeys(rules, 0)  # of sentences, by rule
    candidates = defaultdict[str, list[_Candidate]](list)
    contexts: list[ParsedSentence] = []
    for text in sentences:
        word_counts.update(split_words(text))
        open_rules = {rule for rule, number in counts.items() if number < needed}
        if not open_rules:
            break
        sentence = None if text in exclude else parse_sentence(text, open_rules)
        if sentence:
            pairs = [*list_pairs(sentence, contexts, open_rules)]
            for pair in pairs:
                candidates[pair.rule].append((sentence, pair))
            for rule in {pair.rule for pair in pairs}:
                counts[rule] += 1
            if find_time_adverb(sentence):
                contexts = [sentence, *contexts][:_CONTEXTS]
    return candidates


def _select(
    groups: Iterable[Iterable[_Candidate]], count: int, word_counts: Counter[str]
) -> list[Pair]:
    """Select pairs from the first group and then from the others, taking every kind in turn.

    Each pair has a different right sentence.
    """
    selected: dict[str, Pair] = {}  # by the right sentence
    for group in groups:
        queues = defaultdict[tuple[object, ...], list[_Candidate]](list)
        for sentence, pair in group:
            is_lure = word_counts[pair.wrong_form] > word_counts[pair.form]
            kind = bool(pair.attractor), name_distance(pair.distance), is_lure
            queues[kind].append((sentence, pair))
        waiting = [iter(queues[kind]) for kind in sorted(queues)]
        while waiting and len(selected) < count:
            queue = waiting.pop(0)
            unused = (c for c in queue if c[1].right not in selected)
            chosen = next((pair for sentence, pair in unused if is_wrong(sentence, pair)), None)
            if chosen:
                selected[chosen.right] = chosen
                waiting.append(queue)
    return [*selected.values()]
