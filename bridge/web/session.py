"""A generation as events for the page: tokens, their distributions, and verdicts on sentences.

An event is a JSON object with a `kind`. `prompt` and `token` are tokens of the text, and a `token`
has the distribution that it was drawn from. `sentence` is the verdict on a complete sentence. `end`
comes last and says why the text ends: its document ended, the length or a stop string was reached,
or the logits are not finite. After a grammatical text it also has the counts of the sentences.
"""

import codecs
import functools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bridge.generator import Generator
from bridge.sampler import edit_logits, filter_probabilities, make_params
from bridge.streaming import generate_with_logits
from bridge.torch_settings import pin_torch_settings
from valyrian_jax.bundle.grammatical_text import DrawnSentence, count_sentences, draw_sentences
from valyrian_jax.bundle.text_generation import (
    TokenColumns,
    decode_tokens,
    encode_prompt,
    take_until_end_of_text,
    window_start,
)
from valyrian_jax.config import SampleConfig
from valyrian_jax.errors import UserError
from valyrian_jax.language.checker.text import split_sentences
from valyrian_jax.language.checker.verdict import Verdict, check_sentence
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tokenizer.display import token_label

MAX_CHOICES = 16  # tokens of a distribution that an event lists

Event = dict[str, Any]


def stream_events(
    generator: Generator, tokenizer: Tokenizer, sample: SampleConfig, grammatical: bool = False
) -> Iterator[Event]:
    """Continue a prompt as `bridge.streaming.stream` does, and describe every step.

    Args:
        generator: Model that generates the text.
        tokenizer: Tokenizer of the model.
        sample: Prompt and sampling settings.
        grammatical: Whether to draw each sentence again until it is right.

    Yields:
        An event for each token, then the end. Their texts, joined, are the output of
        `python -m bridge generate`.
    """
    decoder, reason = codecs.getincrementaldecoder("utf-8")("replace"), "stop"
    prompt, drawn = encode_prompt(tokenizer, sample.prompt), deque[Event]()
    described: dict[int, Event] = {}  # by index in the text; redraws replace events
    generate = functools.partial(generate_described, generator, tokenizer, described)
    sentences: list[DrawnSentence] = []

    def draw_sentence_tokens() -> Iterator[int]:
        for sentence in draw_sentences(generate, tokenizer, sample):
            sentences.append(sentence)
            yield from sentence.ids

    def draw_tokens() -> Iterator[int]:
        nonlocal reason
        columns, index = generate([prompt], [sample.seed], sample), len(prompt)
        ids = take_until_end_of_text(tokenizer, (int(column[0]) for column in columns))
        for token in draw_sentence_tokens() if grammatical else ids:
            drawn.append(described.pop(index))
            index += 1
            yield token
        reason = "document" if index in described else "length"

    for token in prompt:
        data = b"" if token == tokenizer.end_of_text else tokenizer.decode_bytes([token])
        label = token_label(tokenizer, token)
        yield {"kind": "prompt", "id": token, "label": label, "text": decoder.decode(data)}
    try:
        # A token waits here while a stop string could still begin in it.
        for data in decode_tokens(tokenizer, draw_tokens(), sample.stop):
            yield drawn.popleft() | {"text": decoder.decode(data)}
    except UserError:  # The answer has begun, so its last event must report the error.
        reason = "not finite"
    counts = vars(count_sentences(sentences)) if grammatical else {}
    yield {"kind": "end", "text": decoder.decode(b"", final=True), "why": reason} | counts


