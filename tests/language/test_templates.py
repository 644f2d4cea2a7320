"""Every template, also of weight 0, can be drawn, and the checker accepts what is drawn."""

from contextlib import suppress
from dataclasses import replace

import pytest

from valyrian_jax.language.checker.parse_tree import Parse, Sentence
from valyrian_jax.language.checker.parser import match_template
from valyrian_jax.language.checker.verdict import check_without_diagnosis
from valyrian_jax.language.generator.paragraphs import join_words
from valyrian_jax.language.generator.realize import realize
from valyrian_jax.language.generator.sentence_state import (
    Discourse,
    Participant,
    SentenceState,
    numbers_of,
    pos_of,
    senses_of,
)
from valyrian_jax.language.generator.vocabulary import find_nouns, noun_forms
from valyrian_jax.language.generator.weighted_choice import (
    DeadEndError,
    WeightedChoice,
    seeded_choice,
)
from valyrian_jax.language.grammar import load_grammar
from valyrian_jax.language.template import Template
from valyrian_jax.language.words.analysis import Reading, analyze
from valyrian_jax.language.words.lexicon import NOMINAL_POS, load_lexicon

GRAMMAR = load_grammar()
DRAWS, ATTEMPTS = 4, 150
# The endings of the passive are inferred, `līr` has no declension, and two infinitives with `daor`
# after them need a verb of which the sources show no subjunctive.
NOT_ATTESTED = ("passive", "S:N N", "must not", "z:gen A:x", "Q N", "M y:acc")


def draw_noun(template: Template, choice: WeightedChoice) -> dict[str, Participant]:
    """Return a noun N for a template of a noun phrase."""
    role = template.roles.get("N")
    if role is None:
        return {}
    words = (word for word in load_lexicon() if word.pos in NOMINAL_POS)
    if nouns := [word for word in words if word.lemma in role.arguments]:
        noun = choice.pick(nouns, [1.0] * len(nouns))
    else:
        pool = find_nouns(pos_of(role), (senses_of(role),), "nom", numbers_of(role))
        noun = choice.pick(pool.nouns, pool.weights)
    forms = [form for form in noun_forms(noun, "nom", False) if form.number in numbers_of(role)]
    form = choice.pick(forms, [1.0] * len(forms))
    return {"N": Participant(noun, form.number, noun.gender, "3", noun, (form.text,))}


def draw(template: Template) -> list[list[str]]:
    """Return the words of a few random derivations of a template."""
    choice = seeded_choice(8)
    results: list[list[str]] = []
    for _ in range(ATTEMPTS):
        with suppress(DeadEndError):
            participants = draw_noun(template, choice)
            state = SentenceState(GRAMMAR, template, choice, participants=participants)
            results.append(realize(state, Discourse())[0])
        if len(results) == DRAWS:
            break
    return results


def read(word: str) -> tuple[Reading, ...]:
    uncapitalized = word[:1].lower() + word[1:]
    return analyze(word) + (analyze(uncapitalized) if uncapitalized != word else ())


@pytest.mark.parametrize("template", GRAMMAR.sentences, ids=lambda template: template.name)
def test_a_sentence_of_every_template_is_right(template: Template) -> None:
    alone = replace(template, is_reply=False)  # A reply needs the sentence before.
    sentences = [join_words(words) for words in draw(alone)]
    assert sentences
    verdicts = map(check_without_diagnosis, sentences)
    assert [verdict.text for verdict in verdicts if not verdict.grammatical] == []


PARTS = (*GRAMMAR.phrases, *GRAMMAR.groups, *GRAMMAR.other_parts)


@pytest.mark.parametrize("template", PARTS, ids=lambda template: template.name)
def test_a_phrase_or_part_of_every_template_matches_it(template: Template) -> None:
    results = draw(template)
    assert results or any(name in template.name for name in NOT_ATTESTED)
    for words in results:
        sentence = Sentence(GRAMMAR, words, [read(word) for word in words])
        matches = match_template(sentence, template, Parse(len(words), {}, ()))
        assert any(match.start == 0 for match in matches), " ".join(words)
