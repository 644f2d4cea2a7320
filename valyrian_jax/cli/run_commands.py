"""Commands for a run: sample from its best weights, evaluate them and draw its curves."""

import json
from pathlib import Path
from typing import Any

import click

from valyrian_jax.bundle.shipped_model import EXAMPLE_OPTIONS, name_model
from valyrian_jax.cli.excess_commands import TEXTS as EXCESS_TEXTS
from valyrian_jax.cli.excess_commands import evaluate_excess
from valyrian_jax.cli.options import INPUT, PATH, decode_argument, json_option, print_on_terminal
from valyrian_jax.cli.pair_commands import COUNT, TEXTS, evaluate_on_pairs
from valyrian_jax.cli.run_options import (
    ACCEPT_OTHER_NAMES,
    choose_run,
    run_argument,
    sample_options,
)
from valyrian_jax.errors import escape
from valyrian_jax.files import is_standard_output


@click.command(
    epilog=f"Example: python -m valyrian_jax sample {EXAMPLE_OPTIONS}",
    context_settings=ACCEPT_OTHER_NAMES,
)
@sample_options
def sample(run: Path, **options: Any) -> None:
    """Continue a prompt with the best weights of a run.

    RUN is a run directory or a bundle directory, or `shipped`, the model that ships; the default is
    the newest run under runs/, or that model if there is no run. Settings that you leave out are
    those of the run. A text ends at the end of a document, before the text of --stop, or after
    --max-new-tokens.

    With --json, --show-tokens adds the list "tokens" to each object.
    """
    print_on_terminal("loading the model ...")
    from valyrian_jax.api import load
    from valyrian_jax.cli.samples import print_samples

    print_samples(load(run), **options)


@click.command("eval", epilog="Example: python -m valyrian_jax eval --texts 100")
@run_argument
@click.option(
    "--texts",
    type=click.IntRange(min=0),
    show_default="1000",
    help="Number of texts to generate and check.",
)
@click.option("--text", type=INPUT, metavar="FILE", help="Evaluate on this text instead.")
@click.option("--pairs", "on_pairs", is_flag=True, help="Test the model on minimal pairs instead.")
@click.option(
    "--excess",
    "has_excess",
    is_flag=True,
    help="Show instead what the model has left to learn, and where.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    show_default="200",
    help="Number of pairs for each rule, with --pairs.",
)
@json_option
def evaluate(
    run: Path,
    texts: int | None,
    text: Path | None,
    on_pairs: bool,
    has_excess: bool,
    count: int | None,
    as_json: bool,
) -> None:
    """Evaluate the best weights of a run on its held-out text, or on any text.

    RUN is a run directory or a bundle directory, or `shipped`, the model that ships; the default is
    the newest run under runs/, or that model if there is no run. The report compares the model with
    a trigram model of the same tokens. If the grammar generated the corpus, it also has the
    distance from the corpus's entropy, and the quality of texts that the weights generate
    (temperature 1, top-p 0.9, seeds from 0).

    With --text, print only the loss on FILE, in nats per token and bits per byte. FILE is read like
    the text of the run (plain, JSON or Parquet). The end of each document, <|endoftext|>, is also
    predicted, and counts as two bytes, those of a blank line.

    With --pairs, print in how many minimal pairs (see `pairs`) the right sentence is more probable
    than the wrong one, with 95% intervals, by rule of the grammar and by what makes pairs hard. The
    last row for all rules pairs the mistakes in 300 texts (or --texts) of the model with their
    repairs.

    With --excess, the grammar generates 1000 new texts (or --texts), and the model's nats above the
    source's are divided among the sentences: by template, by length, by construction, and by
    whether the training text contains the sentence. Then come the model's nats by class of tokens,
    and its calibration.
    """
    if count is not None and not on_pairs:
        raise click.UsageError("--count is the number of pairs; pass --pairs too")
    chosen = ["--pairs"] * on_pairs + ["--excess"] * has_excess + ["--text"] * (text is not None)
    if len(chosen) > 1:
        raise click.UsageError(f"{' and '.join(chosen)} are {len(chosen)} evaluations; pass one")
    if has_excess:
        evaluate_excess(run, EXCESS_TEXTS if texts is None else texts, as_json)
    elif on_pairs:
        evaluate_on_pairs(run, count or COUNT, TEXTS if texts is None else texts, as_json)
    elif text is not None:
        if texts is not None:
            raise click.UsageError("--texts does not apply to --text FILE; leave one of them out")
        evaluate_on_text(run, text, as_json)
    else:
        report_on_run(run, 1000 if texts is None else texts, as_json)


def report_on_run(run: Path, texts: int, as_json: bool) -> None:
    """Print the report of a run on its held-out text."""
    from valyrian_jax.cli.tables import (
        advise_on_loss,
        describe_split,
        print_table,
        report_json,
        report_table,
    )
    from valyrian_jax.evaluation.overfitting import describe_overfitting
    from valyrian_jax.evaluation.report import make_report

    report = make_report(run, texts)
    if as_json:
        click.echo(report_json(run, report))
    else:
        click.echo(escape(name_model(run)))
        print_table(report_table(report.rows))
        advice = advise_on_loss(report.rows, describe_overfitting(run))
        for text in filter(None, (advice, describe_split(report))):
            click.echo(click.wrap_text(text, 80))


