"""Sentences are drawn again until they are right, with seeds that are stated."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from valyrian_jax.bundle.grammatical_text import (
    MAX_DRAWS,
    SEED_STEP,
    DrawnSentence,
    SentenceCounts,
    count_sentences,
    describe_counts,
    draw_sentences,
    generate_grammatical_text,
)
from valyrian_jax.bundle.text_generation import TokenColumns, generate_many_texts
from valyrian_jax.config import SampleConfig
from valyrian_jax.language.checker.verdict import check_without_diagnosis, split_sentences
from valyrian_jax.tokenizer import train_bpe

RIGHT = ["Valar morghūlis.", "Udra ivestrās!", "Sȳz māvos gevie issa.", "Dohaerirossa gevī issi."]
WRONG = ["Qwxyz morghūlis.", "Valar qwxyz!", "Qwx yz?"]
TOKENIZER = train_bpe(" ".join(RIGHT) * 3 + ".,, a.” b.,, a.” b.,, a.” b" * 9, 300)
SAMPLE = SampleConfig(max_new_tokens=1000, temperature=1.0)


class Call(NamedTuple):
    """What a token generator was asked for."""

    context: str
    seed: int
    max_new_tokens: int
    min_new_tokens: int


class Script:
    """A token generator that writes the text of a function of the seed, then ends the document."""

    def __init__(self, write: Callable[[int], str]) -> None:
        self._write = write
        self.calls: list[Call] = []

    def __call__(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sample: SampleConfig
    ) -> TokenColumns:
        (prompt,), (seed,), end = prompts, seeds, TOKENIZER.end_of_text
        context = TOKENIZER.decode(i for i in prompt if i != end)
        self.calls.append(Call(context, seed, sample.max_new_tokens, sample.min_new_tokens))
        ids = itertools.chain(TOKENIZER.encode(self._write(seed)), itertools.repeat(end))
        for i in itertools.islice(ids, sample.max_new_tokens):
            yield np.array([i], np.int32)


def script(seed: int, *texts: str) -> Script:
    """Return a generator of a text for each of the seeds of a text, which starts with `seed`."""
    by_seed = {(seed + r * SEED_STEP) % 2**32: text for r, text in enumerate(texts)}
    return Script(by_seed.__getitem__)


def is_right(sentence: str) -> bool:
    return check_without_diagnosis(sentence).grammatical


def draw(generate: Script, **changes: object) -> tuple[str, SentenceCounts]:
    return generate_grammatical_text(generate, TOKENIZER, replace(SAMPLE, **changes))


def test_the_sentences_for_these_tests_are_what_they_say() -> None:
    assert all(map(is_right, RIGHT))
    assert not any(map(is_right, WRONG))


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_a_wrong_sentence_is_drawn_again_with_the_next_seed(seed: int) -> None:
    first, second, third, fourth = RIGHT
    texts = [
        f"{first} {WRONG[0]} {first}",
        f" {WRONG[1]} {WRONG[2]}",
        f" {second} {third} {WRONG[2]}",
        f" {fourth}",
    ]
    generate = script(seed, *texts)
    text, counts = draw(generate, seed=seed, min_new_tokens=20)
    assert text == f"{first} {second} {third} {fourth}"
    assert counts == SentenceCounts(sentences=4, first_right=2, right=4)
    contexts = ["", first, first, f"{first} {second} {third}"]
    sizes = [len(TOKENIZER.encode(context)) for context in contexts]
    assert generate.calls == [
        Call(context, (seed + r * SEED_STEP) % 2**32, 1000 - size, max(0, 20 - size))
        for r, (context, size) in enumerate(zip(contexts, sizes, strict=True))
    ]


def test_the_seeds_of_a_text_differ_from_those_of_its_neighbours() -> None:
    redraws = {(r * SEED_STEP) % 2**32 for r in range(1, 2000)}
    assert len(redraws) == 1999
    assert min(min(seed, 2**32 - seed) for seed in redraws) > 900_000


def test_a_text_of_right_sentences_is_the_plain_one() -> None:
    generate = Script(lambda seed: f"{RIGHT[seed % 4]} {RIGHT[seed % 3]}")
    for seed in range(12):
        sample = replace(SAMPLE, seed=seed, prompt="Sȳz māvos gevie issa. ")
        plain = [*generate_many_texts(generate, TOKENIZER, sample, 1)]
        assert [draw(generate, **vars(sample))[0]] == plain


def test_the_last_of_many_wrong_draws_stays() -> None:
    generate = Script(lambda seed: f" Vala qwx{seed}. {RIGHT[0]}")
    text, counts = draw(generate, prompt=RIGHT[1], seed=5)
    last = (5 + (MAX_DRAWS - 1) * SEED_STEP) % 2**32
    assert text == f"{RIGHT[1]} Vala qwx{last}. {RIGHT[0]}"
    assert counts == SentenceCounts(sentences=2, first_right=1, right=1)
    assert len(generate.calls) == MAX_DRAWS
    generate = Script(lambda _: WRONG[0])
    assert draw(generate) == (WRONG[0], SentenceCounts(1, 0, 0))
    assert len(generate.calls) == MAX_DRAWS


@pytest.mark.parametrize(
    ("prompt", "first", "again", "draws"),
    [
        ("Valar", " qwx.", " morghūlis.", 2),
        ("Valar morg", "xyz.", "hūlis.", 2),
        ("Valar qwx. Sȳz māvos ", "gevie issa.", "", 1),
        ("Valar qwx.", " Udra qwx!", " Udra ivestrās!", 2),
        ("Valar qwx.\n", "Udra qwx!", "Udra ivestrās!", 2),
        ("  ", "Qwx!", "Udra ivestrās!", 2),
        ("Valar morghūlis", ".", "", 1),
    ],
)
def test_the_first_sentence_includes_what_the_prompt_begins(
    prompt: str, first: str, again: str, draws: int
) -> None:
    generate = script(3, first, again)
    text, counts = draw(generate, prompt=prompt, seed=3)
    assert text == prompt + (again or first)
    assert counts == SentenceCounts(1, draws == 1, 1)
    assert len(generate.calls) == draws


@pytest.mark.parametrize("unfinished", ["", " Valar qwxyz", " Valar, ", " qw"])
def test_an_unfinished_sentence_at_the_end_stays_unchecked(unfinished: str) -> None:
    text = RIGHT[0] + unfinished
    generate = script(0, text)
    assert draw(generate) == (text, SentenceCounts(1, 1, 1))
    generate = Script(lambda seed: f"{text}qwxyz morghūlis. {WRONG[0]}")
    size = len(TOKENIZER.encode(text))
    assert draw(generate, max_new_tokens=size) == (text, SentenceCounts(1, 1, 1))
    assert len(generate.calls) == 1


def test_the_length_bounds_the_text_whatever_is_drawn_again() -> None:
    generate = Script(lambda seed: " ".join([RIGHT[seed % 4], WRONG[seed % 3]] * 9))
    for length in range(1, 80, 3):
        sample = replace(SAMPLE, max_new_tokens=length, seed=length)
        sentences = [*draw_sentences(generate, TOKENIZER, sample)]
        assert sum(len(sentence.ids) for sentence in sentences) == length
        assert all(call.max_new_tokens >= 1 for call in generate.calls)


@pytest.mark.parametrize(
    ("stop", "expected", "counts"),
    [
        ("ivestr", f"{RIGHT[0]} Udra ", SentenceCounts(1, 1, 1)),  # in a sentence
        ("s. U", "Valar morghūli", SentenceCounts(1, 1, 1)),  # over two sentences
        ("!", f"{RIGHT[0]} Udra ivestrās", SentenceCounts(2, 1, 2)),  # at the end of one
        ("qwx", f"{RIGHT[0]} ", SentenceCounts(1, 1, 1)),  # before a wrong one is complete
        ("yz! V", f"{RIGHT[0]} {RIGHT[1]} {RIGHT[2]}", SentenceCounts(3, 2, 3)),  # in a dropped one
    ],
)
def test_a_stop_string_ends_the_text(stop: str, expected: str, counts: SentenceCounts) -> None:
    generate = script(0, f"{RIGHT[0]} qwxyz! Valar", f" {RIGHT[1]} {RIGHT[2]}")
    if stop in ("ivestr", "s. U"):
        generate = script(0, f"{RIGHT[0]} {RIGHT[1]} {WRONG[0]}")
    assert draw(generate, stop=(stop, "never there")) == (expected, counts)


def test_a_mark_that_changes_the_sentence_before_is_drawn_again() -> None:
    generate = script(0, f"{RIGHT[0]} {WRONG[0]}", f"? {RIGHT[1]}", f" {RIGHT[2]}")
    assert draw(generate) == (f"{RIGHT[0]} {RIGHT[2]}", SentenceCounts(2, 1, 2))


def test_the_verdicts_are_those_on_the_whole_text() -> None:
    marks = [".", " .", "!", "?!", "...", "\n", ".”", ".,", " , ", " . . "]

    def write(seed: int) -> str:
        """Return right and wrong sentences with marks between them, at the beginning too."""
        rng = np.random.default_rng(seed)
        texts = [str(rng.choice([*RIGHT, *RIGHT, *WRONG, "qwx"])) for _ in range(8)]
        return " ".join(
            str(rng.choice(marks)) * (rng.random() < 0.3) + text for text in ["", *texts]
        )

    redrawn = 0
    for seed in range(25):
        sentences = [*draw_sentences(Script(write), TOKENIZER, replace(SAMPLE, seed=seed))]
        text = TOKENIZER.decode(i for sentence in sentences for i in sentence.ids)
        verdicts = [
            check_without_diagnosis(sentence).grammatical for sentence in split_sentences(text)
        ]
        drawn = [sentence.is_right for sentence in sentences if sentence.is_right is not None]
        assert verdicts[: len(drawn)] == drawn, text
        # A mark in one token with the end of a right sentence can make the next one wrong for good.
        assert all(s.is_right is not False or s.draws == MAX_DRAWS for s in sentences)
        redrawn += sum(sentence.draws > 1 for sentence in sentences)
    assert redrawn > 25


def test_counts_in_words() -> None:
    def describe(*sentences: tuple[int, bool | None]) -> str:
        return describe_counts(count_sentences(DrawnSentence([0], *each) for each in sentences))

    assert describe() == describe((1, None)) == "no sentence was finished"
    assert describe((1, True)) == "1 of 1 sentence was right when first drawn"
    assert describe((1, True), (3, True), (1, None)) == (
        "1 of 2 sentences were right when first drawn, 2 after redrawing"
    )
    assert describe((1, True), (20, False)) == (
        "1 of 2 sentences were right when first drawn; 1 was not right in 20 draws"
    )
    assert SentenceCounts(3, 1, 2) + SentenceCounts(4, 2, 4) == SentenceCounts(7, 3, 6)
