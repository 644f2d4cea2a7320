"""Fit a scaling law where the floor is known: does the usual fit find the entropy of the source?

python tests/bench/scaling_law.py OUT [--plan] [--tiny]

Every run is the default model of one width, trained once over one number of new sentences, so no
token is seen twice. OUT is a directory. A run adds a line to OUT/runs.jsonl, and a run that has its
line is not repeated, so the command can be stopped and started again. It ends with the table, the
fit of `scaling_fit.py` and OUT/scaling-law.png.
"""

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.scaling_fit import Law, bootstrap_law, fit_law
from valyrian_jax.config import Config, config_from_tree
from valyrian_jax.data.corpus_entropy import estimate_entropy
from valyrian_jax.errors import UserError
from valyrian_jax.files import write_atomically
from valyrian_jax.language import Paragraph, generate_paragraphs
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tokenizer.tokenizer import train_bpe

SEED = 11  # of the sentences; that of the shipped corpus is 1
HELD_OUT_SENTENCES, BOOTSTRAPS = 12_000, 200
LAYERS, HEADS, CONTEXT, VOCABULARY = 4, 4, 64, 500
# The default's. Runs with larger batches are limited by steps, not by text: with 64, width 48 ends
# 0.34 nats per token higher after the same 125,000 sentences.
BATCH = 16
TOKENS_PER_SENTENCE = 15.4  # for the plan
SPEED = 6e10  # operations per second: 6 N D over the time of the first 13 runs; two cores, AVX2


class PlannedRun(NamedTuple):
    """A width of the model and a number of training sentences."""

    width: int
    sentences: int


PLAN = [
    PlannedRun(width, sentences)
    for sentences in (62_500, 125_000, 250_000, 500_000, 1_000_000)
    for width in (32, 48, 64, 96, 128)
    if (width, sentences) != (128, 1_000_000)  # It would take as long as the ten smallest.
]
TINY_PLAN = [PlannedRun(width, sentences) for width in (16, 32) for sentences in (300, 600, 1200)]


class Corpus(NamedTuple):
    """Texts to train on and texts to evaluate on, with the entropy of the second.

    Attributes:
        training: Texts, of which a run takes the first.
        held_out: Texts.
        entropy: Nats per token of the held-out texts, along their derivations.
        tokenizer: Tokenizer of all runs.
    """

    training: list[Paragraph]
    held_out: list[str]
    entropy: float
    tokenizer: Tokenizer


def count_parameters(width: int, vocabulary: int = VOCABULARY) -> int:
    """Return the number of parameters of a model, with embeddings and head."""
    blocks = LAYERS * (12 * width**2 + 13 * width) + 2 * width
    return blocks + width * (2 * vocabulary + CONTEXT)


def estimate_seconds(run: PlannedRun) -> float:
    """Return about how long a run takes on two cores."""
    operations = 6 * count_parameters(run.width) * run.sentences * TOKENS_PER_SENTENCE
    return operations / SPEED + 15  # to start and to evaluate


def load_paragraphs(file: Path, sentences: int) -> list[Paragraph]:
    """Generate paragraphs, or read those of an earlier start; a million sentences take minutes."""
    if file.exists():
        lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
        return [Paragraph(tuple(texts), *numbers) for texts, *numbers in lines]
    paragraphs = list(generate_paragraphs(sentences, SEED))
    text = "".join(json.dumps(paragraph, ensure_ascii=False) + "\n" for paragraph in paragraphs)
    write_atomically(file, text)
    return paragraphs


def make_corpus(out: Path, sentences: int, held_out_sentences: int) -> Corpus:
    """Make the texts of all runs; the held-out ones come first, and none is a training text."""
    paragraphs = load_paragraphs(out / "paragraphs.jsonl", held_out_sentences + sentences)
    ends = np.cumsum([len(paragraph.sentences) for paragraph in paragraphs])
    first = int(np.searchsorted(ends, held_out_sentences, "left")) + 1
    held_out, training = paragraphs[:first], paragraphs[first:]
    texts = [paragraph.text for paragraph in held_out]
    tokenizer = train_bpe([p.text for p in training[:20_000]], VOCABULARY)
    bits = [paragraph.bits for paragraph in held_out]
    estimate = estimate_entropy(bits, [len(text.encode()) + 2 for text in texts])
    size = sum(len(text.encode()) + 2 for text in texts)
    tokens = sum(len(tokenizer.encode(text)) + 1 for text in texts)
    entropy = estimate.bits_per_byte * math.log(2) * size / tokens
    return Corpus(training, texts, entropy, tokenizer)


