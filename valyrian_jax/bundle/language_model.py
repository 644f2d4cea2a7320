"""A trained model as an object of Python: text in, text and numbers out.

`valyrian_jax.api.Model` computes with JAX, `bridge.api.Model` with PyTorch. Both give the same
texts, and the same numbers up to rounding.
"""

import abc
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np
import numpy.typing as npt

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.grammatical_text import (
    GrammaticalText,
    check_speaks_valyrian,
    draw_sentences,
    generate_grammatical_text,
)
from valyrian_jax.bundle.lens import Attention, Lens, make_attention
from valyrian_jax.bundle.memory import count_texts
from valyrian_jax.bundle.names import count_parameters, describe_shape
from valyrian_jax.bundle.sample_settings import SampleSettings, resolve_settings, show_settings
from valyrian_jax.bundle.score import Score, score_text
from valyrian_jax.bundle.text_generation import (
    TokenColumns,
    encode_prompt,
    encode_within_context,
    generate_texts,
    seed_range,
    stream_text,
)
from valyrian_jax.config import Count, ModelConfig, SampleConfig, Seed, check_argument
from valyrian_jax.errors import UserError, check_unicode
from valyrian_jax.tokenizer import Tokenizer

_IDS_ADVICE = "make token ids with encode()"


class LanguageModel(abc.ABC):
    """A trained model with its tokenizer and the settings of its run.

    A loaded model never changes, so several threads can use it at the same time, and each gets the
    results that it would get alone.

    Attributes:
        bundle: Weights, tokenizer and manifest.
        directory: Directory of the bundle, if it has one.
    """

    def __init__(self, bundle: Bundle, directory: Path | None = None) -> None:
        self.bundle = bundle
        self.directory = directory

    @property
    def config(self) -> ModelConfig:
        """Shape of the model; `config.n_positions` is its context in tokens."""
        return self.bundle.model

    @property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer of the model."""
        return self.bundle.tokenizer

    def __repr__(self) -> str:
        package, origin = type(self).__module__.partition(".")[0], self.directory
        name = f"{package}.{type(self).__name__}" + (f" from {origin}" if origin else "")
        size = count_parameters(self.config)
        return f"<{name}: {describe_shape(self.config)}, {size:,} parameters>"

    @overload
    def generate(
        self, prompt: str = "", *, grammatical: bool = False, **settings: Unpack[SampleSettings]
    ) -> str: ...

    @overload
    def generate(
        self,
        prompt: list[str] | tuple[str, ...],
        *,
        seeds: Sequence[int] | None = None,
        grammatical: bool = False,
        **settings: Unpack[SampleSettings],
    ) -> list[str]: ...

    @show_settings
    def generate(
        self,
        prompt: str | list[str] | tuple[str, ...] = "",
        *,
        seeds: Sequence[int] | None = None,
        grammatical: bool = False,
        **settings: Unpack[SampleSettings],
    ) -> str | list[str]:
        """Continue a prompt, or several prompts together.

        Settings left out are those of the run, as in `python -m valyrian_jax sample`; the defaults
        above are for a run that does not set them. The same settings and seed give the same text.

        Args:
            prompt: Text to continue; empty: begin a document. A list of texts gives a list.
            seed: Random seed from 0 to 2^32 - 1. Text r of a list takes seed + r.
            seeds: A seed for each text of a list, in place of `seed`.
            grammatical: Whether to draw each sentence again until it is right; only for models of
                High Valyrian. `generate_grammatical` also returns how often that was needed.
            max_new_tokens: Largest number of tokens to generate.
            temperature: Divisor of the logits; 0 always takes the most probable token.
            top_k: Draw from the k most probable tokens; 0: from all.
            top_p: Draw from the most probable tokens that together reach p.
            min_p: Drop tokens that are less probable than p times the most probable.
            repetition_penalty: Divisor of the scores of tokens in the window.
            min_new_tokens: Number of tokens before the document may end.
            stop: String, or strings, at which a text ends; it is left out.

        Returns:
            Each prompt with its continuation, up to the end of the document, a stop string or
            `max_new_tokens`.

        Raises:
            UserError: An argument is out of range, the weights overflow float32, or `grammatical`
                is set for a model that is not one of High Valyrian.
        """
        sample, prompts = resolve_settings(self.bundle, settings), _check_prompts(prompt)
        if not isinstance(prompt, str):
            row_seeds = _resolve_seeds(seeds, len(prompts), sample, settings.get("seed"))
            return self._generate_list(prompts, row_seeds, sample, grammatical)
        if seeds is not None:
            raise UserError(
                "seeds needs a list of prompts, found one text; pass seed=, or a list with a "
                "prompt for each seed"
            )
        return prompt + "".join(self._stream(prompt, sample, grammatical))

    @show_settings
    def stream(
        self, prompt: str = "", *, grammatical: bool = False, **settings: Unpack[SampleSettings]
    ) -> Iterator[str]:
        """Continue a prompt and yield the new text as it is generated, in whole characters.

        The prompt and the pieces, joined, are the text of `generate`, which describes the
        arguments. Wrong ones raise an error at once. A grammatical text comes sentence by sentence.
        """
        sample = resolve_settings(self.bundle, settings)
        _check_prompts([prompt])
        return self._stream(prompt, sample, grammatical)

    @show_settings
    def generate_grammatical(
        self, prompt: str = "", **settings: Unpack[SampleSettings]
    ) -> GrammaticalText:
        """Return the text of `generate` with `grammatical`, and how many sentences were right."""
        sample = replace(resolve_settings(self.bundle, settings), prompt=prompt)
        _check_prompts([prompt])
        check_speaks_valyrian(self.bundle)
        return generate_grammatical_text(self.generate_tokens, self.tokenizer, sample)

    def score(self, text: str) -> Score:
        """Return how well the model predicts a text.

        The text is one document: its first token follows <|endoftext|>, and every token is
        predicted once. In a text longer than the context, windows overlap by half, as in `eval`, so
        every token after the first window has at least half a context before it. `eval --text`
        also counts the end of the document, as a token of two bytes.

        Raises:
            UserError: The text is empty, or the weights overflow float32.
        """
        _check_prompts([text])
        return score_text(self.logits, self.tokenizer, self.config.n_positions, text)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text; special tokens in it are ordinary text."""
        return self.tokenizer.encode(check_argument(text, str, "text", "pass a str"))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; bytes that are not UTF-8 become U+FFFD."""
        return self.tokenizer.decode(check_argument(ids, list[int], "ids", _IDS_ADVICE))

    def logits(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the logits [T, V] of the token after each of T ids.

        Raises:
            UserError: There are more ids than the context has, none, or one outside the vocabulary.
        """
        tokens = np.array(check_argument(ids, list[int], "ids", _IDS_ADVICE), object)
        length, vocab_size = self.config.n_positions, self.config.vocab_size
        if not 1 <= len(tokens) <= length:
            raise UserError(
                f"logits needs a list of 1 to {length} token ids, found {len(tokens)}; pass the "
                "ids of one text, and of a long one its end"
            )
        if not 0 <= tokens.min() <= tokens.max() < vocab_size:
            raise UserError(
                f"logits needs token ids from 0 to {vocab_size - 1}, found {tokens.tolist()}; make "
                "them with encode()"
            )
        return self._compute_logits(tokens.astype(np.int32))

    def attention(self, text: str) -> Attention:
        """Return where every layer and head attends in a text; empty: <|endoftext|> alone.

        Raises:
            UserError: The text is longer than the context, or the weights overflow float32.
        """
        _check_prompts([text])
        tokens = encode_within_context(self.bundle, text)
        weights = self._compute_attention(np.array(tokens, np.int32))
        return make_attention(self.tokenizer, tokens, weights)

    def lens(self, text: str, top: int = 5) -> Lens:
        """Return what every layer would predict after each token of a text (the logit lens).

        Args:
            text: Text; an empty one is <|endoftext|> alone.
            top: Number of predictions for each token and layer.

        Raises:
            UserError: The text is longer than the context, `top` is not a number of at least 1, or
                the weights overflow float32.
        """
        _check_prompts([text])
        top = check_argument(top, Count, "top", "pass a whole number of at least 1")
        tokens = encode_within_context(self.bundle, text)
        return self._compute_lens(np.array(tokens, np.int32), top)

    @abc.abstractmethod
    def generate_tokens(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sample: SampleConfig
    ) -> TokenColumns:
        """Yield the next token of every row: a `TokenGenerator` of `bundle.text_generation`."""

    @abc.abstractmethod
    def _compute_logits(self, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Return the logits [T, V] after tokens [T]."""

    @abc.abstractmethod
    def _compute_attention(self, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Return the attention weights [layer, head, T, T] in tokens [T]."""

    @abc.abstractmethod
    def _compute_lens(self, tokens: npt.NDArray[np.int32], top: int) -> Lens:
        """Return the predictions of every layer for tokens [T]."""

    def _generate_list(
        self, prompts: list[str], seeds: list[int], sample: SampleConfig, grammatical: bool
    ) -> list[str]:
        if grammatical:
            samples = [replace(sample, seed=seed) for seed in seeds]
            pairs = zip(prompts, samples, strict=True)
            return [p + "".join(self._stream(p, sample, True)) for p, sample in pairs]
        batch_size = count_texts(self.config)
        return generate_texts(
            self.generate_tokens, self.tokenizer, prompts, seeds, sample, batch_size
        )

    def _stream(self, prompt: str, sample: SampleConfig, grammatical: bool) -> Iterator[str]:
        if grammatical:
            check_speaks_valyrian(self.bundle)
            sample = replace(sample, prompt=prompt)
            sentences = draw_sentences(self.generate_tokens, self.tokenizer, sample)
            ids: Iterator[int] = itertools.chain.from_iterable(s.ids for s in sentences)
        else:
            prompts = [encode_prompt(self.tokenizer, prompt)]
            columns = self.generate_tokens(prompts, [sample.seed], sample)
            ids = (int(column[0]) for column in columns)
        return filter(None, stream_text(self.tokenizer, ids, sample.stop))


def _resolve_seeds(
    seeds: Sequence[int] | None, count: int, sample: SampleConfig, seed: int | None
) -> list[int]:
    """Return a seed for each of `count` texts: `seeds`, if they are given and `seed` is not."""
    if seeds is None:
        return seed_range(sample.seed, count)
    advice = "pass a list with a seed from 0 to 4294967295 for each prompt"
    checked = check_argument(seeds, list[Seed], "seeds", advice)
    if seed is not None or len(checked) != count:
        raise UserError(
            f"seeds must be {count} numbers, one for each prompt, without seed=; found "
            f"{len(checked)} and seed = {seed}; leave one of them out"
        )
    return checked


def _check_prompts(prompts: Any) -> list[str]:
    """Return prompts as a list, after checking that each of them is a valid text."""
    texts = [*prompts] if isinstance(prompts, list | tuple) else [prompts]
    for text in texts:
        if not isinstance(text, str):
            raise UserError(
                f"expected text, found {type(text).__name__} {text!r}; pass a str, or to generate "
                "a list of str"
            )
        check_unicode(text, "the text")
    return texts
