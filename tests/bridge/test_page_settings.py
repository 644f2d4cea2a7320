"""The settings on the page, in its fields and in its links, work in a real browser."""

import re
from pathlib import Path
from typing import Any

import pytest

from bridge import __main__ as main
from tests.support.browsing import expect, open_text, read_text
from tests.support.commands import call
from tests.support.serving import SAMPLE, PageServer

pytestmark = pytest.mark.slow


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
    page.goto(f"{page_server.url}?prompt=the dragon&max_new_tokens=3")
    expect(page.locator("#status")).to_contain_text("3 tokens in ")
    text = read_text(page)
    requests: list[Any] = []
    page.on("request", lambda request: requests.append(request))
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
    assert requests == []


def test_a_decimal_comma_is_a_decimal_point(page: Any, page_server: PageServer) -> None:
    open_text(page, page_server)
    text = read_text(page)
    page.get_by_label("Temperature").fill("0,2")
    page.get_by_label("Top-p").fill(" 0,70 ")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#status")).to_contain_text("The same seed gives the same text")
    assert "temperature=0.2&top_p=0.7&" in page.url
    assert read_text(page) == text


def test_every_setting_has_help(page: Any, page_server: PageServer) -> None:
    page.goto(f"{page_server.url}?max_new_tokens=1")
    page.get_by_text("More settings").click()
    page.mouse.move(0, 0)  # A field under the pointer shows its help too.
    fields = page.locator(".field input, .field textarea")
    expect(fields).to_have_count(9)
    for field in fields.all():
        expect(field).to_have_accessible_description(re.compile(r"\w.*\.$"))
        field.focus()
        expect(page.locator(".help:visible")).to_have_count(1)


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
    page.goto(f"{page_server.url}?max_new_tokens=1")
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()
    for label, value in (
        ("Prompt", SAMPLE.prompt),
        ("Seed", "7"),
        ("Tokens", "60"),
        ("Min-p", "0.1"),
        ("Repetition penalty", "1.2"),
        ("Min tokens", "2"),
        ("Stop at (one per line)", f"never there\n{stop}\n\\n"),
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
