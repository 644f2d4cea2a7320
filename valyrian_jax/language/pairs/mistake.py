"""Pairs from mistakes that somebody made: a wrong sentence and its smallest repair."""

from valyrian_jax.language.checker.diagnosis import diagnose
from valyrian_jax.language.checker.parse_tree import Parse
from valyrian_jax.language.checker.reading import make_sentence, read_words
from valyrian_jax.language.checker.repair import make_repair
from valyrian_jax.language.checker.verdict import check_without_diagnosis
from valyrian_jax.language.generator.paragraphs import join_words
from valyrian_jax.language.pairs.alteration import Pair, describe_change, parse_sentence


def make_mistake_pair(text: str) -> Pair | None:
    """Return the pair of a wrong sentence and its smallest repair.

    None: the sentence is right or beyond the grammar, more than one word must change, or the rule
    is not in `valyrian_jax.language.pairs.rules`.
    """
    words = read_words(text)
    texts = [word.text for word in words]
    if join_words(texts) != text or not all(word.is_known or word.is_mark for word in words):
        return None
    if check_without_diagnosis(text).grammatical:
        return None
    wrong = make_sentence(words)
    leaves = diagnose(wrong).leaves
    changed = [
        leaf
        for leaf in leaves
        if leaf.reading and leaf.reading.text.lower() != texts[leaf.word_index].lower()
    ]
    if len(changed) != 1 or changed[0].reading is None:
        return None
    index, form = changed[0].word_index, changed[0].reading.text
    right = parse_sentence(join_words([*texts[:index], form, *texts[index + 1 :]]))
    repair = make_repair(wrong, Parse(0, {}, leaves), [index])
    if right is None or repair is None:
        return None
    return describe_change(right._replace(leaves=leaves), repair.changes[0], texts[index])
