"""The page works in a real browser."""

from pathlib import Path
from typing import Any

import pytest

from bridge import __main__ as main
from bridge.generator import Generator
from bridge.inspection import attention_row, lens_table
from bridge.web.session import MAX_CHOICES, stream_events
from tests.support.browsing import expect, generate, open_text, read_text
from tests.support.commands import call
from tests.support.serving import SAMPLE, PageServer
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.tokenizer.display import token_label

pytestmark = pytest.mark.slow

SHOW_MANY = """async (count) => {
  const { showEvent, startText } = await import("./text.js");
  const choices = document.getElementById("choices");
  let drawings = 0;
  new MutationObserver((changes) => {
    drawings += changes.filter((change) => change.addedNodes.length).length;
  }).observe(choices, { childList: true });
  startText({ temperature: 1 }, 300);
  for (let id = 0; id < count; id++) {
    const choice = [id, `“${id}”`, 1, true];
    showEvent({ kind: "token", id, label: `${id}`, text: "a", kept: 1, probability: 1, chance: 1,
                choices: [choice] });
  }
  await new Promise(requestAnimationFrame);
  return [drawings, choices.textContent];
}"""


def test_the_page_and_its_link_show_the_text_of_generate(
    page: Any,
    page_server: PageServer,
    endless_directory: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generate(page, page_server)
    options = ["--prompt", SAMPLE.prompt, "--temperature", 0.2, "--top-p", 0.7, "--seed", 7]
    command = ["generate", endless_directory, *options, "--max-new-tokens", 60]
    status, out, _ = call(main.main, capsys, monkeypatch, *command)
    assert status == 0
    assert read_text(page) + "\n" == out
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#status")).to_have_text("Link copied. It generates the same text again.")
    link = page.evaluate("navigator.clipboard.readText()")
    page.goto("about:blank")
    page.goto(link)  # The page generates at once.
    expect(page.locator("#status")).to_contain_text("60 tokens in ")
    assert read_text(page) + "\n" == out


def test_pointing_at_a_token_shows_its_distribution(
    page: Any, page_server: PageServer, endless: Bundle, generator: Generator
) -> None:
    open_text(page, page_server)
    *events, _ = stream_events(generator, endless.tokenizer, SAMPLE)
    elements = page.locator("#text .text-token")
    texts = elements.evaluate_all("all => all.map(element => element.textContent)")
    assert texts == [event["text"] for event in events]
    index, event = next(
        (i, event)
        for i, event in enumerate(events)
        if event["kind"] == "token" and event["kept"] < MAX_CHOICES and event["text"].strip()
    )
    elements.nth(index).hover()
    probability, chance = (f"{100 * event[key]:.1f}%" for key in ("probability", "chance"))
    expect(page.locator("#token")).to_have_text(
        f"“{event['label']}” (token {event['id']}) has probability {probability}."
    )
    expect(page.locator("#distribution")).to_have_text(
        f"{event['kept']} of 300 tokens can be drawn; "
        f"among them, this one has probability {chance}."
    )
    rows = page.locator("#choices li")
    expect(rows).to_have_count(len(event["choices"]) + 1)  # One row is the cut.
    assert "cut" in rows.nth(event["kept"]).get_attribute("class")
    widths = page.locator("#choices .bar").evaluate_all(
        "bars => bars.map(bar => parseFloat(bar.style.width))"
    )
    expected = [100 * choice[2] / event["choices"][0][2] for choice in event["choices"]]
    assert widths == pytest.approx(expected, abs=1e-3)


def test_of_tokens_that_arrive_in_one_frame_only_the_newest_is_drawn(
    page: Any, page_server: PageServer
) -> None:
    open_text(page, page_server)
    drawings, choices = page.evaluate(SHOW_MANY, 50)
    assert drawings == 1
    assert choices == "“49”100.0%"


def test_the_keyboard_alone_shows_attention(
    page: Any, page_server: PageServer, endless: Bundle, generator: Generator
) -> None:
    open_text(page, page_server)
    *events, _ = stream_events(generator, endless.tokenizer, SAMPLE)
    ids = [event["id"] for event in events]
    elements = page.locator("#text .text-token")
    elements.first.focus()
    for key in ("End", "ArrowLeft", "ArrowRight", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    heads = page.locator("#heads button")
    expect(heads).to_have_count(1 + 2 * 3)
    start, attention = attention_row(generator, ids[:-1])
    page.get_by_role("button", name="layer 1, head 2").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#attention")).to_contain_text(" in layer 1, head 2: ")
    weights = elements.evaluate_all(
        "all => all.map(element => +element.style.getPropertyValue('--weight'))"
    )
    expected = attention[1, 2].numpy().round(4) / attention[1, 2].numpy().max().round(4)
    assert weights[start : len(ids) - 1] == pytest.approx(expected.tolist(), abs=1e-3)
    assert not any(weights[:start])
    page.keyboard.press("Escape")
    expect(heads).to_have_count(0)


def test_selecting_a_token_shows_what_every_layer_would_predict(
    page: Any, page_server: PageServer, endless: Bundle, generator: Generator
) -> None:
    open_text(page, page_server)
    *events, _ = stream_events(generator, endless.tokenizer, SAMPLE)
    page.locator("#text .text-token").nth(20).click()
    start, lens = lens_table(generator, endless.tokenizer, [e["id"] for e in events[:21]])
    rows = page.locator("#lens-table tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.locator("th")).to_have_text(["embedding", "layer 0", "layer 1"])
    labels = [event["label"] for event in events]
    expect(page.locator("#lens-table thead th")).to_have_text(["after", *labels[start:21]])
    for layer, predictions in enumerate(lens.predictions):
        cells = rows.nth(layer).locator("td")
        shown = cells.evaluate_all("all => all.map(cell => cell.firstChild.textContent)")
        assert shown == predictions
        framed = cells.evaluate_all("all => all.map(cell => cell.className === 'true')")
        assert framed == [p == labels[start + 1 + i] for i, p in enumerate(predictions)]
    share = rows.last.locator("small").last
    expect(share).to_have_text(f"{100 * lens.probabilities[-1, -1, 0]:.1f}%")
    page.keyboard.press("Escape")
    expect(rows).to_have_count(0)


def test_attention_is_that_of_the_token_selected_last(page: Any, page_server: PageServer) -> None:
    open_text(page, page_server)
    delayed: list[Any] = []
    page.route(
        "**/attention",
        lambda route: delayed.append(route) if len(delayed) < 2 else route.continue_(),
    )
    elements = page.locator("#text .text-token")
    for _ in range(2):
        elements.nth(5).click()
    last = elements.nth(20)
    last.click()
    expect(page.locator("#heads button")).to_have_count(1 + 2 * 3)
    with page.expect_response("**/attention") as response:
        delayed[0].continue_()
    response.value.finished()
    label = last.get_attribute("data-label")
    expect(page.locator("#attention")).to_contain_text(f"Attention of “{label}” in all heads: ")
    page.keyboard.press("Escape")
    with page.expect_response("**/attention") as response:
        delayed[1].continue_()
    response.value.finished()
    expect(page.locator("#heads button")).to_have_count(0)


def test_errors_appear_on_the_page_and_leave_its_text(page: Any, page_server: PageServer) -> None:
    open_text(page, page_server)
    text = read_text(page)
    button, alert = page.get_by_role("button", name="Generate"), page.get_by_role("alert")
    page.route("**/generate", lambda route: route.abort())
    button.click()
    expect(alert).to_have_text(
        "Cannot reach the server; check that `python -m bridge serve` is still running."
    )
    page.unroute("**/generate")
    page.route("**/generate", lambda route: route.fulfill(status=500, body="Internal"))
    button.click()
    expect(alert).to_have_text("The server answered 500 Internal Server Error.")
    page.unroute("**/generate")
    page.get_by_label("Top-p").fill("1" * 400)
    button.click()
    expect(alert).to_contain_text("top_p = ")
    assert read_text(page) == text


def test_another_text_has_another_seed(page: Any, page_server: PageServer) -> None:
    open_text(page, page_server)
    seed, text = page.get_by_label("Seed"), read_text(page)
    page.get_by_role("button", name="Another", exact=True).click()
    expect(seed).to_have_value("8")
    expect(page.locator("#text")).not_to_have_text(text)
    expect(page.locator("#status")).to_contain_text("60 tokens in ")
    seed.fill("4294967295")
    page.get_by_role("button", name="Another", exact=True).click()
    expect(seed).to_have_value("0")
    page.get_by_role("button", name="Roll a die").click()
    expect(seed).not_to_have_value("0")
    expect(page.locator("#status")).to_contain_text("60 tokens in ")
    assert f"seed={seed.input_value()}&" in page.url


def test_a_letter_of_several_tokens_is_one_box(
    page: Any, page_server: PageServer, endless: Bundle
) -> None:
    ids = endless.tokenizer.encode("€")
    assert len(ids) > 1
    labels = [token_label(endless.tokenizer, token) for token in ids]
    page.goto(f"{page_server.url}?prompt=€&max_new_tokens=1&seed=1")
    expect(page.locator("#status")).to_contain_text("1 token in ")
    boxes = page.locator("#text .text-token:visible")
    expect(boxes.first).to_have_text("€")
    boxes.first.focus()
    buttons = page.locator("#bytes button")
    expect(buttons).to_have_text(labels)
    buttons.first.click()
    expect(page.locator("#token")).to_contain_text(f"“{labels[0]}” (token {ids[0]})")
    expect(buttons.first).to_be_focused()
    boxes.first.focus()
    page.keyboard.press("ArrowRight")
    expect(boxes.nth(1)).to_be_focused()


def test_the_stop_button_stops_the_text_on_the_server(page: Any, page_server: PageServer) -> None:
    page.goto(page_server.url)
    page.get_by_label("Tokens", exact=True).fill("1000")
    page.get_by_label("Seed").fill("11")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#text .token").first).to_be_attached()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status")).to_have_text("Stopped.")
    assert page_server.wait_for_end(11).endswith(" tokens, stopped early")


def test_generate_shows_the_text_on_a_phone(page: Any, page_server: PageServer) -> None:
    page.set_viewport_size({"width": 360, "height": 640})
    generate(page, page_server)
    expect(page.locator("#text")).to_be_in_viewport(ratio=0.5)


def test_a_table_that_is_cut_fades_out(page: Any, page_server: PageServer) -> None:
    page.set_viewport_size({"width": 360, "height": 640})
    open_text(page, page_server)
    page.locator("#text .text-token:visible").nth(20).click()
    scroller = page.locator("#lens-scroller")
    expect(scroller).to_have_class("scroller cut-left")
    expect(page.locator("#lens")).to_contain_text("Scroll the table to the left")
    scroller.evaluate("scroller => { scroller.scrollLeft = 0; }")
    expect(scroller).to_have_class("scroller cut-right")


@pytest.mark.parametrize("width", [320, 390])
def test_the_page_fits_a_phone(page: Any, page_server: PageServer, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    page.goto(f"{page_server.url}?prompt={'Zaldrīzes' * 30}&seed=3&max_new_tokens=40")
    expect(page.locator("#status")).to_contain_text("40 tokens in ")
    page.locator("#text .token").last.click()
    expect(page.locator("#heads button").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