def make_config(run: PlannedRun, corpus: Corpus, out: Path, batch: int) -> Config:
    """Write the text of a run, and return the configuration that reads it once."""
    counts = np.cumsum([len(paragraph.sentences) for paragraph in corpus.training])
    texts = [p.text for p in corpus.training[: int(np.searchsorted(counts, run.sentences)) + 1]]
    text = out / "text.txt"
    text.write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    tokens = sum(len(corpus.tokenizer.encode(t)) + 1 for t in texts)
    config = config_from_tree({})
    dispatch = config.train.steps_per_dispatch
    steps = max(tokens // (batch * CONTEXT * dispatch), 1) * dispatch
    return replace(
        config,
        # What a run holds out of its own text is small: all runs are evaluated on other texts.
        data=replace(
            config.data, path=str(text), held_out=0.01, tokenizer=str(out / "tokenizer.json")
        ),
        model=replace(config.model, n_embd=run.width),
        train=replace(
            config.train,
            steps=steps,
            batch_size=batch,
            eval_every=steps,
            sample_every=0,
            checkpoint_every=steps,
        ),
        wandb=replace(config.wandb, mode="off"),
    )


def measure_run(run: PlannedRun, corpus: Corpus, out: Path, batch: int) -> dict[str, Any]:
    """Train a model and return its line."""
    from valyrian_jax.evaluation.text_loss import evaluate_text
    from valyrian_jax.run_directory import load_run_bundle
    from valyrian_jax.training.run import train

    corpus.tokenizer.save(out / "tokenizer.json")
    config, directory = make_config(run, corpus, out, batch), out / "run"
    shutil.rmtree(directory, ignore_errors=True)  # of a run that was stopped
    train(config, directory)
    loss = evaluate_text(load_run_bundle(directory), corpus.held_out)
    shutil.rmtree(directory)
    return {
        **run._asdict(),
        "parameters": count_parameters(run.width),
        "tokens": config.train.steps * batch * CONTEXT,
        "steps": config.train.steps,
        "nats_per_token": loss.nats_per_token,
        "entropy_nats_per_token": corpus.entropy,
    }


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the lines of the runs that are done."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def print_fit(lines: list[dict[str, Any]], out: Path) -> None:
    """Print the table of the runs and the law, and draw it."""
    parameters, tokens, losses = (
        np.array([line[name] for line in lines], float)
        for name in ("parameters", "tokens", "nats_per_token")
    )
    entropy = lines[0]["entropy_nats_per_token"]
    law = fit_law(parameters, tokens, losses)
    low, high = bootstrap_law(parameters, tokens, losses, law, BOOTSTRAPS)
    print("| width | parameters | tokens | nats/token | fitted |\n|---|---|---|---|---|")
    for line, fitted in zip(lines, law.predict(parameters, tokens), strict=True):
        print(
            f"| {line['width']} | {line['parameters']:,} | {line['tokens']:,} | "
            f"{line['nats_per_token']:.4f} | {fitted:.4f} |"
        )
    for name in Law._fields:
        values = (getattr(bound, name) for bound in (law, low, high))
        print("{}: {:.4g} (95%: {:.4g} to {:.4g})".format(name, *values))
    print(f"entropy of the source: {entropy:.4f} nats per token")
    for minutes in (1, 5, 20):
        N, D = law.allocate(60 * minutes * SPEED)
        print(f"{minutes} minutes: {N:,.0f} parameters, {D:,.0f} tokens")
    draw_law(lines, law, entropy, out / "scaling-law.png")


def draw_law(lines: list[dict[str, Any]], law: Law, entropy: float, file: Path) -> None:
    """Draw the loss over the tokens, a line for each width, with the fit and the entropy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for width in sorted({line["width"] for line in lines}):
        rows = sorted((r for r in lines if r["width"] == width), key=lambda r: r["tokens"])
        tokens = np.array([row["tokens"] for row in rows], float)
        [points] = axes.plot(
            tokens, [r["nats_per_token"] for r in rows], "o", label=f"width {width}"
        )
        sizes = np.full_like(tokens, rows[0]["parameters"])
        axes.plot(tokens, law.predict(sizes, tokens), color=points.get_color(), linewidth=1)
    axes.axhline(entropy, color="black", linestyle="--", label="entropy of the source")
    axes.axhline(law.E, color="black", linestyle=":", label="fitted E")
    axes.set_xscale("log")
    axes.set_xlabel("training tokens")
    axes.set_ylabel("held-out loss (nats per token)")
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=120)


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--plan", "only_plan", is_flag=True, help="Print the plan and its time only.")
@click.option("--tiny", is_flag=True, help="Rehearse with six runs of seconds.")
def main(out: Path, only_plan: bool, tiny: bool) -> None:
    """Train the runs of the plan that OUT does not have yet, and fit the law."""
    plan, batch = (TINY_PLAN, 8) if tiny else (PLAN, BATCH)
    seconds = sum(map(estimate_seconds, plan))
    print(f"{len(plan)} runs; about {seconds / 60:,.0f} minutes on two quiet cores", flush=True)
    if only_plan:
        return
    out.mkdir(parents=True, exist_ok=True)
    lines = read_lines(out / "runs.jsonl")
    done = {PlannedRun(line["width"], line["sentences"]) for line in lines}
    if not done <= {*plan}:
        raise UserError(f"{out} has runs of another plan; name another directory")
    if missing := [run for run in plan if run not in done]:
        largest = max(run.sentences for run in plan)
        corpus = make_corpus(out, largest, 200 if tiny else HELD_OUT_SENTENCES)
        for run in missing:
            line = measure_run(run, corpus, out, batch)
            lines.append(line)
            with (out / "runs.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    print_fit(lines, out)


if __name__ == "__main__":
    main()
