"""The texts of a request for completions: several choices, generated together step by step."""

import codecs
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bridge.generator import Generator
from bridge.streaming import generate_with_logits
from bridge.torch_settings import pin_torch_settings
from bridge.web.completion_request import CompletionRequest
from valyrian_jax.bundle.text_generation import StopScanner, seed_range, window_start
from valyrian_jax.tokenizer import Tokenizer

_LEAST_LOGPROB = -9999.0  # in place of minus infinity, which JSON lacks


class TokenScore(NamedTuple):
    """The log-probabilities of a token and its alternatives, for a request with `logprobs`.

    Attributes:
        token: Its id.
        offset: Index in the text of its first character.
        logprob: Its log-probability under the model, before all settings; None for the first token
            of a prompt.
        top: Ids and log-probabilities of the most probable tokens and of the token itself.
    """

    token: int
    offset: int
    logprob: float | None
    top: list[tuple[int, float]]


class Piece(NamedTuple):
    """A part of a choice.

    Attributes:
        choice: Index of the choice.
        text: Whole characters, perhaps none.
        scores: Its tokens, if the request asks for probabilities.
        new_tokens: Number of its new tokens.
        finish_reason: `stop` or `length` in the last piece of a choice.
    """

    choice: int
    text: str
    scores: list[TokenScore]
    new_tokens: int = 0
    finish_reason: str | None = None


class ChoiceText:
    """The text of a choice, as its tokens arrive."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], offset: int) -> None:
        self._tokenizer, self._scanner = tokenizer, StopScanner(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        # The offsets of tokens also count the text that is held back for a stop string.
        self._counter = codecs.getincrementaldecoder("utf-8")("replace")
        self.offset = offset

    def add(self, token: int, is_last: bool) -> tuple[str, str | None]:
        """Add the next token; return the new text, and the reason if the text ends here."""
        if token == self._tokenizer.end_of_text:
            return self._finish(), "stop"
        data = self._tokenizer.decode_bytes([token])
        self.offset += len(self._counter.decode(data))
        text = self._decoder.decode(self._scanner.add(data))
        if self._scanner.has_stopped:
            return text + self._finish(), "stop"
        return (text + self._finish(), "length") if is_last else (text, None)

    def _finish(self) -> str:
        return self._decoder.decode(self._scanner.finish(), final=True)


def stream_choices(
    generator: Generator, tokenizer: Tokenizer, request: CompletionRequest
) -> Iterator[list[Piece]]:
    """Generate the choices of a request; yield the new pieces of each step.

    Choice i of prompt p has the index p x count + i, and its text is that of
    `python -m bridge generate` with the seed plus i.

    Raises:
        UserError: The logits are not finite.
    """
    if request.echo:
        yield from _echo_prompts(generator, tokenizer, request)
    if not request.max_tokens:
        yield [Piece(i, "", [], 0, "length") for i in range(len(request.prompts) * request.count)]
        return
    rows = [prompt for prompt in request.prompts for _ in range(request.count)]
    seeds = seed_range(request.sample.seed, request.count) * len(request.prompts)
    offsets = [len(text) * request.echo for text in request.texts for _ in range(request.count)]
    texts = {i: ChoiceText(tokenizer, request.sample.stop, n) for i, n in enumerate(offsets)}
    steps = generate_with_logits(generator, rows, seeds, request.sample)
    for index, (logits, drawn) in enumerate(steps):
        pieces = []
        for row, text in list(texts.items()):
            token, scores = int(drawn[row]), []
            if request.logprobs is not None:
                scores = [_score(token, text.offset, logits[row], request.logprobs)]
            added, reason = text.add(token, index + 1 == request.max_tokens)
            pieces.append(Piece(row, added, scores, 1, reason))
            if reason:
                del texts[row]
        yield pieces
        if not texts:
            return


def _echo_prompts(
    generator: Generator, tokenizer: Tokenizer, request: CompletionRequest
) -> Iterator[list[Piece]]:
    """Yield the prompts as the beginnings of their choices."""
    for p, (text, prompt) in enumerate(zip(request.texts, request.prompts, strict=True)):
        scores = []
        if request.logprobs is not None and text:
            scores = _score_prompt(generator, tokenizer, prompt, request.logprobs)
        first = p * request.count
        yield [Piece(first + i, text, scores) for i in range(request.count)]


@pin_torch_settings()
def _score_prompt(
    generator: Generator, tokenizer: Tokenizer, prompt: Sequence[int], most: int
) -> list[TokenScore]:
    """Score the tokens of a prompt, each after the window that a generated token would have."""
    counter, offset = codecs.getincrementaldecoder("utf-8")("replace"), 0
    scores = []
    for token, logits in zip(prompt, _prompt_logits(generator, prompt), strict=True):
        if logits is None:
            scores.append(TokenScore(token, offset, None, []))
        else:
            scores.append(_score(token, offset, logits, most))
        offset += len(counter.decode(tokenizer.decode_bytes([token])))
    return scores


def _prompt_logits(generator: Generator, prompt: Sequence[int]) -> Iterator[Tensor | None]:
    """Yield the logits [V] before every token of a prompt; there are none before the first."""
    yield None
    n_positions = generator.gpt.n_positions
    windows = itertools.groupby(
        range(1, len(prompt)), key=lambda count: window_start(count, n_positions)
    )
    for start, counts in windows:
        read = list(counts)
        with torch.no_grad():
            logits = generator(torch.tensor([prompt[start : read[-1]]]))[0]
        yield from logits[read[0] - start - 1 :]


@pin_torch_settings()
def _score(token: int, offset: int, logits: Tensor, most: int) -> TokenScore:
    logprobs = logits.float().log_softmax(-1).clamp(min=_LEAST_LOGPROB)
    top = logprobs.argsort(descending=True, stable=True)[:most].tolist()
    if token not in top:
        top.append(token)
    return TokenScore(token, offset, float(logprobs[token]), [(i, float(logprobs[i])) for i in top])
