"""Read and check requests, so that every wrong one gets an error in one line."""

import json
from typing import Any

import anyio
from starlette.requests import ClientDisconnect, Request

from bridge.web.protocol import BODY_TIMEOUT
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import resolve_sample_config
from valyrian_jax.config import SampleConfig
from valyrian_jax.errors import UserError
from valyrian_jax.files import name_json_type

MAX_PROMPT_CHARACTERS = 5_000
MAX_NEW_TOKENS = 1_000
MAX_STOP_STRINGS = 4  # as in OpenAI's protocol
MAX_STOP_CHARACTERS = 200  # in each; every token is searched for their beginnings
MAX_MESSAGE = 2_000  # characters of an error message, which can quote the request
MAX_BODY_BYTES = 1 << 17


async def read_json_body(request: Request) -> dict[str, Any]:
    """Read the JSON object in the body of a request.

    Raises:
        UserError: The body is too large, too slow, or not a JSON object.
    """
    # A page from another site may send JSON only after a CORS preflight, and this server has none.
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UserError(
            "the request is not JSON: expected Content-Type: application/json, "
            f"found {media_type or 'none'!r}; add the header"
        )
    body = bytearray()
    try:
        with anyio.fail_after(BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise UserError(
                        f"the request is too long: expected at most {MAX_BODY_BYTES:,} bytes, "
                        "found more; shorten the text"
                    )
        value = json.loads(body)
    except (TimeoutError, ClientDisconnect) as error:
        raise UserError(
            f"the request did not arrive within {BODY_TIMEOUT:.0f} s; send it again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"the request is not JSON: {error}; send one JSON object") from error
    if not isinstance(value, dict):
        raise UserError(f"the request is {name_json_type(value)}, expected a JSON object; send one")
    return value


def parse_settings(bundle: Bundle, settings: dict[str, Any]) -> SampleConfig:
    """Return the sampling settings of a request; the bundle's settings are the defaults.

    Raises:
        UserError: A setting is unknown, wrong, or above the limit of the server.
    """
    sample = resolve_sample_config(bundle, settings)
    for problem, unit, count, limit in (
        ("the prompt is too long", "characters", len(sample.prompt), MAX_PROMPT_CHARACTERS),
        ("max_new_tokens is too large", "tokens", sample.max_new_tokens, MAX_NEW_TOKENS),
        ("there are too many stop strings", "strings", len(sample.stop), MAX_STOP_STRINGS),
        (
            "a stop string is too long",
            "characters",
            max(map(len, sample.stop), default=0),
            MAX_STOP_CHARACTERS,
        ),
    ):
        if count > limit:
            raise UserError(
                f"{problem}: expected at most {limit:,} {unit}, found {count:,} {unit}; send fewer"
            )
    return sample


def parse_flag(name: str, value: Any) -> bool:
    """Return the value of a field that is true or false.

    Raises:
        UserError: The value is not a boolean.
    """
    if not isinstance(value, bool):
        raise UserError(f"{name} is {name_json_type(value)}, expected true or false")
    return value


def parse_tokens(tokens: Any, vocab_size: int) -> list[int]:
    """Return the token ids of a request.

    Raises:
        UserError: The value is not an array of token ids, or the array is too long.
    """
    limit = MAX_PROMPT_CHARACTERS * 4 + MAX_NEW_TOKENS
    if not isinstance(tokens, list):
        raise UserError(
            f"tokens is {name_json_type(tokens)}, expected an array of token ids; send one"
        )
    if not 0 < len(tokens) <= limit:
        raise UserError(f"tokens has {len(tokens):,} token ids, expected 1 to {limit:,}")
    for token in tokens:
        if not (type(token) is int and 0 <= token < vocab_size):
            raise UserError(
                f"{json.dumps(token)} is not a token id: expected whole numbers from 0 to "
                f"{vocab_size - 1}; encode the text with the tokenizer of the model"
            )
    return tokens
