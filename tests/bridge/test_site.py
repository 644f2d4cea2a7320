"""The page of `export --format web` works in a real browser, from files alone."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.api import Model
from bridge.generator import Generator
from bridge.gguf import export as gguf_export
from bridge.gguf.export import QUANTIZED_TYPES
from bridge.gguf.writer import round_weights
from bridge.torchscript import EXAMPLE_SETTINGS
from bridge.web import static_site
from bridge.web.session import stream_events
from tests.support.browsing import LINK, expect, read_text, watch_errors
from tests.support.serving import SAMPLE
from tests.support.static_server import serve_directory
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.config import SampleConfig
from valyrian_jax.tokenizer.display import token_label

pytestmark = pytest.mark.slow

COLLECT = """async (settings) => {
  const { streamEvents } = await import("./generation.js");
  const events = [];
  const { signal } = new AbortController();
  for await (const event of streamEvents(settings, signal)) events.push(event);
  return events;
}"""
UPDATED = """async () => {
  const registration = await navigator.serviceWorker.ready;
  await registration.update();
  const worker = registration.installing;
  if (worker) await new Promise((resolve) => { worker.onstatechange = resolve; });
}"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with serve_directory(site) as address:
        yield address


@pytest.fixture
def opened(page: Any, address: str) -> Any:
    """The page, after its first text."""
    page.goto(f"{address}#{LINK}")
    expect(page.locator("#status")).to_contain_text("60 tokens in ")
    return page


def expected_text(generator: Generator, bundle: Bundle, sample: SampleConfig = SAMPLE) -> str:
    return "".join(event["text"] for event in stream_events(generator, bundle.tokenizer, sample))


def test_every_token_and_distribution_is_that_of_the_server(
    opened: Any, endless: Bundle, generator: Generator
) -> None:
    plain = [SampleConfig("the dragon, Ȳdra ", 60, *each) for each in EXAMPLE_SETTINGS]
    text = expected_text(generator, endless)
    stop = text[40:44]
    special = [
        SampleConfig("", 40, 1.0, seed=5),
        SampleConfig("€\0\ufeff\n 1'll ߷", 30, 1.2, seed=6, stop=("no", "e")),
        SampleConfig(SAMPLE.prompt, 60, 0.2, top_p=0.7, seed=7, stop=(stop, stop[1:])),
        SampleConfig(SAMPLE.prompt * 9, 50, 0.9, min_p=0.02, repetition_penalty=1.2, seed=8),
    ]
    for sample in [*plain, *special]:
        events = opened.evaluate(COLLECT, {**vars(sample), "stop": [*sample.stop]})
        expected = [*stream_events(generator, endless.tokenizer, sample)]
        names = ("kind", "id", "label", "text", "kept", "why")
        for event, right in zip(events, expected, strict=True):
            assert [event.get(name) for name in names] == [right.get(name) for name in names]
            if right["kind"] != "token":
                continue
            for name in ("probability", "chance"):
                assert event[name] == pytest.approx(right[name], rel=1e-3, abs=1e-6)
            for choice, right_choice in zip(event["choices"], right["choices"], strict=True):
                assert choice[2] == pytest.approx(right_choice[2], rel=1e-3, abs=1e-6)
            drawn = next(choice for choice in event["choices"] if choice[0] == right["id"])
            assert drawn[1] == right["label"]
            assert drawn[3]


def test_blocks_of_int8_give_nearly_the_same_probabilities(
    page: Any, make: Callable[..., Bundle], tmp_path: Path
) -> None:
    bundle = make(n_embd=32, n_head=2)
    save_bundle(bundle, tmp_path / "bundle")
    site = tmp_path / "page"
    site.mkdir()
    gguf_export.write(tmp_path / "bundle", site / static_site.MODEL_NAME, "q8_0")
    static_site.add_page(site, Model(bundle), "small")
    sample = SampleConfig("the dragon sees", 1, 0.0)
    with serve_directory(site) as address:
        page.goto(address)
        expect(page.locator("#status")).to_contain_text("in ")
        events = page.evaluate(COLLECT, {**vars(sample), "stop": []})
    generator = Generator(round_weights(bundle, QUANTIZED_TYPES["q8_0"]))
    expected = [*stream_events(generator, bundle.tokenizer, sample)][-2]
    found = {choice[0]: choice[2] for choice in events[-2]["choices"]}
    for token, _, probability, _ in expected["choices"][:3]:
        assert found[token] == pytest.approx(probability, abs=0.02)


