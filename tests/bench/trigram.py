"""Compare a run with n-gram models over the same tokens.

python tests/bench/trigram.py RUN

The n-gram models learn from the training part and predict the whole held-out part, each token from
its full history.
"""

import math
from dataclasses import replace
from pathlib import Path

import click

from valyrian_jax.data.dataset import open_dataset
from valyrian_jax.data.text import count_bytes, encode_documents
from valyrian_jax.evaluation.ngram import WittenBell
from valyrian_jax.evaluation.report import evaluate_run
from valyrian_jax.run_directory import find_run, load_run_bundle, load_run_config

ORDERS = {1: "unigram", 2: "bigram", 3: "trigram", 4: "4-gram", 5: "5-gram"}


def print_losses(name: str, nats_per_token: float, bits_per_byte: float) -> None:
    print(f"{name:<12}{nats_per_token:.4f} nats/token  {bits_per_byte:.4f} bits per byte")


@click.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path), required=False)
def main(run: Path | None) -> None:
    """Compare RUN, or the newest run, with n-gram models."""
    run = find_run(run)
    config, bundle = load_run_config(run), load_run_bundle(run)
    config = replace(config, model=bundle.model)
    documents = open_dataset(config, bundle.tokenizer, run).read_documents()
    assert documents, "the text of the run is in shards"
    held_out = encode_documents(documents.held_out, bundle.tokenizer, run).tolist()
    train = encode_documents(documents.train, bundle.tokenizer, run).tolist()
    evaluation = evaluate_run(run)
    print_losses("GPT", evaluation.nats_per_token, evaluation.bits_per_byte)
    bytes_per_token = count_bytes(documents.held_out) / (len(held_out) - 1)
    for order, name in ORDERS.items():
        nats = WittenBell(train, order, bundle.model.vocab_size).cross_entropy(held_out)
        print_losses(name, nats, nats / math.log(2) / bytes_per_token)


if __name__ == "__main__":
    main()