def generate_described(
    generator: Generator,
    tokenizer: Tokenizer,
    described: dict[int, Event],
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sample: SampleConfig,
) -> TokenColumns:
    """Continue one prompt as `bridge.streaming.stream` does, and describe every token.

    Args:
        generator: The model.
        tokenizer: Its tokenizer.
        described: Receives the event of each token, by its index in the text with the prompt.
        prompts: The prompt.
        seeds: Its seed.
        sample: Settings of the sampler.
    """
    tokens = [*prompts[0]]
    for logits, ids in generate_with_logits(generator, prompts, seeds, sample):
        token = int(ids[0])
        edited = edit_step_logits(generator, logits, tokens, len(prompts[0]), sample)
        event = {"kind": "token", "id": token, "label": token_label(tokenizer, token)}
        described[len(tokens)] = event | describe_distribution(edited, token, sample, tokenizer)
        tokens.append(token)
        yield ids.to(torch.int32).cpu().numpy()


@pin_torch_settings()
def edit_step_logits(
    generator: Generator, logits: Tensor, tokens: Sequence[int], prompt: int, sample: SampleConfig
) -> Tensor:
    """Return the logits [1, V] after `tokens`, changed as the settings ask.

    Args:
        generator: The model.
        logits: Its logits [1, V].
        tokens: All tokens so far.
        prompt: Number of tokens of the prompt.
        sample: Settings of the sampler.
    """
    params = make_params(sample, generator.end_of_text)
    window = tokens[window_start(len(tokens), generator.gpt.n_positions) :]
    return edit_logits(logits.float().cpu(), len(tokens) - prompt, params, torch.tensor([window]))


@pin_torch_settings()
def describe_distribution(
    logits: Tensor, token: int, sample: SampleConfig, tokenizer: Tokenizer
) -> Event:
    """Describe the distribution that a token was drawn from.

    Args:
        logits: Float [1, V], after `edit_step_logits`.
        token: Token that was drawn.
        sample: Sampling settings.
        tokenizer: Tokenizer, for the labels.

    Returns:
        `probability`: Probability of the token after temperature and top-k; at temperature 0,
        without them.
        `chance`: Probability of the token after min-p and top-p, too.
        `kept`: Number of tokens that could be drawn.
        `choices`: [id, label, probability, kept] of the most probable tokens and of the token
        itself. Tokens with probability 0 are left out.
    """
    scores = logits.float().cpu()
    if sample.temperature == 0:
        probabilities = scores.softmax(-1)[0]
        is_kept = torch.arange(len(probabilities)) == token
    else:
        temperature, top_k = sample.temperature, sample.top_k
        probabilities = filter_probabilities(scores, temperature, top_k, 1.0)[0]
        filtered = filter_probabilities(scores, temperature, top_k, sample.top_p, sample.min_p)[0]
        is_kept = filtered > 0
    order = probabilities.argsort(descending=True, stable=True)[:MAX_CHOICES]
    choices = order[probabilities[order] > 0].tolist()
    if token not in choices:
        choices.append(token)
    return {
        "probability": float(probabilities[token]),
        "chance": float(probabilities[token] / probabilities[is_kept].sum()),
        "choices": [
            [i, token_label(tokenizer, i), float(probabilities[i]), bool(is_kept[i])]
            for i in choices
        ],
        "kept": int(is_kept.sum()),
    }


def add_verdicts(events: Iterable[Event]) -> Iterator[Event]:
    """Yield the events, and a `sentence` event before the first token after each sentence.

    A `sentence` event has the verdict on the sentence, and its `end`: the number of tokens up to
    its end, including the prompt.
    """
    text, reported = "", 0
    for count, event in enumerate(events):
        text += event["text"]
        sentences = split_sentences(text)
        is_complete = event["kind"] == "end" and text.rstrip().endswith((".", "!", "?"))
        complete = sentences if is_complete else sentences[:-1]
        for sentence in complete[reported:]:
            verdict = check_sentence(sentence)
            yield {"kind": "sentence", **describe_verdict(verdict), "end": count}
        reported = max(reported, len(complete))
        yield event


def describe_verdict(verdict: Verdict) -> dict[str, Any]:
    """Describe a verdict, its reason, and the notes on the sentence."""
    return {
        "text": verdict.text,
        "grammatical": verdict.grammatical,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "notes": [*verdict.notes],
    }