def test_labels_are_those_of_the_tokenizer(opened: Any, endless: Bundle) -> None:
    labels = opened.evaluate(
        """async (count) => {
          const { loadRunner } = await import("./runner.js");
          const bytes = (name) => fetch(name).then((response) => response.arrayBuffer());
          const module = await WebAssembly.compile(await bytes("runner.wasm"));
          const runner = await loadRunner(module, new Uint8Array(await bytes("model.gguf")));
          return Array.from({ length: count }, (_, id) => runner.label(id));
        }""",
        endless.model.vocab_size,
    )
    assert labels == [token_label(endless.tokenizer, i) for i in range(endless.model.vocab_size)]


def test_the_page_shows_a_text_when_it_opens_and_requests_nothing_elsewhere(
    browser: Any, address: str
) -> None:
    page, urls = browser.new_page(), list[str]()
    errors = watch_errors(page)
    page.context.on("request", lambda request: urls.append(request.url))
    page.goto(address)
    expect(page.locator("#status")).to_contain_text("tokens in ")
    assert len(read_text(page)) > 20
    assert urls
    assert [url for url in urls if not url.startswith((address, "data:"))] == []
    assert errors == []
    page.close()


def test_a_link_reproduces_the_text(opened: Any, endless: Bundle, generator: Generator) -> None:
    page, text = opened, expected_text(generator, endless)
    assert read_text(page) == text
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#status")).to_contain_text("Link copied.")
    link = page.evaluate("navigator.clipboard.readText()")
    page.get_by_role("button", name="Another", exact=True).click()
    expect(page.locator("#text")).not_to_have_text(text)
    page.goto(link)  # in the same tab, where only the fragment changes
    expect(page.locator("#text")).to_have_text(text)
    page.go_back()
    page.goto("about:blank")
    page.goto(link)
    expect(page.locator("#text")).to_have_text(text)
    assert page.get_by_label("Seed").input_value() == "7"


def test_the_keyboard_reaches_a_token_and_its_alternatives(
    opened: Any, endless: Bundle, generator: Generator
) -> None:
    *events, _ = stream_events(generator, endless.tokenizer, SAMPLE)
    opened.locator("#text .text-token").first.focus()
    for key in ("End", "ArrowLeft", "Enter"):
        opened.keyboard.press(key)
    event = events[-2]
    expect(opened.locator("#token")).to_contain_text(f"“{event['label']}” (token {event['id']})")
    expect(opened.locator("#distribution")).to_contain_text(f"{event['kept']} of 300 tokens can")
    expect(opened.locator("#choices .drawn")).to_have_count(1)


def test_the_stop_button_ends_a_text(opened: Any) -> None:
    opened.get_by_label("Tokens", exact=True).fill("1000")
    opened.get_by_label("Prompt").fill("the dragon " * 400)
    opened.evaluate(
        """() => {
          document.getElementById("generate").click();
          document.getElementById("interrupt").click();
        }"""
    )
    expect(opened.locator("#status")).to_have_text("Stopped.")
    opened.get_by_label("Tokens", exact=True).fill("3")
    opened.get_by_role("button", name="Generate").click()
    expect(opened.locator("#status")).to_contain_text("3 tokens in ")


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("seed=-1", "The link has seed = “-1”, expected a whole number from 0 to 4294967295."),
        ("top_k=1e999", "The link has top_k = “1e999”, expected a whole number of at least 0."),
        ("check=true", "The link has an unknown setting, check = “true”."),
        ("prompt=" + "a" * 5001, "The prompt is too long: expected at most 5000 characters, found"),
        ("stop=a&stop=b&stop=c&stop=d&stop=e", "too many stop strings: expected at most 4 strings"),
        ("stop=" + "a" * 201, "A stop string is too long: expected at most 200 characters"),
        ("top_k=3e9", "top_k is out of range: expected a whole number from 0 to 2147483647"),
        ("%ff%fe=%00<img src=x>", "The link has an unknown setting, "),
    ],
)
def test_a_hostile_link_is_refused_in_one_line(
    page: Any, address: str, link: str, problem: str
) -> None:
    page.goto(f"{address}#{link}")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(problem)
    assert "\n" not in alert.inner_text()
    page.get_by_label("Prompt").fill("a")
    for label, value in (("Tokens", "3"), ("Stop at (one per line)", ""), ("Top-k", "0")):
        page.get_by_label(label, exact=True).evaluate("(e, value) => { e.value = value; }", value)
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#status")).to_contain_text("3 tokens in ")
    expect(alert).to_be_hidden()


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        (
            "model.gguf",
            lambda data: data[:5000],
            "Cannot load model.gguf: it is damaged: it ends early; export",
        ),
        ("model.gguf", lambda data: b"", "it is not a GGUF file"),
        ("model.gguf", lambda data: data[:-9000], "the data of a tensor ends beyond the file"),
        ("model.gguf", lambda data: None, "Cannot load model.gguf from the server"),
        ("runner.wasm", lambda data: data[:99], "This browser cannot run the model"),
        ("model.json", lambda data: data[:99], "model.json is damaged; copy the whole directory"),
        ("worker.js", lambda data: None, "Cannot start worker.js; copy the whole directory"),
    ],
)
def test_a_damaged_file_is_explained_in_one_line(
    page: Any, address: str, site: Path, name: str, change: Any, problem: str
) -> None:
    content = change((site / name).read_bytes())
    answer = {"status": 404} if content is None else {"body": content}
    if name.endswith((".js", ".wasm")):
        answer["content_type"] = "text/javascript"
    page.context.route(f"**/{name}", lambda route: route.fulfill(**answer))
    page.goto(address)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(problem)
    assert "\n" not in alert.inner_text()
    expect(page.locator("#status")).to_have_text("")


