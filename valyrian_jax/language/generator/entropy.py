"""The exact probability of a text: the sum over all its derivations.

A derivation is one sequence of the generator's choices. A text may have several, for example where
a form is both singular and plural, or where an omitted subject may be either of two participants.
The generator runs along every path of choices that can lead to the words of a sentence, and forward
through the sentences over every possible discourse (the forward algorithm of hidden Markov models;
Rabiner 1989).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf, log2
from typing import Any

from valyrian_jax.language.generator.paragraphs import generate_sentence, split_words
from valyrian_jax.language.generator.sentence_state import Discourse
from valyrian_jax.language.generator.vocabulary import VerbFrame, WordForm, list_verb_frames
from valyrian_jax.language.generator.weighted_choice import DeadEndError, WeightedChoice
from valyrian_jax.language.grammar import PUNCTUATION, Grammar, Role, Template
from valyrian_jax.language.set_phrases import SetPhrase, load_set_phrases
from valyrian_jax.language.words.analysis import analyze
from valyrian_jax.language.words.lexicon import Lexeme


def text_bits(sentences: Sequence[str], grammar: Grammar) -> float:
    """Return -log2 of the probability that the generator writes these sentences as one text.

    The rule that no sentence occurs twice in a corpus is ignored, so texts are independent. The
    result is infinite if the grammar cannot generate the text.
    """
    total = sum(grammar.weights["sentences"].values())
    length_probability = grammar.weights["sentences"].get(str(len(sentences)), 0.0) / total
    probabilities = {Discourse(): length_probability}
    for sentence in sentences:
        next_probabilities: dict[Discourse, float] = {}
        for discourse, probability in probabilities.items():
            for after, conditional in find_derivations(sentence, discourse, grammar):
                joint = next_probabilities.get(after, 0.0) + probability * conditional
                next_probabilities[after] = joint
        probabilities = next_probabilities
    probability = sum(probabilities.values())
    return -log2(probability) if probability else inf


def find_derivations(
    sentence: str, discourse: Discourse, grammar: Grammar
) -> list[tuple[Discourse, float]]:
    """Return the discourse after each derivation of a sentence, and its probability."""
    evidence = _find_evidence(sentence, grammar)
    results: list[tuple[Discourse, float]] = []
    paths: list[list[int]] = [[]]
    while paths:
        choose = _follow_path(paths.pop(), paths, evidence.allows)
        choice = WeightedChoice(choose, evidence.contains_any)
        try:
            text, next_discourse = generate_sentence(grammar, choice, discourse)
        except DeadEndError:
            continue
        if text == sentence:
            results.append((next_discourse, 2**-choice.bits))
    return results


@dataclass(frozen=True)
class _Evidence:
    """What a sentence shows about its derivations.

    Attributes:
        texts: Words, and words before their last vowel was lengthened.
        lemmas: Lemmas of all readings.
        pos: Parts of speech of all readings.
        lines: The words between spaces, with and without the capital letter.
        grammar: The grammar.
        parts: Whether the sentence can have one of these parts, as far as it was asked.
    """

    texts: set[str]
    lemmas: set[str]
    pos: set[str]
    lines: tuple[str, str]
    grammar: Grammar
    parts: dict[tuple[str, ...], bool] = field(default_factory=dict)

    def contains_any(self, texts: Iterable[str]) -> bool:
        """Test whether the sentence contains one of these word sequences."""
        return any(f" {text} " in line for text in texts for line in self.lines)

    def allows(self, item: Any) -> bool:
        """Test whether a choice of the generator can lead to this sentence."""
        match item:
            case WordForm():
                return item.text in self.texts
            case Lexeme():
                return item.lemma in self.lemmas
            case VerbFrame():
                return item.verb.lemma in self.lemmas
            case SetPhrase():
                return self.texts.issuperset(item.words)
            case Role():
                return self._allows_role(item)
            case Template():
                omissible = {t.name for t in item.tokens if t.optional or t.repeated}
                # A part of a sentence may be a sentence without its final mark.
                return item.literals <= self.texts | {*PUNCTUATION} and all(
                    self._allows_role(role)
                    for letter, role in item.roles.items()
                    if letter not in omissible
                )
            case _:
                return True

    def _allows_role(self, role: Role) -> bool:
        match role.category:
            case "word":
                return not self.lemmas.isdisjoint(role.arguments)
            case "adj" | "det" | "num":
                return role.category in self.pos
            case "set":
                phrases = (p for p in load_set_phrases() if p.kind in role.arguments)
                return any(map(self.allows, phrases))
            case "part":
                if role.arguments not in self.parts:
                    self.parts[role.arguments] = True  # should the part contain itself
                    templates = (t for t in self.grammar.parts if t.part in role.arguments)
                    self.parts[role.arguments] = any(map(self.allows, templates))
                return self.parts[role.arguments]
            case "verb":
                frames = list_verb_frames(tuple(role.arguments[0].replace("=", "").split("|")))
                return any(frame.verb.lemma in self.lemmas for frame in frames)
            case _:
                return True


def _find_evidence(sentence: str, grammar: Grammar) -> _Evidence:
    words = split_words(sentence)
    uncapitalized = [words[0][:1].lower() + words[0][1:], *words[1:]]
    readings = [reading for word in (uncapitalized[0], *words) for reading in analyze(word)]
    return _Evidence(
        texts={uncapitalized[0], *words} | {reading.base_text for reading in readings},
        lemmas={reading.lexeme.lemma for reading in readings},
        pos={reading.lexeme.pos for reading in readings},
        lines=(f" {' '.join(words)} ", f" {' '.join(uncapitalized)} "),
        grammar=grammar,
    )


def _follow_path(
    path: list[int], paths: list[list[int]], allows: Callable[[Any], bool]
) -> Callable[[Sequence[Any], Sequence[float]], int]:
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