def evaluate_on_text(run: Path, file: Path, as_json: bool) -> None:
    """Print the loss of the best weights of a run or bundle on a text."""
    from valyrian_jax.cli.tables import new_table, print_table
    from valyrian_jax.config import config_from_tree
    from valyrian_jax.data.reading.text_loader import load_text
    from valyrian_jax.evaluation.text_loss import evaluate_text
    from valyrian_jax.run_directory import load_run_bundle

    bundle = load_run_bundle(run)
    data = config_from_tree(bundle.manifest.get("config", {})).data
    documents = load_text(file, data.text_key, data.separator).documents
    loss = evaluate_text(bundle, documents)
    shown, name = name_model(run), decode_argument(str(file))
    if as_json:
        click.echo(json.dumps({"run": shown, "text": name, **loss._asdict()}))
        return
    click.echo(escape(shown))
    table = new_table("", escape(name))
    table.columns[1].justify = "right"
    table.add_row("nats/token", f"{loss.nats_per_token:.4f}")
    table.add_row("bits/byte", f"{loss.bits_per_byte:.4f}")
    table.add_row("tokens", f"{loss.tokens:,}")
    table.add_row("bytes", f"{loss.bytes:,}")
    print_table(table)


@click.command(epilog="Example: python -m valyrian_jax plot")
@click.argument("runs", metavar="[RUN]...", nargs=-1, type=PATH)
@click.option(
    "--attention",
    is_flag=True,
    help="Draw where every layer and head attends in --prompt.",
)
@click.option(
    "--lens",
    "has_lens",
    is_flag=True,
    help="Draw what every layer would predict after each token of --prompt (the logit lens).",
)
@click.option(
    "--rules",
    "has_rules",
    is_flag=True,
    help="Draw how a run learnt the rules of the grammar, which `train.pairs` measures.",
)
@click.option(
    "--prompt", type=decode_argument, metavar="TEXT", help="Text for --attention or --lens."
)
@click.option(
    "-o",
    "--out",
    type=PATH,
    show_default="RUN/loss, RUN/attention, RUN/lens, RUN/rules, or RUN/comparison in the first of "
    "several",
    help="Path of the files, without the suffixes .png and .svg; - writes one PNG to standard "
    "output.",
)
def plot(
    runs: tuple[Path, ...],
    attention: bool,
    has_lens: bool,
    has_rules: bool,
    prompt: str | None,
    out: Path | None,
) -> None:
    """Draw losses, learning rate, speed and grammar of runs.

    RUN is a run directory; the default is the newest one under runs/. The curves of several runs
    share their axes. Every figure is written as PNG and as SVG.

    With --attention or --lens, draw how one RUN's best weights read --prompt instead. That RUN can
    also be a bundle directory, or `shipped`, the model that ships and the default if there is no
    run; their figures are written to the working directory.
    """
    kinds = ["attention"] * attention + ["lens"] * has_lens
    if len(kinds) > 1:
        raise click.UsageError("--attention and --lens are two figures; pass one of them")
    if bool(kinds) != (prompt is not None):
        option = f"--{kinds[0]}" if kinds else "--attention or --lens"
        raise click.UsageError(f"{option} and --prompt TEXT go together; pass both or neither")
    if has_rules and (kinds or len(runs) > 1):
        raise click.UsageError("--rules draws the rules of one RUN; leave the rest out")
    if has_rules:
        files = plot_rules(runs[0] if runs else None, out)
    elif prompt is None:
        files = plot_curves(runs, out)
    elif len(runs) > 1:
        raise click.UsageError(f"--{kinds[0]} takes one RUN, found {len(runs)}; name only one")
    else:
        files = plot_prompt(choose_run(runs[0] if runs else None), kinds[0], prompt, out)
    for file in files:
        click.echo(escape(str(file)), err=is_standard_output(file))


def plot_curves(runs: tuple[Path, ...], out: Path | None) -> list[Path]:
    """Draw the curves of runs, or of the newest run, and return the files."""
    from valyrian_jax.plots.curves import draw_curves, read_curves
    from valyrian_jax.plots.figures import save_figure
    from valyrian_jax.run_directory import find_run

    if not runs:
        find_run(None)  # Fails if there is none: the model that ships has no curves.
        runs = (choose_run(None),)
    directories = [find_run(run) for run in runs]
    figure = draw_curves([read_curves(directory) for directory in directories])
    name = "loss" if len(directories) == 1 else "comparison"
    return save_figure(figure, out or directories[0] / name)


def plot_rules(run: Path | None, out: Path | None) -> list[Path]:
    """Draw how a run, or the newest run, learnt the rules, and return the files."""
    from valyrian_jax.plots.figures import save_figure
    from valyrian_jax.plots.rules import draw_rules, read_rule_curves
    from valyrian_jax.run_directory import find_run

    directory = find_run(run)
    figure = draw_rules(directory.resolve().name, read_rule_curves(directory))
    return save_figure(figure, out or directory / "rules")


def plot_prompt(run: Path, kind: str, prompt: str, out: Path | None) -> list[Path]:
    """Draw the attention or the lens of a run or bundle for a prompt, and return the files.

    Without `out` they are named after the kind, in the run or, for a bundle, in the working
    directory.
    """
    from valyrian_jax.api import load
    from valyrian_jax.plots.attention import draw_attention
    from valyrian_jax.plots.figures import save_figure
    from valyrian_jax.plots.lens import draw_lens
    from valyrian_jax.run_directory import find_bundle

    directory = find_bundle(run)
    is_in_run = (directory.parent / "config.toml").exists()
    model = load(directory)
    if kind == "lens":
        figure = draw_lens(model.lens(prompt, top=1))
    else:
        figure = draw_attention(*model.attention(prompt))
    return save_figure(figure, out or (directory.parent if is_in_run else Path()) / kind)
