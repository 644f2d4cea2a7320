"""OpenAI's client of a server of the page, and the settings of its requests."""

from typing import Any

import openai

from tests.support.serving import SAMPLE, PageServer

SETTINGS: dict[str, Any] = {"max_tokens": 60, "temperature": 0.2, "top_p": 0.7, "seed": 7}
PROMPT = SAMPLE.prompt


def connect(page_server: PageServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=page_server.url + "v1", api_key="none", max_retries=0)
