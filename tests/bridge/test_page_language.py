"""The tabs Check and Words, and the verdicts of Write, work in a real browser."""

import contextlib
import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.browsing import expect
from tests.support.serving import PageServer, start_server
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.language import check, gloss, load_lexicon, look_up
from valyrian_jax.language.words.paradigm import list_tables

pytestmark = pytest.mark.slow

WIDTHS = (360, 768, 1280)
SENTENCES = "Sīr vali kari issi. Zaldrīzes kara issa! Blorp issa. Valar morghulis."


@pytest.fixture(scope="module")
def valyrian_server(endless: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server of a model of High Valyrian, as its metadata say."""
    path = tmp_path_factory.mktemp("valyrian") / "bundle"
    save_bundle(replace(endless, manifest={"held_out": {"entropy_bits_per_byte": 1.0}}), path)
    with start_server(path) as server:
        yield server


def open_tab(page: Any, server: PageServer, name: str) -> None:
    page.goto(f"{server.url}?max_new_tokens=1")
    page.get_by_role("tab", name=name).click()
    expect(page.get_by_role("tabpanel", name=name)).to_be_visible()


def test_the_page_opens_with_a_text(page: Any, valyrian_server: PageServer) -> None:
    page.goto(valyrian_server.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("High Valyrian")
    expect(page).to_have_title("High Valyrian · valyrian-gpt")
    expect(page.locator("#status")).to_contain_text(" tokens in ")
    expect(page.locator("#text .text-token").first).to_be_attached()
    assert page.get_by_label("Prompt").input_value()
    assert "?" not in page.url  # A visit is no link to a text.


def test_a_model_of_another_language_has_its_name_and_no_tabs(
    page: Any, page_server: PageServer
) -> None:
    page.goto(page_server.url)
    expect(page.locator("#status")).to_contain_text(" tokens in ")
    expect(page.get_by_role("heading", level=1)).not_to_contain_text("Valyrian")
    for role in ("tab", "tabpanel"):
        expect(page.get_by_role(role)).to_have_count(0)
    expect(page.locator(".chips:visible, .with-grammar:visible")).to_have_count(0)


@pytest.mark.parametrize("is_valyrian", [True, False])
def test_only_a_model_of_high_valyrian_gets_verdicts(
    is_valyrian: bool, page: Any, valyrian_server: PageServer, page_server: PageServer
) -> None:
    url = valyrian_server.url if is_valyrian else page_server.url
    page.goto(f"{url}?prompt=Vala ēdrus. Vale ēdrus. Qzx ēdrus. Vala &max_new_tokens=3&seed=1")
    expect(page.locator("#status")).to_contain_text("3 tokens in ")
    assert page.get_by_label("Check grammar").is_visible() == is_valyrian
    items = page.locator("#sentences li").all()[:3]
    verdicts = [item.get_attribute("class") for item in items]
    assert verdicts == (["right", "mistake", "beyond"] if is_valyrian else [])
    marks = [item.locator(".mark").get_attribute("aria-label") for item in items]
    assert marks == ["right:", "a mistake:", "beyond the grammar:"][: len(verdicts)]


def test_the_keyboard_moves_between_tabs(page: Any, valyrian_server: PageServer) -> None:
    open_tab(page, valyrian_server, "Write")
    names = ["Write", "Check", "Words"]
    tabs = page.get_by_role("tab")
    expect(tabs).to_have_text(names)
    for key, name in (
        ("ArrowRight", "Check"),
        ("End", "Words"),
        ("ArrowLeft", "Check"),
        ("Home", "Write"),
        ("ArrowRight", "Check"),
    ):
        page.keyboard.press(key)
        tab = page.get_by_role("tab", name=name)
        expect(tab).to_be_focused()
        expect(page.get_by_role("tab", selected=True)).to_have_text(name)
        expect(page.get_by_role("tabpanel")).to_have_count(1)
        expect(page.get_by_role("tabpanel")).to_have_accessible_name(name)
        expect(page.get_by_role("tabpanel")).to_have_id(tab.get_attribute("aria-controls"))
        assert tabs.evaluate_all("all => all.filter(tab => tab.tabIndex === 0).length") == 1
    page.keyboard.press("Tab")
    expect(page.get_by_label("High Valyrian to check")).to_be_focused()
    assert page.url.endswith("#check")
    page.reload()
    expect(page.get_by_role("tab", selected=True)).to_have_text("Check")


def test_check_gives_verdicts_as_one_types(page: Any, valyrian_server: PageServer) -> None:
    open_tab(page, valyrian_server, "Check")
    items = page.locator("#check-sentences > li")
    expect(items.first).to_be_visible()  # The page opens with sentences.
    field = page.get_by_label("High Valyrian to check")
    field.fill("")
    expect(items).to_have_count(0)
    field.press_sequentially(SENTENCES)
    verdicts = check(SENTENCES)
    expect(items).to_have_count(len(verdicts))
    expect(page.locator("#check-status")).to_have_text(
        "4 sentences: 2 right, 1 with a mistake, 1 beyond the grammar."
    )
    for item, verdict in zip(items.all(), verdicts, strict=True):
        expect(item).to_have_class(verdict.verdict)
        expect(item.locator(".sentence")).to_have_text(verdict.text)
        expect(item.locator(".reason")).to_have_text(
            [verdict.reason.replace("`", "")] if verdict.reason else []
        )
    expect(items.nth(0).locator(".fault, .related")).to_have_count(0)
    expect(items.nth(1).locator(".fault")).to_have_text(["kara"])
    expect(items.nth(1).locator(".related")).to_have_text(["Zaldrīzes"])
    expect(items.nth(2).locator(".fault")).to_have_text(["Blorp"])
    expect(items.nth(3).locator(".note")).to_have_text("morghulis is written morghūlis")
    marks = page.get_by_role("img", name="a mistake:")
    expect(marks).to_have_count(1)


def test_only_the_latest_text_has_verdicts(page: Any, valyrian_server: PageServer) -> None:
    from playwright import sync_api

    open_tab(page, valyrian_server, "Check")
    items = page.locator("#check-sentences > li")
    expect(items.first).to_be_visible()
    delayed: list[Any] = []
    page.route("**/check", lambda route: delayed.append(route))
    chips = page.locator("#check-chips button")
    with page.expect_request("**/check"):
        chips.nth(0).click()
    page.unroute("**/check")
    expected = chips.nth(1).inner_text()
    chips.nth(1).click()
    expect(items.locator(".sentence")).to_have_text([expected])
    with contextlib.suppress(sync_api.Error):  # The page no longer waits for it.
        delayed[0].fulfill(json={"sentences": []})
    expect(items.locator(".sentence")).to_have_text([expected])
    expect(page.get_by_label("High Valyrian to check")).to_have_value(expected)


def test_pointing_at_a_word_shows_its_gloss_and_leads_to_its_entry(
    page: Any, valyrian_server: PageServer
) -> None:
    open_tab(page, valyrian_server, "Check")
    page.get_by_label("High Valyrian to check").fill("Sīr, vali kari issi.")
    item = page.locator("#check-sentences > li")
    expect(item).to_have_count(1)
    words = item.get_by_role("button", name="kari")
    words.hover()
    analysis = next(w for w in gloss("Sīr, vali kari issi.").words if w.text == "kari")
    line = item.locator(".gloss")
    expect(line).to_contain_text(f"kari: {analysis.analysis}, “{analysis.english}”")
    words.focus()
    page.keyboard.press("ArrowLeft")
    expect(line).to_contain_text("vali: man-NOM.PL")
    line.get_by_role("button", name="entry").click()
    expect(page.get_by_role("tab", selected=True)).to_have_text("Words")
    expect(page.get_by_role("tab", name="Words")).to_be_focused()
    expect(page.locator(".entry summary b")).to_have_text(["vala"])


@pytest.mark.parametrize("query", ["zaldrizoti", "kari", "dragon", "rytsas"])
def test_words_has_the_entries_of_the_dictionary(
    page: Any, valyrian_server: PageServer, query: str
) -> None:
    open_tab(page, valyrian_server, "Words")
    expect(page.locator(".entry")).to_have_count(1)  # The page opens with a word.
    page.get_by_label("High Valyrian in any form").fill(query)
    page.keyboard.press("Enter")
    entries = look_up(query).entries
    expect(page.locator(".entry summary b")).to_have_text([e.lexeme.lemma for e in entries])
    first = page.locator(".entry").first
    expect(first.locator(".meaning")).to_have_text(entries[0].lexeme.gloss)
    tables = list_tables(entries[0].lexeme)
    cells = [cell for table in tables for _, row in table.rows for cell in row]
    expect(first.locator("tbody td")).to_have_text(cells)
    rows = [name for table in tables for name, _ in table.rows]
    expect(first.get_by_role("rowheader")).to_have_text(rows)


def test_words_names_the_nearest_words(page: Any, valyrian_server: PageServer) -> None:
    open_tab(page, valyrian_server, "Words")
    page.get_by_label("High Valyrian in any form").fill("zaldrizeq")
    page.get_by_role("button", name="Look up").click()
    nearest = look_up("zaldrizeq").nearest
    buttons = page.locator("#words-status button")
    expect(buttons).to_have_text([*nearest])
    buttons.first.click()
    expect(page.locator(".entry").first).to_be_visible()
    expect(page.get_by_label("High Valyrian in any form")).to_have_value(nearest[0])


def test_words_glosses_a_sentence(page: Any, valyrian_server: PageServer) -> None:
    open_tab(page, valyrian_server, "Words")
    sentence = "Sīr vali kari issi."
    page.get_by_role("button", name=sentence).click()
    words = gloss(sentence).words
    columns = page.locator("#words-gloss li")
    expect(columns.locator("button")).to_have_text([word.text for word in words])
    expect(columns.locator(".analysis")).to_have_text([word.analysis for word in words])
    expect(columns.locator(".english")).to_have_text([word.english for word in words])
    columns.get_by_role("button", name="vali").click()
    expect(page.locator(".entry summary b")).to_have_text(["vala"])
    expect(page.get_by_label("High Valyrian in any form")).to_have_value(sentence)


def test_an_error_is_shown_in_each_tab(page: Any, valyrian_server: PageServer) -> None:
    message = "Cannot reach the server; check that `python -m bridge serve` is still running."
    open_tab(page, valyrian_server, "Check")
    expect(page.locator("#check-sentences > li").first).to_be_visible()
    page.route("**/*", lambda route: route.abort())
    page.get_by_label("High Valyrian to check").fill("Vala issa.")
    expect(page.locator("#check-status")).to_have_text(message)
    page.get_by_role("tab", name="Words").click()
    expect(page.locator("#words-status")).to_have_text(message)


@pytest.mark.parametrize("chip", ["Sīr vali", "a new document"])
def test_an_example_is_generated_with_verdicts_and_glosses(
    page: Any, valyrian_server: PageServer, chip: str
) -> None:
    page.goto(f"{valyrian_server.url}?prompt=x&max_new_tokens=1")
    page.locator("#prompts").get_by_role("button", name=chip, exact=True).click()
    expect(page.get_by_label("Prompt")).to_have_value(chip if chip.startswith("S") else "")
    expect(page.locator("#status")).to_contain_text("1 token in ")
    page.get_by_label("Prompt").fill("Sīr vali kari issi. Vala ēdrus. Zaldrīzes kara issa. X")
    page.get_by_role("button", name="Generate").click()
    items = page.locator("#sentences > li")
    expect(items.nth(2)).to_have_class("mistake")
    expect(items.nth(2).locator(".fault")).to_have_text(["kara"])
    faults = page.locator("#text .fault").evaluate_all("all => all.map(e => e.textContent)")
    assert "".join(faults).strip() == "kara"
    assert "must be solar: karys" in page.locator("#text .fault").last.get_attribute("title")
    token = page.locator("#text .text-token").filter(has_text="v").first
    token.hover()
    expect(page.locator("#word")).to_contain_text("vali: man-NOM.PL, “man”")


def test_accents_that_are_separate_characters_can_be_composed(
    page: Any, valyrian_server: PageServer
) -> None:
    decomposed = unicodedata.normalize("NFD", "Sīr vali")
    page.goto(f"{valyrian_server.url}?prompt={decomposed}&max_new_tokens=2")
    status = page.locator("#status")
    expect(status).to_contain_text("The accents of the prompt are separate characters")
    status.get_by_role("button", name="Use composed letters").click()
    expect(page.get_by_label("Prompt")).to_have_value("Sīr vali")
    expect(status).to_contain_text("2 tokens in ")
    expect(status).not_to_contain_text("accents")


def test_a_switch_asks_for_right_sentences_only(page: Any, valyrian_server: PageServer) -> None:
    page.goto(f"{valyrian_server.url}?prompt=Vala issa. Vala&max_new_tokens=20&grammatical=true")
    status, switch = page.locator("#status"), page.get_by_label("Only right sentences")
    expect(status).to_contain_text(re.compile(r"\d+ of \d+ sentences? w\w+ right when first drawn"))
    assert switch.is_checked()
    for is_checked in (False, True):
        switch.set_checked(is_checked)
        with page.expect_request("**/generate") as request:
            page.get_by_role("button", name="Generate").click()
        assert request.value.post_data_json["grammatical"] is is_checked
        expect(status).to_contain_text(" tokens in ")
        assert f"grammatical={str(is_checked).lower()}" in page.url


@pytest.mark.parametrize("name", ["Write", "Check", "Words"])
def test_the_tabs_fit_every_width(page: Any, valyrian_server: PageServer, name: str) -> None:
    page.set_viewport_size({"width": WIDTHS[0], "height": 740})
    open_tab(page, valyrian_server, name)
    verb = max(load_lexicon(), key=lambda lexeme: (lexeme.pos == "verb", len(lexeme.lemma))).lemma
    if name == "Check":
        page.get_by_label("High Valyrian to check").fill("Zaldrīzes" * 50 + " issa. " + verb)
        expect(page.locator("#check-sentences > li").nth(1)).to_be_visible()
    if name == "Words":
        page.get_by_label("High Valyrian in any form").fill(verb)
        page.keyboard.press("Enter")
        expect(page.locator(".entry summary b").first).to_have_text(verb)
    for width, scheme in itertools.product(WIDTHS, ("dark", "light")):
        page.set_viewport_size({"width": width, "height": 740})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
