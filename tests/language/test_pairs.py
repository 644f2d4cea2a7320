"""Minimal pairs: the checker agrees with both sentences, and each breaks the rule it names."""

from collections import Counter

import pytest

from valyrian_jax.errors import UserError
from valyrian_jax.language.checker.verdict import check_sentence
from valyrian_jax.language.generator.paragraphs import generate_paragraphs
from valyrian_jax.language.pairs.alteration import Pair, is_wrong, list_pairs, parse_sentence
from valyrian_jax.language.pairs.mistake import make_mistake_pair
from valyrian_jax.language.pairs.pair_set import make_pairs, name_distance
from valyrian_jax.language.pairs.rules import RULES
from valyrian_jax.language.words.analysis import analyze

COUNT = 4


@pytest.fixture(scope="module")
def pairs() -> dict[str, list[Pair]]:
    return make_pairs(RULES, COUNT, seed=0)


def list_all(text: str, *contexts: str) -> list[Pair]:
    """Return all pairs of a sentence."""
    sentence, *before = (parse_sentence(t) for t in (text, *contexts))
    assert sentence
    assert all(before)
    found = list_pairs(sentence, [context for context in before if context])
    return [pair for pair in found if is_wrong(sentence, pair)]


def find_pair(text: str, rule: str, wrong_form: str, *contexts: str) -> Pair:
    found = [p for p in list_all(text, *contexts) if (p.rule, p.wrong_form) == (rule, wrong_form)]
    assert found, f"no pair of {rule} with {wrong_form}"
    return found[-1]


def test_there_are_pairs_for_at_least_twelve_rules(pairs: dict[str, list[Pair]]) -> None:
    full = [rule for rule, made in pairs.items() if len(made) == COUNT]
    assert len(full) >= 12
    assert not [pair for rule, made in pairs.items() for pair in made if pair.rule != rule]


@pytest.mark.parametrize("rule", RULES)
def test_the_checker_agrees_with_both_sentences(pairs: dict[str, list[Pair]], rule: str) -> None:
    verdicts = [
        (check_sentence(pair.right).verdict, check_sentence(pair.wrong).verdict)
        for pair in pairs[rule]
    ]
    allowed = {"mistake", RULES[rule].verdict}  # What is beyond the grammar may be a mistake too.
    assert all(right == "right" and wrong in allowed for right, wrong in verdicts)


def test_the_sentences_differ_in_the_forms_that_the_pair_names(
    pairs: dict[str, list[Pair]],
) -> None:
    for pair in (p for made in pairs.values() for p in made):
        right, wrong = (Counter(t.lower()[:-1].split()) for t in (pair.right, pair.wrong))
        if pair.rule == "order":
            assert right == wrong
        else:
            changed = [*(right - wrong), *(wrong - right)]
            forms = [pair.form.lower(), pair.wrong_form.lower()]
            assert [word.strip(",") for word in changed] == forms
            texts = pair.form, pair.wrong_form
            lemmas = [{r.lexeme.lemma for r in analyze(text)} for text in texts]
            assert lemmas[0] & lemmas[1]


@pytest.mark.parametrize("text", ["Sīr jemot irūdi irūdi.", "Vala ñuhi zaldrīzī urnes."])
def test_the_sentences_of_every_pair_differ(text: str) -> None:
    """Two words that stand together can be equal."""
    sentence = parse_sentence(text)
    assert sentence
    assert [pair.wrong for pair in list_pairs(sentence) if pair.wrong == text] == []


def test_no_sentence_is_in_two_pairs_of_a_rule(pairs: dict[str, list[Pair]]) -> None:
    for made in pairs.values():
        assert len({pair.right for pair in made}) == len(made)


def test_the_seed_determines_the_pairs(pairs: dict[str, list[Pair]]) -> None:
    rules = ["negation", "verb-number"]
    again, other = make_pairs(rules, 2, seed=5), make_pairs(rules, 2, seed=6)
    assert again == make_pairs(rules, 2, seed=5)
    assert again != other


def test_excluded_sentences_are_left_out() -> None:
    made = make_pairs(["order"], 3, seed=0)["order"]
    exclude = {pair.right for pair in made}
    others = make_pairs(["order"], 3, seed=0, exclude=exclude)["order"]
    assert len(others) == 3
    assert not exclude & {pair.right for pair in others}