def test_the_page_works_offline_after_the_first_visit(
    browser: Any, site: Path, endless: Bundle, generator: Generator
) -> None:
    context = browser.new_context()
    page = context.new_page()
    with serve_directory(site) as address:
        page.goto(address)
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.goto("about:blank")
    page.goto(f"{address}#{LINK}")  # There is no server any more.
    expect(page.locator("#status")).to_contain_text("60 tokens in ")
    assert read_text(page) == expected_text(generator, endless)
    context.close()


def test_another_export_is_seen_when_the_page_is_opened_again(
    browser: Any, site: Path, endless: Bundle, tmp_path: Path
) -> None:
    changed = shutil.copytree(site, tmp_path / "page")
    context = browser.new_context()
    page = context.new_page()
    with serve_directory(changed) as address:
        for name in ("endless", "another"):
            static_site.add_page(changed, Model(endless), name)
            for _ in range(2):  # The first visit loads the new version.
                page.goto(f"{address}#max_new_tokens=1")
                expect(page.locator("#status")).to_contain_text("1 token in ")
                page.evaluate(UPDATED)
                title = page.title()
                page.goto("about:blank")
            assert title == f"{name} · valyrian-gpt"
    context.close()


def test_a_rebuilt_runner_computes_the_same(page: Any, site: Path, tmp_path: Path) -> None:
    pytest.importorskip("ziglang")
    changed = shutil.copytree(site, tmp_path / "page")
    command = [sys.executable, ROOT / "bridge/cpp/native/build_wasm.py", changed / "runner.wasm"]
    subprocess.run(command, check=True)
    events = []
    for directory in (site, changed):
        with serve_directory(directory) as address:
            page.goto(address)
            expect(page.locator("#status")).to_contain_text("tokens in ")
            events.append(page.evaluate(COLLECT, {**vars(SAMPLE), "stop": []}))
    assert events[0] == events[1]
    assert len(events[0]) > 60


def test_a_page_opened_as_a_file_says_what_to_do(page: Any, site: Path) -> None:
    page.goto((site / "index.html").as_uri())
    expect(page.get_by_role("alert")).to_contain_text("start one in its directory with")


@pytest.mark.parametrize("width", [320, 360])
def test_the_page_fits_a_phone(page: Any, address: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    page.goto(f"{address}#prompt={'Zaldrīzes' * 30}&max_new_tokens=40")
    expect(page.locator("#status")).to_contain_text("40 tokens in ")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_settings_have_names_and_help(opened: Any) -> None:
    opened.get_by_text("More settings").click()
    fields = opened.locator(".field input, .field textarea")
    expect(fields).to_have_count(9)
    for field in fields.all():
        expect(field).to_have_accessible_name(re.compile(r"\w"))
        expect(field).to_have_accessible_description(re.compile(r"\w.*\.$"))
