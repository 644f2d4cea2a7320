"""The exact probability of a text: the sum over every derivation that the grammar has for it.

One derivation is what the generator happened to choose; a text may have several, when a form is both singular and
plural, say, or when a subject that is left out may be one of two. The generator is run again and again along every
path of choices that can lead to the words of a sentence, and forward through the sentences over every scene that can
stand between them (the forward algorithm of hidden Markov models; Rabiner 1989).
"""

from collections.abc import Callable, Iterable, Sequence
from math import inf, log2
from typing import Any

from valyrian_jax.language.generator.paragraphs import draw, to_words
from valyrian_jax.language.generator.sentence_state import Scene
from valyrian_jax.language.generator.vocabulary import Use, Word, verb_uses
from valyrian_jax.language.generator.weighted_choice import DeadEndError, WeightedChoice
from valyrian_jax.language.grammar import PUNCTUATION, Grammar, Pattern, Role
from valyrian_jax.language.words.analysis import readings
from valyrian_jax.language.words.lexicon import Lexeme


def text_bits(sentences: Sequence[str], grammar: Grammar) -> float:
    """-log2 of the probability that the generator writes these sentences as one text.

    Its sentences are taken to be independent of those of other texts, that is, without the rule that none stands twice.

    Args:
        sentences: as `generate_paragraphs` writes them.
        grammar: the grammar.

    Returns:
        Bits; infinite if the grammar cannot write the text.
    """
    total = sum(grammar.weights["sentences"].values())
    length = grammar.weights["sentences"].get(str(len(sentences)), 0.0) / total
    scenes = {Scene(): length}
    for sentence in sentences:
        after: dict[Scene, float] = {}
        for scene, probability in scenes.items():
            for then, share in derivations(sentence, scene, grammar):
                after[then] = after.get(then, 0.0) + probability * share
        scenes = after
    found = sum(scenes.values())
    return -log2(found) if found else inf


def derivations(sentence: str, scene: Scene, grammar: Grammar) -> list[tuple[Scene, float]]:
    """Every way to write one sentence: the scene after it, and the probability of its choices."""
    as_is = to_words(sentence)
    spoken = [as_is[0][:1].lower() + as_is[0][1:], *as_is]
    read = [reading for word in spoken for reading in readings(word)]
    texts = {*spoken, *(reading.plain for reading in read)}
    shown = {*texts, *PUNCTUATION}  # a clause loses its mark inside another sentence
    lemmas = {reading.lexeme.lemma for reading in read}
    kinds = {reading.lexeme.pos for reading in read}

    def present(role: Role) -> bool:
        """Whether the sentence has a word for a letter of a template, as far as that is easily seen."""
        match role.category:
            case "word":
                return not lemmas.isdisjoint(role.arguments)
            case "adj" | "det" | "num":
                return role.category in kinds
            case "verb":
                return any(
                    use.verb.lemma in lemmas
                    for use in verb_uses(tuple(role.arguments[0].split("|")))
                )
            case _:
                return True

    def visible(item: Any) -> bool:
        match item:
            case Word():
                return item.text in texts
            case Lexeme():
                return item.lemma in lemmas
            case Use():
                return item.verb.lemma in lemmas
            case Pattern():
                small_words = {token.name for token in item.tokens if not token.is_letter}
                return small_words <= shown and all(map(present, item.roles.values()))
            case _:
                return True

    lines = [f" {' '.join(words)} " for words in (as_is, [spoken[0], *as_is[1:]])]

    def can_say(texts: Iterable[str]) -> bool:
        return any(f" {text} " in line for text in texts for line in lines)

    found: list[tuple[Scene, float]] = []
    paths: list[list[int]] = [[]]
    while paths:
        chance = WeightedChoice(_along(paths.pop(), paths, visible), can_say)
        try:
            written, after = draw(grammar, chance, scene)
        except DeadEndError:
            continue
        if written == sentence:
            found.append((after, 2**-chance.bits))
    return found


def _along(
    path: list[int], others: list[list[int]], visible: Callable[[Any], bool]
) -> Callable[[Sequence[Any], Sequence[float]], int]:
    """Choices along a path, then always the first that is possible; the ways not taken are added to `others`."""
    step = -1

    def choose(items: Sequence[Any], weights: Sequence[float]) -> int:
        nonlocal step
        step += 1
        if step == len(path):
            ways = [i for i, item in enumerate(items) if weights[i] > 0 and visible(item)]
            if not ways:
                raise DeadEndError
            others.extend([*path, way] for way in ways[1:])
            path.append(ways[0])
        return path[step]

    return choose
