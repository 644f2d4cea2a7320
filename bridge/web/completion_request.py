"""Check the body of a request for completions: the protocol's fields, and those of our sampler.

The body is that of OpenAI's `POST /v1/completions`. The settings that the protocol lacks have the
names that vLLM gives them.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.web.request import MAX_NEW_TOKENS, MAX_PROMPT_CHARACTERS, parse_settings
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import encode_prompt, resolve_sample_config
from valyrian_jax.config import SampleConfig
from valyrian_jax.errors import UserError, check_unicode
from valyrian_jax.files import name_json_type
from valyrian_jax.tokenizer import Tokenizer

MAX_LOGPROBS = 5  # as in the protocol
_SETTINGS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop")
_MIN_TOKENS = ("min_tokens", "min_new_tokens")
_IGNORED = ("user",)  # changes no text
# Fields that are accepted only with the value that changes nothing.
_UNSUPPORTED: Mapping[str, Any] = {
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
    "suffix": "",
}
_FIELDS = {
    *("model", "prompt", "n", "best_of", "max_tokens", "logprobs"),
    *("echo", "stream", "stream_options"),
    *_SETTINGS,
    *_MIN_TOKENS,
    *_IGNORED,
    *_UNSUPPORTED,
}


class CompletionError(Exception):
    """A wrong request, which gets an error object of the protocol.

    Attributes:
        param: The field that is wrong, if only one is.
        code: The protocol's name of the error, if it has one.
        status: The HTTP status.
    """

    def __init__(
        self, message: str, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.param, self.code, self.status = param, code, status


@dataclass(frozen=True)
class CompletionRequest:
    """A checked request.

    Attributes:
        prompts: Tokens of each prompt, as the model reads them.
        texts: The prompts as texts.
        count: Choices for each prompt; choice i draws with seed + i.
        max_tokens: Largest number of new tokens; 0 only with `echo`.
        sample: Settings of the sampler; its prompt is not used.
        logprobs: Number of most probable tokens to list at every position; None: no probabilities.
        echo: Whether a choice begins with its prompt.
        stream: Whether the choices are sent as they are generated.
        include_usage: Whether a stream ends with the counts of tokens.
    """

    prompts: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    count: int
    max_tokens: int
    sample: SampleConfig
    logprobs: int | None
    echo: bool
    stream: bool
    include_usage: bool


def parse_completion(
    bundle: Bundle, name: str, max_choices: int, body: Mapping[str, Any]
) -> CompletionRequest:
    """Check the body of a request; the settings of the model's run are the defaults.

    Args:
        bundle: Model that is served.
        name: Its name in the protocol.
        max_choices: Largest number of choices for all prompts together.
        body: Fields of the request; null means that a field is left out.

    Raises:
        CompletionError: A field is unknown, wrong or not supported.
    """
    fields = {key: value for key, value in body.items() if value is not None}
    check_model(fields.get("model", name), name)
    _check_supported(fields)
    stream, echo = _parse_flag(fields, "stream"), _parse_flag(fields, "echo")
    default_tokens = min(resolve_sample_config(bundle, {}).max_new_tokens, MAX_NEW_TOKENS)
    max_tokens = _parse_count(fields, "max_tokens", default_tokens, 1 - echo, MAX_NEW_TOKENS)
    texts, prompts = _parse_prompts(fields.get("prompt", ""), bundle.tokenizer)
    count = _parse_count(fields, "n", 1, 1, max_choices)
    if len(prompts) * count > max_choices:
        raise CompletionError(
            f"too many texts: expected at most {max_choices} (prompts x n), found "
            f"{len(prompts) * count}; send several requests",
            "n" if count > 1 else "prompt",
        )
    if _parse_count(fields, "best_of", count, 1, max_choices) != count:
        raise CompletionError(
            f"best_of is not supported: expected {count}, the value of n; leave it out", "best_of"
        )
    return CompletionRequest(
        prompts=prompts,
        texts=texts,
        count=count,
        max_tokens=max_tokens,
        sample=_parse_sample(bundle, fields, max_tokens),
        logprobs=_parse_count(fields, "logprobs", 0, 0, MAX_LOGPROBS)
        if "logprobs" in fields
        else None,
        echo=echo,
        stream=stream,
        include_usage=_parse_stream_options(fields, stream),
    )


def check_model(value: Any, name: str) -> None:
    """Check that a request names the model that is served."""
    if value != name:
        raise CompletionError(
            f"the model {str(value)[:200]!r} does not exist: expected {name!r}, the one that is "
            "served; see /v1/models",
            "model",
            "model_not_found",
            404,
        )


def _check_supported(fields: Mapping[str, Any]) -> None:
    for key in fields.keys() - _FIELDS:
        raise CompletionError(
            f"unrecognized field {key[:200]!r}: expected one of {', '.join(sorted(_FIELDS))}; "
            "leave it out",
            key[:200],
        )
    for key, neutral in _UNSUPPORTED.items():
        value = fields.get(key, neutral)
        if value != neutral or isinstance(value, bool):  # False is 0 for Python.
            raise CompletionError(
                f"{key} is not supported; leave it out (repetition_penalty, min_p and top_k are "
                "supported)",
                key,
            )


def _parse_sample(bundle: Bundle, fields: Mapping[str, Any], max_tokens: int) -> SampleConfig:
    """Return the settings of the sampler; without a seed, every request draws its own."""
    settings = {key: fields[key] for key in _SETTINGS if key in fields}
    settings.setdefault("seed", secrets.randbelow(2**32))
    min_tokens = [key for key in _MIN_TOKENS if key in fields]
    if len(min_tokens) > 1:
        raise CompletionError(
            f"{' and '.join(min_tokens)} are the same setting; leave one of them out", min_tokens[1]
        )
    for key in min_tokens:
        settings["min_new_tokens"] = _parse_count(fields, key, 0, 0, MAX_NEW_TOKENS)
    length = {"max_new_tokens": max(1, max_tokens)}
    for key, value in settings.items():  # one by one, so that an error names its field
        try:
            parse_settings(bundle, length | {key: value})
        except UserError as error:
            raise CompletionError(str(error), key) from error
    return parse_settings(bundle, length | settings)


def _parse_prompts(
    prompt: Any, tokenizer: Tokenizer
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Return texts and tokens of a prompt: text, tokens, or a list of texts or of tokens."""
    is_ids = isinstance(prompt, list) and bool(prompt) and all(type(i) is int for i in prompt)
    prompts = [prompt] if is_ids or not isinstance(prompt, list) else prompt
    if not prompts:
        raise CompletionError(
            "prompt is an empty array; expected at least one text; add one", "prompt"
        )
    pairs = [_parse_prompt(value, tokenizer) for value in prompts]
    return tuple(text for text, _ in pairs), tuple(ids for _, ids in pairs)


