"""What `inspect --json` writes about a model, without the minutes of computing it."""

import json

import numpy as np

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.cli.inspections import Inspection, make_records
from valyrian_jax.evaluation.pair_report import RunPairs
from valyrian_jax.inspection.ablation import list_components

RULES = ["tense", "order"]


def make_inspection(bundle: Bundle) -> Inspection:
    """Make an inspection with random numbers, the same for every bundle of a shape."""
    components, rng = list_components(bundle.model), np.random.default_rng(0)
    R, C, layers = len(RULES), len(components), bundle.model.n_layer
    return Inspection(
        run=RunPairs(bundle, None, None, [], [], 0),
        rules=RULES,
        components=components,
        counts=[50] * R,
        accuracy=rng.random(R),
        ablated=rng.random((R, C)),
        margin_falls=rng.normal(size=(R, C)),
        loss=1.5,
        ablated_loss=rng.random(C),
        previous=rng.random((layers, bundle.model.n_head)),
        induction=rng.random((layers, bundle.model.n_head)),
        lens=rng.random((R, layers + 1)),
    )


def make_heads_file(bundle: Bundle) -> bytes:
    """Return the lines of `inspect --json`, as the command writes them."""
    records = make_records(make_inspection(bundle), {})
    return "".join(json.dumps({"run": "runs/a", **r}) + "\n" for r in records).encode()
