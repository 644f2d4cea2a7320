"""What the heads and MLPs of a run are for: the computation behind `inspect`, and its tables."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.bundle.bundle import WEIGHTS_NAME
from valyrian_jax.cli.tables import new_table, print_table
from valyrian_jax.data.rows import Rows, encode_rows
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.pair_report import RunPairs, make_run_pairs
from valyrian_jax.evaluation.pairs import wilson_interval
from valyrian_jax.inspection.ablation import (
    Component,
    list_components,
    measure_log_probabilities,
    measure_means,
)
from valyrian_jax.inspection.attended_pairs import AttendedPair, attend_to_pairs
from valyrian_jax.inspection.head_scores import (
    measure_induction_scores,
    measure_previous_token_scores,
)
from valyrian_jax.inspection.rule_lens import measure_layer_scores
from valyrian_jax.language.pairs.rules import RULES
from valyrian_jax.model.parameters import Params, from_tensors
from valyrian_jax.plots.heads import Look

_HELD_OUT_ROWS = 256  # windows of the held-out text, for the means and the loss
_EXAMPLES, _SHOWN_TOKENS = 3, 4  # pairs for each rule, and tokens that the head looks at most

Float64 = npt.NDArray[np.float64]


class Inspection(NamedTuple):
    """What the heads and MLPs of a model are for.

    Attributes:
        run: The model and the pairs.
        rules: Names of the R rules that have pairs.
        components: The C heads and MLPs.
        counts: Number of pairs of each rule [R].
        accuracy: Share of right pairs of the whole model [R].
        ablated: The same without each component [R, C].
        margin_falls: By how much each component raises the log-probability of the right sentence
            over that of the wrong one, the mean over the pairs of a rule in nats [R, C].
        loss: Loss of the whole model on held-out text in nats per token.
        ablated_loss: The same without each component [C].
        previous: Previous-token score of each head [L, H].
        induction: Induction score of each head [L, H].
        lens: Share of right pairs that the logit lens reads after each block [R, L + 1]; the first
            is after the embedding, and the last is that of the model.
    """

    run: RunPairs
    rules: list[str]
    components: list[Component]
    counts: list[int]
    accuracy: Float64
    ablated: Float64
    margin_falls: Float64
    loss: float
    ablated_loss: Float64
    previous: Float64
    induction: Float64
    lens: Float64


def inspect_run(
    directory: Path,
    rules: Sequence[str],
    count: int,
    seed: int,
    report: Callable[[str], None],
) -> Inspection:
    """Measure what is lost without each head and each MLP of a run's best weights, or of a bundle.

    Args:
        directory: Directory of the run or the bundle.
        rules: Names of the rules to break.
        count: Number of minimal pairs for each rule.
        seed: Seed of the pairs.
        report: Function that takes a note on the progress.

    Raises:
        UserError: The run has no bundle, its text has changed, or no pair fits its context.
    """
    report("making minimal pairs ...")
    run = make_run_pairs(directory, rules, count, seed)
    _check_has_pairs(run, directory, rules)
    config, params = run.bundle.model, from_tensors(run.bundle.tensors)
    texts = [text for pair in run.pairs for text in pair.texts]
    pair_rows = encode_rows(run.bundle.tokenizer, texts)
    held_out = _choose_held_out_rows(run) or pair_rows
    means = measure_means(params, config, held_out)
    found, groups = _group_by_rule(run)
    components = list_components(config)
    margins, losses = list[Float64](), list[float]()
    for i, component in enumerate((None, *components)):
        if component:
            report(f"without {component.name} ({i} of {len(components)}) ...")
        of_pairs, of_text = (
            measure_log_probabilities(params, config, rows, means, component)
            for rows in (pair_rows, held_out)
        )
        margins.append(of_pairs[::2] - of_pairs[1::2])
        losses.append(-of_text.sum() / held_out.counted.sum())
    report("reading every layer ...")
    layers = measure_layer_scores(params, config, pair_rows)
    shares, means_of_margins = _average(np.stack(margins) > 0, groups), _average(margins, groups)
    return Inspection(
        run=run,
        rules=found,
        components=components,
        counts=[len(group) for group in groups],
        accuracy=shares[:, 0],
        ablated=shares[:, 1:],
        margin_falls=means_of_margins[:, :1] - means_of_margins[:, 1:],
        loss=losses[0],
        ablated_loss=np.array(losses[1:]),
        previous=measure_previous_token_scores(params, config, held_out.tokens[:32, :-1]),
        induction=measure_induction_scores(params, config),
        lens=_average(layers[:, ::2] > layers[:, 1::2], groups),
    )


def _check_has_pairs(run: RunPairs, directory: Path, rules: Sequence[str]) -> None:
    if not run.pairs:
        raise UserError(
            f"{directory} has no minimal pair of {', '.join(rules)}: expected pairs that fit the "
            f"context of {run.bundle.model.n_positions} tokens; choose another --rule or a larger "
            "--count"
        )


def _group_by_rule(run: RunPairs) -> tuple[list[str], list[npt.NDArray[np.intp]]]:
    """Return the rules that have pairs, and the indices of their pairs."""
    names = np.array([pair.rule for pair in run.pairs])
    rules = [rule for rule in RULES if (names == rule).any()]
    return rules, [np.flatnonzero(names == rule) for rule in rules]


def _average(values: npt.ArrayLike, groups: Sequence[npt.NDArray[np.intp]]) -> Float64:
    """Return the means of values [C, N] over groups of the N pairs, [R, C]."""
    array = np.asarray(values, np.float64)
    return np.stack([array[:, group].mean(axis=1) for group in groups])


def _choose_held_out_rows(run: RunPairs) -> Rows | None:
    if run.held_out is None:
        return None
    tokens, counted = run.held_out
    return Rows(
        tokens.reshape(-1, tokens.shape[-1])[:_HELD_OUT_ROWS],
        counted.reshape(-1, counted.shape[-1])[:_HELD_OUT_ROWS],
    )


def find_carrier(result: Inspection, rule: str) -> int:
    """Return the index of the head without which the margin of a rule falls most."""
    heads = [j for j, component in enumerate(result.components) if component.head is not None]
    falls = result.margin_falls[result.rules.index(rule)]
    return max(heads, key=lambda j: falls[j])


def print_inspection(result: Inspection) -> None:
    """Print for each rule which head carries it, and for each component what it does."""
    table = new_table("rule")
    for column in ("pairs", "right %", "head", "without it %", "95%", "nats lost"):
        table.add_column(column, justify="right")
    for i, rule in enumerate(result.rules):
        j = find_carrier(result, rule)
        right = round(result.ablated[i, j] * result.counts[i])
        low, high = (100 * bound for bound in wilson_interval(right, result.counts[i]))
        table.add_row(
            rule,
            str(result.counts[i]),
            f"{100 * result.accuracy[i]:.1f}",
            result.components[j].name,
            f"{100 * result.ablated[i, j]:.1f}",
            f"{low:.1f}-{high:.1f}",
            f"{result.margin_falls[i, j]:.2f}",
        )
    print_table(table)
    table = new_table("head or MLP")
    for column in ("loss", "previous token", "induction", "most lost"):
        table.add_column(column, justify="right")
    for j, component in enumerate(result.components):
        scores = ["", ""]
        if component.head is not None:
            arrays = result.previous, result.induction
            scores = [f"{array[component.layer, component.head]:.2f}" for array in arrays]
        change = result.ablated_loss[j] - result.loss
        worst = int(result.margin_falls[:, j].argmax())
        lost = f"{result.rules[worst]} {result.margin_falls[worst, j]:.2f}"
        table.add_row(component.name, f"{change:+.4f}", *scores, lost)
    print_table(table)
    _print_lens(result)


def _print_lens(result: Inspection) -> None:
    """Print after which block the pairs of each rule are right, and the mean of the rules."""
    table = new_table("right %, read after")
    for layer in range(result.lens.shape[1]):
        table.add_column(f"block {layer - 1}" if layer else "embedding", justify="right")
    means = "mean of the rules", result.lens.mean(axis=0)
    for rule, shares in (*zip(result.rules, result.lens, strict=True), means):
        table.add_row(rule, *(f"{100 * share:.1f}" for share in shares))
    print_table(table)


def make_records(
    result: Inspection, examples: Mapping[str, Sequence[AttendedPair]]
) -> list[dict[str, Any]]:
    """Return an object for the whole model, each component and each example, for JSON."""
    whole = {
        "component": None,
        "weights_sha256": result.run.bundle.manifest.get("sha256", {}).get(WEIGHTS_NAME),
        "loss": result.loss,
        "accuracy": _by_rule(result, result.accuracy),
        "lens": [_by_rule(result, shares) for shares in result.lens.T],
    }
    records: list[dict[str, Any]] = [whole]
    for j, component in enumerate(result.components):
        records.append(
            {
                "component": component.name,
                "loss": result.ablated_loss[j],
                "accuracy": _by_rule(result, result.ablated[:, j]),
                "nats_lost": _by_rule(result, result.margin_falls[:, j]),
            }
        )
        if component.head is not None:
            index = component.layer, component.head
            records[-1]["previous_token"] = result.previous[index]
            records[-1]["induction"] = result.induction[index]
    for rule, found in examples.items():
        head = result.components[find_carrier(result, rule)].name
        for example in found:
            record = example._asdict() | {"weights": example.weights.tolist()}
            records.append({"component": head, **record, "pair": example.pair._asdict()})
    return records


def _by_rule(result: Inspection, values: Float64) -> dict[str, float]:
    return dict(zip(result.rules, values.tolist(), strict=True))


def find_examples(result: Inspection, rule: str) -> list[AttendedPair]:
    """Return some pairs of a rule, with where the head looks that carries it."""
    bundle = result.run.bundle
    params: Params = from_tensors(bundle.tensors)
    pairs = [pair for pair in result.run.pairs if pair.rule == rule]
    head = result.components[find_carrier(result, rule)]
    return [*itertools.islice(attend_to_pairs(bundle, params, pairs, head), _EXAMPLES)]


def print_examples(name: str, rule: str, examples: Sequence[AttendedPair]) -> None:
    """Print for pairs of a rule the tokens that a head looks at most before it is decided."""
    table = new_table(f"{rule}: before", "right or wrong", f"head {name} looks at")
    for example in examples:
        most = np.argsort(-example.weights, kind="stable")[:_SHOWN_TOKENS]
        looks = (f"{example.labels[i]} {example.weights[i]:.2f}" for i in most)
        text = "".join(example.labels[1:]).replace("␣", " ")
        table.add_row(text, " or ".join(example.next_labels), ", ".join(looks))
    print_table(table)


def list_looks(examples: Sequence[AttendedPair]) -> list[Look]:
    """Return where a head looks in pairs of a rule, for a figure."""
    return [
        Look("before {} (wrong: {})".format(*example.next_labels), example.labels, example.weights)
        for example in examples
    ]
