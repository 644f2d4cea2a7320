"""The command that looks into a model: what each head and each MLP is for."""

import json
from pathlib import Path

import click

from valyrian_jax.bundle.shipped_model import name_model
from valyrian_jax.cli.options import PATH, json_option, print_on_terminal
from valyrian_jax.cli.pair_commands import rules_option
from valyrian_jax.cli.run_options import run_argument
from valyrian_jax.errors import escape
from valyrian_jax.files import check_output, is_standard_output
from valyrian_jax.language.pairs.rules import RULES

_COUNT = 50


@click.command(epilog="Example: python -m valyrian_jax inspect --rule order --count 10")
@run_argument
@rules_option("Rule of the pairs, with examples of where its head looks; there can be several.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=_COUNT,
    show_default=True,
    help="Number of minimal pairs for each rule.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the pairs.",
)
@click.option(
    "-o",
    "--out",
    type=PATH,
    help="Also draw the heat map of rules and heads, as PATH.png and PATH.svg, and the examples of "
    "each --rule, as PATH-RULE.png and PATH-RULE.svg.",
)
@json_option
def inspect(
    run: Path, rules: tuple[str, ...], count: int, seed: int, out: Path | None, as_json: bool
) -> None:
    """Find out which head and which MLP a rule of the grammar needs.

    Each head and each MLP in turn is replaced by its mean over held-out text (mean ablation). The
    first table names for each rule the head without which the margin of its minimal pairs (see
    `pairs`) falls most, in nats, and how many stay right. The second has for each head and MLP the
    change of the held-out loss in nats per token, and the weight that the head gives to the token
    before and to what followed the same token earlier (induction). The third says how many pairs
    are right by what the output matrix reads after each block (the logit lens). With --rule, a last
    table shows where the head of the first table looks just before a pair is decided.

    RUN is a run or bundle directory, or `shipped`; the default is the newest run under runs/, or
    the model that ships.
    """
    from valyrian_jax.cli.inspections import (
        find_carrier,
        find_examples,
        inspect_run,
        list_looks,
        make_records,
        print_examples,
        print_inspection,
    )
    from valyrian_jax.plots.figures import list_figure_files, save_figure
    from valyrian_jax.plots.heads import draw_heads, draw_looks

    for file in list_figure_files(out) if out else ():
        check_output(file)
    result = inspect_run(run, rules or [*RULES], count, seed, print_on_terminal)
    examples = {rule: find_examples(result, rule) for rule in result.rules if rule in rules}
    heads = {rule: result.components[find_carrier(result, rule)].name for rule in examples}
    if as_json:
        for record in make_records(result, examples):
            click.echo(json.dumps({"run": name_model(run), **record}, ensure_ascii=False))
    else:
        click.echo(escape(name_model(run)))
        print_inspection(result)
        for rule, found in examples.items():
            print_examples(heads[rule], rule, found)
    if out is None:
        return
    changes = 100 * (result.ablated - result.accuracy[:, None])
    figures = {out: draw_heads(result.rules, [c.name for c in result.components], changes)}
    for rule, found in examples.items():
        title = f"{rule}: where head {heads[rule]} looks before the pair is decided"
        figures[out.with_name(f"{out.name}-{rule}")] = draw_looks(title, list_looks(found))
    for path, figure in figures.items():
        for file in save_figure(figure, path):
            click.echo(escape(str(file)), err=is_standard_output(file) or as_json)