def _parse_prompt(prompt: Any, tokenizer: Tokenizer) -> tuple[str, tuple[int, ...]]:
    if not isinstance(prompt, str | list):
        raise CompletionError(
            f"a prompt is {name_json_type(prompt)}, expected a string or an array of token ids",
            "prompt",
        )
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise CompletionError(
            f"a prompt is too long: expected at most {MAX_PROMPT_CHARACTERS:,} characters or "
            f"tokens, found {len(prompt):,}; shorten it",
            "prompt",
        )
    if isinstance(prompt, str):
        try:
            check_unicode(prompt, "a prompt")
        except UserError as error:
            raise CompletionError(str(error), "prompt") from error
        return prompt, tuple(encode_prompt(tokenizer, prompt))
    for token in prompt:
        if not (type(token) is int and 0 <= token < tokenizer.vocab_size):
            raise CompletionError(
                f"a prompt has a wrong token: expected whole numbers from 0 to "
                f"{tokenizer.vocab_size - 1}, found {str(token)[:100]}; encode the text with the "
                "tokenizer of the model",
                "prompt",
            )
    if not prompt:
        raise CompletionError(
            "a prompt has no tokens; expected at least one; add that of the end of a text", "prompt"
        )
    return tokenizer.decode(prompt), tuple(prompt)


def _parse_count(fields: Mapping[str, Any], key: str, default: int, least: int, most: int) -> int:
    value = fields.get(key, default)
    if type(value) is not int or not least <= value <= most:
        found = value if type(value) is int else name_json_type(value)
        raise CompletionError(
            f"{key} is {found}, expected a whole number from {least} to {most}", key
        )
    return value


def _parse_flag(fields: Mapping[str, Any], key: str) -> bool:
    value = fields.get(key, False)
    if not isinstance(value, bool):
        raise CompletionError(f"{key} is {name_json_type(value)}, expected true or false", key)
    return value


def _parse_stream_options(fields: Mapping[str, Any], stream: bool) -> bool:
    """Return whether a stream ends with the counts of tokens."""
    options = fields.get("stream_options", {})
    if not isinstance(options, dict):
        raise CompletionError(
            f"stream_options is {name_json_type(options)}, expected an object", "stream_options"
        )
    if options and not stream:
        raise CompletionError("stream_options is for streams; set stream to true", "stream_options")
    options = {key: value for key, value in options.items() if value is not None}
    for key in options.keys() - {"include_usage"}:
        raise CompletionError(
            f"unrecognized field {key[:200]!r} of stream_options: expected include_usage; leave it "
            "out",
            "stream_options",
        )
    return _parse_flag(options, "include_usage")
