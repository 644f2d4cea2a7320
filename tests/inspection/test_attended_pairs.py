"""Where a head looks before a minimal pair is decided."""

import jax.numpy as jnp
import numpy as np

from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.bundle.shipped_model import SHIPPED_MODEL
from valyrian_jax.cli.inspections import list_looks
from valyrian_jax.inspection.ablation import Component
from valyrian_jax.inspection.attended_pairs import attend_to_pairs
from valyrian_jax.language.pairs.alteration import Pair
from valyrian_jax.model.activations import attention_weights
from valyrian_jax.model.parameters import from_tensors
from valyrian_jax.plots.heads import draw_looks


def test_weights_are_those_of_the_last_token_that_both_texts_have() -> None:
    bundle = load_bundle(SHIPPED_MODEL)
    params = from_tensors(bundle.tensors)
    pairs = [
        Pair("tense", "Drūr va qīzalbroti dakēlza.", "Drūr va qīzalbroti dakotas.", "", ""),
        Pair("order", "Vala ēdrus.", "Ēdrus vala.", "", ""),  # They differ from the beginning.
        Pair("verb-number", "vali issi.", "vali issa.", "", "", context="Zān hen oktiot māstan."),
    ]
    head = Component(3, 3)
    first, last = attend_to_pairs(bundle, params, pairs, head)
    assert (first.pair, last.pair) == (pairs[0], pairs[2])
    assert "".join(first.labels).replace("␣", " ") == "<|endoftext|>Drūr va qīzalbroti dak"
    assert first.next_labels == ("ēl", "ot")
    assert "".join(last.labels).endswith("␣māstan.␣vali")
    assert last.next_labels == ("␣is", "␣issa")
    tokens = [bundle.tokenizer.end_of_text, *bundle.tokenizer.encode(pairs[0].right)]
    whole = attention_weights(params, jnp.asarray([tokens[: len(first.labels)]]), bundle.model)
    np.testing.assert_allclose(first.weights, whole[3, 0, 3, -1], atol=1e-6)
    assert first.labels[int(first.weights.argmax())] == "rūr"  # of "drūr", tomorrow

    figure = draw_looks("head 3.3", list_looks([first, last]))
    titles = [axes.get_title() for axes in figure.get_axes()]
    assert titles == ["before ēl (wrong: ot)", "before ␣is (wrong: ␣issa)"]
    heights = [bar.get_height() for bar in figure.get_axes()[0].patches]
    np.testing.assert_array_equal(heights, first.weights)
