"""The page works in a real browser."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge import __main__ as main
from bridge.generator import Generator
from bridge.inspection import attention_row, lens_table
from bridge.web.session import MAX_CHOICES, stream_events
from tests.support.browsing import expect
from tests.support.commands import call
from tests.support.serving import SAMPLE, PageServer, start_server
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.tokenizer.display import token_label


def generate(page: Any, page_server: PageServer) -> None:
    """Type the prompt and the settings of SAMPLE, and wait for the text."""
    page.goto(page_server.url)
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()
    page.get_by_label("Prompt").fill(SAMPLE.prompt)
    page.get_by_label("Temperature").fill("0.2")
    page.get_by_label("Top-p").fill("0.7")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Tokens", exact=True).fill("60")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#status")).to_contain_text("60 tokens in ")


def read_text(page: Any) -> Any:
    return page.locator("#text").evaluate("element => element.textContent")


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
    generate(page, page_server)
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


def test_the_keyboard_alone_shows_attention(
    page: Any, page_server: PageServer, endless: Bundle, generator: Generator
) -> None:
    generate(page, page_server)
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
    generate(page, page_server)
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
    generate(page, page_server)
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
    generate(page, page_server)
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


@pytest.mark.parametrize(
    ("label", "value", "problem"),
    [
        ("Top-p", "0", "Top-p must be above 0"),
        ("Temperature", "-0,1", "Temperature must be at least 0"),
        ("Temperature", "0.0001", "Temperature must be 0 or at least 0.001"),
        ("Temperature", "", "Temperature must be a number of at least 0"),
        ("Tokens", "1,000", "Tokens must be a whole number from 1 to 1000"),
        ("Tokens", "1001", "Tokens must be from 1 to 1000"),
        ("Seed", "0x10", "Seed must be a whole number from 0 to 4294967295"),
        ("Min-p", "1,5", "Min-p must be from 0 to 1"),
        ("Repetition penalty", "0", "Repetition penalty must be from 0.001 to 1000"),
    ],
)
def test_a_wrong_setting_is_explained_at_its_field(
    page: Any, page_server: PageServer, label: str, value: str, problem: str
) -> None:
    generate(page, page_server)
    text = read_text(page)
    page.on("request", lambda request: pytest.fail(request.url))
    field = page.get_by_label(label, exact=True)
    field.evaluate("(field, value) => { field.value = value; }", value)  # also where it is hidden
    page.get_by_role("button", name="Generate").click()
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile(f"^{re.escape(problem)} "))
    assert read_text(page) == text
    field.fill("1")
    expect(field).to_have_attribute("aria-invalid", "false")
    expect(page.get_by_text(problem, exact=True)).to_have_count(0)


def test_a_decimal_comma_is_a_decimal_point(page: Any, page_server: PageServer) -> None:
    generate(page, page_server)
    text = read_text(page)
    page.get_by_label("Temperature").fill("0,2")
    page.get_by_label("Top-p").fill(" 0,70 ")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#status")).to_contain_text("The same seed gives the same text")
    assert "temperature=0.2&top_p=0.7&" in page.url
    assert read_text(page) == text


def test_every_setting_has_help(page: Any, page_server: PageServer) -> None:
    page.goto(page_server.url)
    page.get_by_text("More settings").click()
    page.mouse.move(0, 0)  # A field under the pointer shows its help too.
    fields = page.locator(".field input, .field textarea")
    expect(fields).to_have_count(9)
    for field in fields.all():
        expect(field).to_have_accessible_description(re.compile(r"\w.*\.$"))
        field.focus()
        expect(page.locator(".help:visible")).to_have_count(1)


def test_another_text_has_another_seed(page: Any, page_server: PageServer) -> None:
    generate(page, page_server)
    seed, text = page.get_by_label("Seed"), read_text(page)
    page.get_by_role("button", name="Another", exact=True).click()
    expect(seed).to_have_value("8")
    expect(page.locator("#text")).not_to_have_text(text)
    expect(page.locator("#status")).to_contain_text("60 tokens in ")
    seed.fill("4294967295")
    page.get_by_role("button", name="Another", exact=True).click()
    expect(seed).to_have_value("0")
    page.get_by_role("button", name="Throw a die").click()
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


def test_generate_shows_the_text_on_a_phone(browser: Any, page_server: PageServer) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 640})
    generate(page, page_server)
    expect(page.locator("#text")).to_be_in_viewport(ratio=0.5)
    page.close()


def test_a_table_that_is_cut_fades_out(browser: Any, page_server: PageServer) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 640})
    generate(page, page_server)
    page.locator("#text .text-token:visible").nth(20).click()
    scroller = page.locator("#lens-scroller")
    expect(scroller).to_have_class("scroller cut-left")
    expect(page.locator("#lens")).to_contain_text("Scroll the table to the left")
    scroller.evaluate("scroller => { scroller.scrollLeft = 0; }")
    expect(scroller).to_have_class("scroller cut-right")
    page.close()


@pytest.mark.parametrize("width", [320, 390])
def test_the_page_fits_a_phone(browser: Any, page_server: PageServer, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 700})
    page.goto(f"{page_server.url}?prompt={'Zaldrīzes' * 30}&seed=3&max_new_tokens=40")
    expect(page.locator("#status")).to_contain_text("40 tokens in ")
    page.locator("#text .token").last.click()
    expect(page.locator("#heads button").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_the_new_settings_are_those_of_generate(
    page: Any,
    page_server: PageServer,
    endless_directory: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options: list[Any] = ["--prompt", SAMPLE.prompt, "--seed", 7, "--max-new-tokens", 60]
    options += ["--min-p", 0.1, "--repetition-penalty", 1.2, "--min-new-tokens", 2]
    status, out, _ = call(main.main, capsys, monkeypatch, "generate", endless_directory, *options)
    assert status == 0
    found = re.search("[a-z]{3}", out[len(SAMPLE.prompt) + 10 :])  # no malformed byte in it
    assert found
    stop = found[0]
    expected = out[: out.index(stop, len(SAMPLE.prompt))]
    assert "\n" not in expected
    page.goto(page_server.url)
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()
    for label, value in (
        ("Prompt", SAMPLE.prompt),
        ("Seed", "7"),
        ("Tokens", "60"),
        ("Min-p", "0.1"),
        ("Repetition penalty", "1.2"),
        ("Min tokens", "2"),
        ("Stop at (one a line)", f"never there\n{stop}\n\\n"),
    ):
        if label == "Min-p":
            page.get_by_text("More settings").click()
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#status")).to_contain_text("a stop string was reached.")
    assert read_text(page) == expected
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    expect(page.locator("#status")).to_contain_text("a stop string was reached.")
    assert read_text(page) == expected
    assert page.get_by_label("Stop at").input_value() == f"never there\n{stop}\n\\n"


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("seed=abc", "seed = “abc”, expected a whole number from 0 to 4294967295"),
        ("seed=", "seed = “”, expected a whole number from 0 to 4294967295"),
        ("seed=1.5", "seed = “1.5”, expected a whole number from 0 to 4294967295"),
        ("prompt=a&temperature=-1", "temperature = “-1”, expected a number of at least 0"),
        ("max_new_tokens=1001", "max_new_tokens = “1001”, expected a whole number from 1 to 1000"),
        ("min_p=2", "min_p = “2”, expected a number from 0 to 1"),
        ("check=maybe", "check = “maybe”, expected true or false"),
        ("sed=7", "an unknown setting, sed = “7”"),
        ("seed=a&top_k=b", "seed = “a”, expected a whole number from 0 to 4294967295 (and 1 more)"),
    ],
)
def test_a_wrong_link_is_explained_in_one_line(
    page: Any, page_server: PageServer, link: str, problem: str
) -> None:
    page.goto(f"{page_server.url}?{link}")
    alert = page.get_by_role("alert")
    expect(alert).to_have_text(
        f"The link has {problem}. Correct the settings, then press Generate."
    )
    assert read_text(page) == ""
    page.get_by_label("Tokens", exact=True).fill("3")  # The other settings are those of the run.
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#status")).to_contain_text("3 tokens in ")
    expect(alert).to_be_hidden()


@pytest.mark.parametrize("is_valyrian", [True, False])
def test_only_a_model_of_high_valyrian_gets_verdicts(
    is_valyrian: bool, page: Any, endless: Bundle, tmp_path: Path
) -> None:
    manifest = {"held_out": {"entropy_bits_per_byte": 1.0}} if is_valyrian else {}
    save_bundle(replace(endless, manifest=manifest), tmp_path / "bundle")
    with start_server(tmp_path / "bundle") as page_server:
        prompt = "Vala ēdrus. Vale ēdrus. Qzx ēdrus. Vala "
        page.goto(f"{page_server.url}?prompt={prompt}&max_new_tokens=3&seed=1")
        expect(page.locator("#status")).to_contain_text("3 tokens in ")
        assert page.get_by_label("Check grammar").is_visible() == is_valyrian
        items = page.locator("#sentences li").all()
        verdicts = [item.get_attribute("class") for item in items][:3]
        assert verdicts == (["right", "mistake", "beyond"] if is_valyrian else [])
        marks = [item.locator(".mark").get_attribute("aria-label") for item in items[:3]]
        assert marks == ["right:", "a mistake:", "beyond the grammar:"][: len(verdicts)]
