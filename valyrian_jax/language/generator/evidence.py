"""Evidence: what a sentence reveals about its derivations, so that few need to be tried."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from valyrian_jax.language.generator.vocabulary import Tense, VerbFrame, WordForm, list_verb_frames
from valyrian_jax.language.grammar import Grammar, find_part_templates
from valyrian_jax.language.set_phrases import SetPhrase, load_set_phrases
from valyrian_jax.language.template import Role, Template, Token
from valyrian_jax.language.words.analysis import analyze
from valyrian_jax.language.words.lexicon import Lexeme


@dataclass(frozen=True)
class Evidence:
    """What a sentence reveals about its derivations.

    Attributes:
        texts: Words and marks, and words before their last vowel was lengthened.
        lemmas: Lemmas of all readings.
        features: Parts of speech, cases, tenses and moods of all readings.
        lines: The words between spaces, with and without the capital letter.
        grammar: The grammar.
        parts: Cache: whether the sentence can have one of these parts.
    """

    texts: frozenset[str]
    lemmas: frozenset[str]
    features: frozenset[str]
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
            case Tense():
                return not item.is_visible or item.name in self.features
            case Role():
                return self._allows_role(item)
            case Template():
                required = (t for t in item.tokens if not (t.optional or t.repeated))
                return all(self._allows_token(item, token) for token in required)
            case _:
                return True

    def _allows_token(self, template: Template, token: Token) -> bool:
        role = template.roles.get(token.name)
        if role is None:
            return token.name in self.texts
        if role.category != "participant":
            return self._allows_role(role) and self._allows_mood(role, token)
        # The sentence must have a noun or pronoun, unless it is a subject, which may be left out.
        subjects = {t.features[0] for t in template.tokens if t.features and t is not token}
        case = token.features[0] if token.features else ""
        return token.name in subjects or case in ("", "N", "phrase") or case in self.features

    def _allows_mood(self, role: Role, token: Token) -> bool:
        if role.category != "verb":
            return True
        moods = [feature.replace("-", " ") for feature in token.features]
        mood = "infinitive" if moods[:1] == ["infinitive"] else [*moods, "indicative"][1]
        return mood in self.features

    def _allows_role(self, role: Role) -> bool:
        match role.category:
            case "word":
                return not self.lemmas.isdisjoint(role.arguments)
            case "adj" | "det" | "num":
                return role.category in self.features
            case "set":
                phrases = (p for p in load_set_phrases() if p.kind in role.arguments)
                return any(map(self.allows, phrases))
            case "part":
                if role.arguments not in self.parts:
                    self.parts[role.arguments] = True  # in case the part contains itself
                    templates = find_part_templates(self.grammar, role.arguments)
                    self.parts[role.arguments] = any(map(self.allows, templates))
                return self.parts[role.arguments]
            case "verb":
                frames = list_verb_frames(tuple(role.arguments[0].replace("=", "").split("|")))
                return any(frame.verb.lemma in self.lemmas for frame in frames)
            case _:
                return True


def find_evidence(words: list[str], grammar: Grammar) -> Evidence:
    """Return what the words and marks of a sentence reveal."""
    uncapitalized = [words[0][:1].lower() + words[0][1:], *words[1:]]
    readings = tuple(r for word in (uncapitalized[0], *words) for r in analyze(word))
    features = {f for r in readings for f in (r.lexeme.pos, r.case, r.tense, r.mood)}
    return Evidence(
        texts=frozenset((uncapitalized[0], *words, *(reading.base_text for reading in readings))),
        lemmas=frozenset(reading.lexeme.lemma for reading in readings),
        features=frozenset(features),
        lines=(f" {' '.join(words)} ", f" {' '.join(uncapitalized)} "),
        grammar=grammar,
    )
