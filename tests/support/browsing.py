"""What tests do on the page in a browser, and expect of it."""

from typing import Any
from urllib.parse import urlencode

from tests.support.serving import SAMPLE, PageServer

LINK = urlencode(
    {
        "prompt": SAMPLE.prompt,
        "temperature": SAMPLE.temperature,
        "top_p": SAMPLE.top_p,
        "max_new_tokens": SAMPLE.max_new_tokens,
        "seed": SAMPLE.seed,
    }
)


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    return expect(locator)


def watch_errors(page: Any) -> list[str]:
    """Return a list that gets the errors of scripts, and violations of the page's own policy."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    def watch_console(message: Any) -> None:
        if "Content Security" in message.text:
            errors.append(message.text)

    page.on("console", watch_console)
    return errors


def generate(page: Any, page_server: PageServer) -> None:
    """Type the prompt and the settings of SAMPLE, and wait for the text."""
    page.goto(f"{page_server.url}?max_new_tokens=1")
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()
    page.get_by_label("Prompt").fill(SAMPLE.prompt)
    page.get_by_label("Temperature").fill("0.2")
    page.get_by_label("Top-p").fill("0.7")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Tokens", exact=True).fill("60")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#status")).to_contain_text("60 tokens in ")


def open_text(page: Any, page_server: PageServer) -> None:
    """Open the link to the text of SAMPLE, and wait for the text."""
    page.goto(f"{page_server.url}?{LINK}")
    expect(page.locator("#status")).to_contain_text("60 tokens in ")


def read_text(page: Any) -> Any:
    return page.locator("#text").evaluate("element => element.textContent")
