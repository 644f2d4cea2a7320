"""What the page of `bridge.web.server` shows: a generation as a series of events, with what the model and the sampler saw.

An event is a JSON object with a `kind`: `prompt` and `token` are pieces of the text (the latter with its probability
and what else might have come), `sentence` is one that is finished, with what the grammar says of it, `end` is the last.
"""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bridge.generator import Generator, generate_with_logits, window_start
from bridge.gpt import attention_weights
from bridge.sampler import filter_probabilities
from valyrian_jax.bundle.text_generation import encode_prompt
from valyrian_jax.config import SampleConfig
from valyrian_jax.language.checker.verdict import judge, split_sentences
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tokenizer.display import token_label

CHOICES = 16  # of the next token's distribution: the most probable

Event = dict[str, Any]


def events(generator: Generator, tokenizer: Tokenizer, sample: SampleConfig) -> Iterator[Event]:
    """Continue a prompt as `bridge.generator.stream` does, and tell everything about it.

    Args:
        generator: the model.
        tokenizer: its tokenizer.
        sample: the prompt, and how to draw.

    Yields:
        An event a token, then the end. Their texts, joined, are what `python -m bridge generate` prints.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def piece(token: int) -> Event:
        text = (
            ""
            if token == tokenizer.end_of_text
            else decoder.decode(tokenizer.decode_bytes([token]))
        )
        return {"id": token, "text": text, "label": token_label(tokenizer, token)}

    prompt, why = encode_prompt(tokenizer, sample.prompt), "length"
    for token in prompt:
        yield {"kind": "prompt"} | piece(token)
    for logits, drawn in generate_with_logits(generator, prompt, sample):
        token = int(drawn)
        if token == tokenizer.end_of_text:
            why = "document"
            break
        yield {"kind": "token"} | piece(token) | distribution(logits, token, sample, tokenizer)
    yield {"kind": "end", "text": decoder.decode(b"", final=True), "why": why}


def distribution(logits: Tensor, token: int, sample: SampleConfig, tokenizer: Tokenizer) -> Event:
    """What a token was drawn from.

    Args:
        logits: float [1, V].
        token: that was drawn.
        sample: how it was drawn.
        tokenizer: for labels.

    Returns:
        `probability` of the token at that temperature and top-k; `chance`, the same after the cut to the nucleus;
        `kept`: how many tokens that leaves; `choices`: of the most probable tokens that have any probability, and this
        one, [id, label, probability, kept].
    """
    scores = logits.float().cpu()
    if sample.temperature == 0:
        probabilities = scores.softmax(-1)[0]
        kept = torch.arange(len(probabilities)) == token
    else:
        probabilities = filter_probabilities(scores, sample.temperature, sample.top_k, 1.0)[0]
        kept = filter_probabilities(scores, sample.temperature, sample.top_k, sample.top_p)[0] > 0
    order = probabilities.argsort(descending=True, stable=True)[:CHOICES]
    best = order[probabilities[order] > 0].tolist()
    shown = best if token in best else [*best, token]
    return {
        "probability": float(probabilities[token]),
        "chance": float(probabilities[token] / probabilities[kept].sum()),
        "choices": [
            [i, token_label(tokenizer, i), float(probabilities[i]), bool(kept[i])] for i in shown
        ],
        "kept": int(kept.sum()),
    }


def with_verdicts(told: Iterable[Event]) -> Iterator[Event]:
    """The same events, and before the one of the first token after a sentence what the grammar says of the sentence.

    A sentence's event has the `text`, whether it is `grammatical`, the `reason` why not, and its `end`: how many tokens
    there are by then, with those of the prompt.
    """
    text, said = "", 0
    for count, event in enumerate(told):
        text += event["text"]
        sentences = split_sentences(text)
        whole = event["kind"] == "end" and text.rstrip().endswith((".", "!", "?"))
        done = sentences if whole else sentences[:-1]
        for sentence in done[said:]:
            found = judge(sentence)
            reason = {"grammatical": found.grammatical, "reason": found.reason}
            yield {"kind": "sentence", "text": sentence, **reason, "end": count}
        said = max(said, len(done))
        yield event


def attention_row(generator: Generator, tokens: Sequence[int]) -> tuple[int, Tensor]:
    """Where the last of some tokens looks: which token its window begins with, and the weights [L, H, T] in it."""
    start = window_start(len(tokens), generator.gpt.n_positions)
    layers = attention_weights(generator.gpt, torch.tensor([tokens[start:]]))
    return start, torch.stack([weights[0, :, -1] for weights in layers])