def test_pairs_of_equal_length_come_first() -> None:
    made = make_pairs(["verb-number", "object-case"], 5, seed=1, count_tokens=len)
    assert all(len(pair.right) == len(pair.wrong) for pairs in made.values() for pair in pairs)


@pytest.mark.parametrize(
    ("text", "rule", "wrong_form", "governor", "distance", "attractor"),
    [
        ("Vala azantī urnes.", "verb-number", "urnesi", "vala", 2, "azantī"),
        ("Vala riñe urnes.", "verb-number", "urnesi", "vala", 2, ""),
        ("Vali riñe urnesi.", "object-case", "riña", "urnesi", 1, ""),
        ("Ābra kirine issa.", "predicate", "kirini", "ābra", 1, ""),
        ("Vala riñe urnios daor.", "negation", "urnes", "daor", 1, ""),
        ("Kara ābra issa.", "adjective-number", "kari", "ābra", 1, ""),
        ("Valus, māzīs!", "vocative", "vala", "", 0, ""),
        ("Muña zaldrīzot vaoresas.", "recipient-case", "zaldrīzī", "vaoresas", 1, ""),
    ],
)
def test_a_pair_names_what_demands_the_form(
    text: str, rule: str, wrong_form: str, governor: str, distance: int, attractor: str
) -> None:
    pair = find_pair(text, rule, wrong_form)
    assert (pair.governor, pair.distance, pair.attractor) == (governor, distance, attractor)


def test_the_adverb_of_the_sentence_before_can_mislead() -> None:
    pair = find_pair("Zān vala mastas.", "tense", "māzīlza", "Sīr vala māzis.", "Drūr māzīlza.")
    assert pair.attractor == "drūr"
    assert pair.texts == ("Drūr māzīlza. Zān vala mastas.", "Drūr māzīlza. Zān vala māzīlza.")


def test_a_form_that_two_tenses_share_makes_no_pair() -> None:
    # The subjunctive of the present is that of the future, too.
    assert not [pair for pair in list_all("Tubī vīlīptos daor.") if pair.right == pair.wrong]


def test_a_rule_alone_has_the_pairs_that_it_has_among_all() -> None:
    [*paragraphs] = generate_paragraphs(60, seed=3)
    for text in (text for paragraph in paragraphs for text in paragraph.sentences):
        sentence = parse_sentence(text)
        assert sentence
        pairs = [*list_pairs(sentence)]
        for rule in {pair.rule for pair in pairs}:
            same = parse_sentence(text, [rule])
            assert same
            assert [*list_pairs(same, (), [rule])] == [pair for pair in pairs if pair.rule == rule]


def test_a_form_that_is_right_too_makes_no_pair() -> None:
    # The plural of an object is as right as its singular.
    assert not [pair for pair in list_all("Vala riñe urnes.") if pair.wrong_form == "riñī"]


def test_a_mistake_and_its_repair_are_a_pair() -> None:
    pair = make_mistake_pair("Skoros hontesse iōrzi?")
    assert pair
    assert (pair.rule, pair.right) == ("determiner", "Skori hontesse iōrzi?")
    pair = make_mistake_pair("Vala riñe urnesi.")
    assert pair
    assert (pair.wrong, pair.form) == ("Vala riñe urnesi.", "urnes")


@pytest.mark.parametrize(
    "text",
    ["Vala riñe urnes.", "Vala blorp urnes.", "vala riñe urnesi", "Riñe daor vala.", "", "!"],
)
def test_what_is_no_single_mistake_is_no_pair(text: str) -> None:
    assert make_mistake_pair(text) is None


def test_distances_have_ranges() -> None:
    assert [name_distance(n) for n in (0, 1, 2, 3, 4, 6, 7, 20)] == [
        "",
        "1",
        "2-3",
        "2-3",
        "4-6",
        "4-6",
        "7 and more",
        "7 and more",
    ]


@pytest.mark.parametrize(("rules", "count"), [(["accent"], 1), (["order"], 0)])
def test_wrong_arguments_are_explained(rules: list[str], count: int) -> None:
    with pytest.raises(UserError, match="expected|at least 1"):
        make_pairs(rules, count, seed=0)
