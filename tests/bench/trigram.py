"""How far below n-gram models a run is, over the same tokens: python tests/bench/trigram.py RUN

They learn from the training part and predict the whole held-out part with their full history.
"""

import math
import sys
from dataclasses import replace
from pathlib import Path

from valyrian_jax.data.dataset import open_dataset
from valyrian_jax.data.text import count_bytes, encode_documents
from valyrian_jax.evaluation.ngram import WittenBell
from valyrian_jax.evaluation.report import evaluate_run
from valyrian_jax.run_directory import find_run, load_run_bundle, load_run_config


def main(run: Path) -> None:
    config, best = load_run_config(run), load_run_bundle(run)
    config = replace(config, model=best.model)
    documents = open_dataset(config, best.tokenizer, run).documents
    held_out = encode_documents(documents.held_out, best.tokenizer, run).tolist()
    train = encode_documents(documents.train, best.tokenizer, run).tolist()
    gpt = evaluate_run(run)
    print(f"{'GPT':<12}{gpt.nats_per_token:.4f} nats/token  {gpt.bits_per_byte:.4f} bits per byte")
    bytes_per_token = count_bytes(documents.held_out) / (len(held_out) - 1)
    for order, name in (
        (1, "unigram"),
        (2, "bigram"),
        (3, "trigram"),
        (4, "4-gram"),
        (5, "5-gram"),
    ):
        nats = WittenBell(train, order, best.model.vocab_size).nats(held_out)
        print(
            f"{name:<12}{nats:.4f} nats/token  {nats / math.log(2) / bytes_per_token:.4f} bits per byte"
        )


if __name__ == "__main__":
    main(find_run(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
