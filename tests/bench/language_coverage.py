"""Print what the language room covers: words, forms, attested sentences, and its speed.

python tests/bench/language_coverage.py [--speed]

The first two tables are those of data/README.md.
"""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

import click

from valyrian_jax.language.checker.text import split_sentences
from valyrian_jax.language.checker.verdict import KINDS, check, check_sentence
from valyrian_jax.language.dictionary import look_up, look_up_record
from valyrian_jax.language.examples import load_examples
from valyrian_jax.language.generator.paragraphs import generate_paragraphs
from valyrian_jax.language.interlinear import gloss
from valyrian_jax.language.words.analysis import inflect
from valyrian_jax.language.words.lexicon import load_lexicon

# Kinds of sources, by the keys of sources.csv. A sentence of several sources counts for each.
SOURCES = {
    "episodes": ("TV", "HD"),
    "course": ("DU",),
    "the author's blog, phrasebook and song": ("DJ", "PH", "SO"),
    "the wiki": ("W", "NJ", "AE", "MO"),
    "learners' guides": ("GU", "BL", "ZN", "LN"),
}
POS = {
    "nouns": ("noun",),
    "names": ("name",),
    "pronouns": ("pron",),
    "adjectives": ("adj",),
    "determiners and numerals": ("det", "num"),
    "verbs": ("verb",),
    "words that do not change": ("adv", "adp", "conj", "interj"),
}
ROUNDS = 3
PAGE = 5000  # characters that the page sends at most


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table."""
    for row in (head, ["---"] * len(head), *rows):
        print("|", *" | ".join(map(str, row)).split(), "|")
    print()


def list_words() -> Iterator[tuple[str, str, str, str]]:
    """Yield for each kind of word the number of words, of attested and of inferred forms."""
    words, forms = Counter[str](), defaultdict[tuple[str, bool], set[tuple[str, str]]](set)
    names = {pos: name for name, group in POS.items() for pos in group}
    for lexeme in load_lexicon():
        name = "formed by a rule" if lexeme.is_inferred else names[lexeme.pos]
        words[name] += 1
        for reading in inflect(lexeme):
            forms[name, reading.attested].add((lexeme.lemma, reading.text))
    for name in (*POS, "formed by a rule"):
        attested, inferred = forms[name, True], forms[name, False] - forms[name, True]
        yield name, f"{words[name]:,}", f"{len(attested):,}", f"{len(inferred):,}"


def list_sentences() -> Iterator[tuple[str, int, int, int, int]]:
    """Yield for each kind of source the number of attested sentences, and of each verdict."""
    counts = {name: Counter[str]() for name in (*SOURCES, "all")}
    for example in load_examples():
        for sentence in split_sentences(example.text):
            verdict = check_sentence(sentence).verdict
            keys = {*example.source.split()}
            for name in (*(n for n, group in SOURCES.items() if keys & {*group}), "all"):
                counts[name][verdict] += 1
    for name, count in counts.items():
        right, mistake, beyond = (count[kind] for kind in KINDS)
        yield name, count.total(), right, beyond, mistake


def measure(check: Callable[[str], object], texts: Sequence[str], rounds: int = ROUNDS) -> float:
    """Return the processor seconds for all texts, the least of several rounds."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        for text in texts:
            check(text)
        seconds.append(time.process_time() - start)
    return min(seconds)


def shuffle_words(sentences: Sequence[str], seed: int) -> list[str]:
    """Return sentences with the same words in a random order, most of which nobody would say."""
    draw, shuffled = random.Random(seed), []
    for sentence in sentences:
        words = sentence.rstrip(".!?").split()
        draw.shuffle(words)
        shuffled.append(" ".join(words) + ".")
    return shuffled


def fill_page(sentences: Sequence[str]) -> str:
    """Return as many sentences as the page sends at once."""
    return " ".join(sentences)[:PAGE]


def list_speeds() -> Iterator[tuple[str, str]]:
    """Yield what was measured and the figure."""
    sentences = [s for p in generate_paragraphs(1000, seed=5) for s in p.sentences]
    check_sentence(sentences[0])
    count = len(sentences)
    yield "generated sentences", f"{count / measure(check_sentence, sentences):,.0f} a second"
    wrong = shuffle_words(sentences, seed=1)[:100]
    yield (
        "the same in a random order",
        f"{len(wrong) / measure(check_sentence, wrong):,.0f} a second",
    )
    draw = random.Random(2)
    unknown = ["".join(draw.choices("abdeghijklmnoprstuvyz", k=6)) + "." for _ in range(1000)]
    pages = {
        "sentences in a random order": fill_page(shuffle_words(sentences, seed=3)),
        "unknown words": fill_page(unknown),
        "one letter with accents": "a" + "\u0301" * (PAGE - 1),
    }
    for name, text in pages.items():
        # In a second round, the words would be known to be unknown.
        glossed = measure(gloss, [text], rounds=1)
        checked = measure(check, [text], rounds=1)
        yield f"{PAGE:,} characters: {name}", f"check {checked:.2f} s, gloss {glossed:.2f} s"
    queries = [lexeme.lemma for lexeme in load_lexicon()[::11]]
    seconds = measure(lambda query: look_up_record(look_up(query)), queries) / len(queries)
    yield "a word of the dictionary", f"{1000 * seconds:.1f} ms"


@click.command()
@click.option("--speed", is_flag=True, help="Measure the speed too, which takes a minute.")
def main(speed: bool) -> None:
    """Print the tables."""
    print_table(["", "words", "attested forms", "inferred forms"], [*list_words()])
    head = ["attested sentences", "number", "right", "beyond", "mistake"]
    print_table(head, [*list_sentences()])
    if speed:
        print_table(["what", "speed"], [*list_speeds()])


if __name__ == "__main__":
    main()
