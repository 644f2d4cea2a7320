"""The playground's page, in a real browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import __main__ as main
from bridge.generator import Generator
from bridge.web.session import CHOICES, attention_row, events
from tests.bridge.test_session import SAMPLE
from tests.support.commands import call
from tests.support.serving import Served
from valyrian_jax.bundle.bundle import Bundle


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if not found:
        pytest.skip("needs Chromium")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    quiet += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    sync_api.expect.set_options(timeout=30_000)
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=quiet)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """An empty page in which no script may fail."""
    context = browser.new_context(
        viewport={"width": 1000, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    )
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    return expect(locator)


def write(page: Any, served: Served) -> None:
    """Type the prompt and the settings, and wait for the text."""
    page.goto(served.url)
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()
    page.get_by_label("Prompt").fill(SAMPLE.prompt)
    page.get_by_label("Temperature").fill("0.2")
    page.get_by_label("Top-p").fill("0.7")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Tokens", exact=True).fill("60")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#status")).to_contain_text("60 tokens in ")


def test_the_text_on_the_page_is_that_of_generate(
    page: Any,
    served: Served,
    endless_directory: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(page, served)
    options = [
        "--prompt",
        SAMPLE.prompt,
        "--temperature",
        0.2,
        "--top-p",
        0.7,
        "--seed",
        7,
        "--max-new-tokens",
        60,
    ]
    status, out, _ = call(main.main, capsys, monkeypatch, "generate", endless_directory, *options)
    assert status == 0
    assert page.locator("#text").evaluate("element => element.textContent") + "\n" == out
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#status")).to_have_text(
        "The link is copied: it gives the same text again."
    )
    link = page.evaluate("navigator.clipboard.readText()")
    page.goto("about:blank")
    page.goto(link)  # writes at once
    expect(page.locator("#status")).to_contain_text("60 tokens in ")
    assert page.locator("#text").evaluate("element => element.textContent") + "\n" == out


def test_pointing_at_a_token_shows_what_it_was_drawn_from(
    page: Any, served: Served, endless: Bundle, generator: Generator
) -> None:
    write(page, served)
    told = [e for e in events(generator, endless.tokenizer, SAMPLE) if e["kind"] != "end"]
    pieces = page.locator("#text .piece")
    assert pieces.evaluate_all("all => all.map(piece => piece.textContent)") == [
        event["text"] for event in told
    ]
    narrow = [
        i
        for i, e in enumerate(told)
        if e["kind"] == "token" and e["kept"] < CHOICES and e["text"].strip()
    ]
    event = told[narrow[0]]
    pieces.nth(narrow[0]).hover()
    share = f"{100 * event['probability']:.1f}%"
    expect(page.locator("#token")).to_have_text(
        f"“{event['label']}” (token {event['id']}) has probability {share}."
    )
    rows = page.locator("#choices li")
    expect(rows).to_have_count(len(event["choices"]) + 1)  # and the cut
    assert "cut" in rows.nth(event["kept"]).get_attribute("class")
    chance = f"{100 * event['chance']:.1f}%"
    expect(page.locator("#kept")).to_have_text(
        f"{event['kept']} of 300 tokens could be drawn, this one with chance {chance}."
    )
    widths = page.locator("#choices .bar").evaluate_all(
        "bars => bars.map(bar => parseFloat(bar.style.width))"
    )
    assert widths == pytest.approx(
        [100 * choice[2] / event["choices"][0][2] for choice in event["choices"]], abs=1e-3
    )


def test_attention_by_keyboard(
    page: Any, served: Served, endless: Bundle, generator: Generator
) -> None:
    write(page, served)
    ids = [e["id"] for e in events(generator, endless.tokenizer, SAMPLE) if e["kind"] != "end"]
    first = page.locator("#text .piece").first
    first.focus()
    for key in ("End", "ArrowLeft", "ArrowRight", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    heads = page.locator("#heads button")
    expect(heads).to_have_count(1 + 2 * 3)
    start, weights = attention_row(generator, ids[:-1])
    page.get_by_role("button", name="layer 1, head 2").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#looking")).to_contain_text("layer 1, head 2: looks at")
    seen = page.locator("#text .piece").evaluate_all(
        "all => all.map(p => +p.style.getPropertyValue('--weight'))"
    )
    expected = weights[1, 2].numpy().round(4) / weights[1, 2].numpy().max().round(4)
    assert seen[start : len(ids) - 1] == pytest.approx(expected.tolist(), abs=1e-3)
    assert not any(seen[:start])
    page.keyboard.press("Escape")
    expect(heads).to_have_count(0)


def test_attention_is_that_of_the_token_chosen_last(page: Any, served: Served) -> None:
    write(page, served)
    held: list[Any] = []
    page.route(
        "**/attention", lambda route: held.append(route) if len(held) < 2 else route.continue_()
    )
    pieces = page.locator("#text .piece")
    for _ in range(2):
        pieces.nth(5).click()
    last = pieces.nth(20)
    last.click()
    expect(page.locator("#heads button")).to_have_count(1 + 2 * 3)
    with page.expect_response("**/attention") as late:
        held[0].continue_()
    late.value.finished()
    expect(page.locator("#looking")).to_contain_text(
        f"From “{last.get_attribute('data-label')}”, all heads"
    )
    page.keyboard.press("Escape")
    with page.expect_response("**/attention") as later:
        held[1].continue_()
    later.value.finished()
    expect(page.locator("#heads button")).to_have_count(0)


def test_errors_are_shown_in_the_page(page: Any, served: Served) -> None:
    page.goto(served.url)
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()
    page.get_by_label("Top-p").fill("0")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_contain_text(
        "sample.top_p = 0: input should be greater than 0"
    )
    page.get_by_label("Top-p").fill("1")
    page.route("**/generate", lambda route: route.abort())
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_have_text("The server cannot be reached.")
    page.unroute("**/generate")
    page.route("**/generate", lambda route: route.fulfill(status=500, body="Internal"))
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_have_text("The server answers 500 Internal Server Error.")


def test_stop_ends_the_text_on_the_server(page: Any, served: Served) -> None:
    page.goto(served.url)
    page.get_by_label("Tokens", exact=True).fill("1000")
    page.get_by_label("Seed").fill("11")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#text .token").first).to_be_attached()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status")).to_have_text("Stopped.")
    assert served.ended(11).endswith(" tokens, broken off")


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_is_wider_than_a_phone(browser: Any, served: Served, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 700})
    page.goto(f"{served.url}?prompt={'Zaldrīzes' * 30}&seed=3&max_new_tokens=40")
    expect(page.locator("#status")).to_contain_text("40 tokens in ")
    page.locator("#text .token").last.click()
    expect(page.locator("#heads button").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
