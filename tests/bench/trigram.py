"""How far below a trigram model a run is, over the same tokens: python tests/bench/trigram.py RUN

The trigram interpolates with the bigram, unigram and uniform distributions by Witten and Bell's weights (1991), learns
from the training part and predicts the whole held-out part with its full history. The GPT starts every window without
any, which favours the trigram.
"""

import math
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from valyrian_jax import corpus, data, evaluation, runs


class WittenBell:
    """n-gram probabilities, each order smoothed by the one below: (count + types x lower) / (total + types)."""

    def __init__(self, tokens: list[int], order: int, vocab_size: int) -> None:
        self.vocab_size, self.order = vocab_size, order
        self.following: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for i, token in enumerate(tokens):
            for n in range(min(order, i + 1)):
                self.following[tuple(tokens[i - n : i])][token] += 1
        self.totals = {context: sum(counts.values()) for context, counts in self.following.items()}

    def probability(self, token: int, history: list[int]) -> float:
        found = 1 / self.vocab_size
        for n in range(min(self.order, len(history) + 1)):
            context = tuple(history[len(history) - n :])
            if context in self.totals:
                counts, total = self.following[context], self.totals[context]
                found = (counts[token] + len(counts) * found) / (total + len(counts))
        return found


def main(run: Path) -> None:
    config, best = runs.load_config(run), runs.load_bundle(run)
    config = replace(config, model=best.model)
    parts = data.split(data.read_text(config.data.path), config.data.held_out)
    held_out = data.tokenize(parts.held_out, best.tokenizer, run / "unused").tolist()
    train = corpus.prepare(config, best.tokenizer, run).train.tolist()
    gpt = evaluation.evaluate_run(run)
    print(f"{'GPT':<12}{gpt.nats_per_token:.4f} nats/token  {gpt.bits_per_byte:.4f} bits per byte")
    for order, name in ((1, "unigram"), (2, "bigram"), (3, "trigram"), (4, "4-gram"), (5, "5-gram")):
        model = WittenBell(train, order, best.model.vocab_size)
        one = sum(model.probability(t, held_out[:order]) for t in range(best.model.vocab_size))
        assert math.isclose(one, 1, rel_tol=1e-9), one
        nats = -sum(
            math.log(model.probability(held_out[i], held_out[max(0, i - order + 1) : i]))
            for i in range(1, len(held_out))
        )
        per_token, per_byte = nats / (len(held_out) - 1), nats / math.log(2) / data.byte_count(parts.held_out)
        print(f"{name:<12}{per_token:.4f} nats/token  {per_byte:.4f} bits per byte")


if __name__ == "__main__":
    main(runs.find(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
