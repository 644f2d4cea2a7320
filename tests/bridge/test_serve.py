"""The playground: its events, its server over real sockets, and its page in a real browser."""

import http.client
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from bridge import __main__ as main
from bridge import playground, serve
from bridge.generate import Generator, stream
from valyrian_jax import bundle, prompt
from valyrian_jax.bundle import Bundle
from valyrian_jax.config import SampleConfig

from ..calling import call

ROOT = Path(__file__).parent.parent.parent
TYPED = "the dragon, Ȳdra "
SAMPLE = SampleConfig(prompt=TYPED, max_new_tokens=60, temperature=0.2, top_k=0, top_p=0.7, seed=7)


# ---- the events


@pytest.fixture(scope="module")
def endless(small: Bundle) -> Bundle:
    """The small bundle, but its texts never end: the first number of every last state is 1, and speaks against it."""
    tensors = {name: tensor.copy() for name, tensor in small.tensors.items()}
    tensors["transformer.ln_f.weight"][0], tensors["transformer.ln_f.bias"][0] = 0, 1
    tensors["lm_head.weight"][small.tokenizer.end_of_text] = np.array([-1e3] + [0] * 23)
    return replace(small, tensors=tensors)


@pytest.fixture(scope="module")
def generator(endless: Bundle) -> Generator:
    return Generator(endless)


@pytest.mark.parametrize("changes", [{}, {"temperature": 0.0}, {"prompt": "", "top_k": 5, "seed": 2**32 - 1}], ids=str)
def test_events_tell_the_text_of_generate(endless: Bundle, generator: Generator, changes: dict[str, Any]) -> None:
    sample = SampleConfig(**vars(SAMPLE) | changes)
    told = list(playground.events(generator, endless.tokenizer, sample))
    (text,) = prompt.sample_texts(lambda *given: stream(generator, *given), endless.tokenizer, sample)
    assert "".join(event["text"] for event in told) == text
    assert [event["kind"] for event in told].count("end") == 1
    assert [e["id"] for e in told if e["kind"] == "prompt"] == prompt.prompt_tokens(endless.tokenizer, sample.prompt)
    assert json.loads(json.dumps(told)) == told


def test_a_text_ends_before_the_end_of_the_document(endless: Bundle) -> None:
    tensors = {**endless.tensors, "lm_head.weight": -endless.tensors["lm_head.weight"]}
    told = list(playground.events(Generator(replace(endless, tensors=tensors)), endless.tokenizer, SAMPLE))
    assert [event["kind"] for event in told[-2:]] == ["prompt", "end"]
    assert told[-1]["why"] == "document"


def test_a_distribution_is_what_the_token_was_drawn_from(small: Bundle) -> None:
    V = small.model.vocab_size
    shares = np.arange(V, 0, -1, dtype=np.float64)
    shares /= shares.sum()
    logits = torch.tensor(np.log(shares))[None]
    plain = vars(SAMPLE) | {"temperature": 1.0}
    found = playground.distribution(logits, 50, SampleConfig(**plain), small.tokenizer)
    kept = int((np.cumsum(shares) - shares < 0.7).sum())
    assert found["kept"] == kept
    assert [choice[0] for choice in found["choices"]] == [*range(playground.CHOICES), 50]
    assert found["probability"] == pytest.approx(shares[50])
    assert [choice[2] for choice in found["choices"]] == pytest.approx([*shares[: playground.CHOICES], shares[50]])
    narrow = SampleConfig(**plain | {"top_p": (shares[0] + shares[1]) * 0.999})
    found = playground.distribution(logits, 1, narrow, small.tokenizer)
    assert [choice[3] for choice in found["choices"]] == [True, True] + [False] * (playground.CHOICES - 2)
    greedy = playground.distribution(logits, 0, SampleConfig(**plain | {"temperature": 0.0}), small.tokenizer)
    assert (greedy["kept"], greedy["probability"]) == (1, pytest.approx(shares[0]))


def test_sentences_are_judged_when_something_follows_them() -> None:
    pieces = [
        ("prompt", "Valar "),
        ("prompt", "morghūlis."),
        ("token", " Zaldrīzes "),
        ("token", "kara issa"),
        ("token", "!"),
    ]
    told = [{"kind": kind, "text": text} for kind, text in [*pieces, ("token", " Vala"), ("end", "")]]
    found = list(playground.with_verdicts(told))
    assert [event for event in found if event["kind"] != "sentence"] == told
    first, second = (event for event in found if event["kind"] == "sentence")
    assert (first["text"], first["grammatical"], first["reason"], first["end"]) == ("Valar morghūlis.", True, "", 2)
    assert (second["text"], second["grammatical"], second["end"]) == ("Zaldrīzes kara issa!", False, 5)
    assert "it must be solar: `karys`" in second["reason"]
    assert found.index(second) == found.index({"kind": "token", "text": " Vala"}) - 1
    whole = [{"kind": "token", "text": "Vala ēdrus."}, {"kind": "end", "text": ""}]
    assert [event["kind"] for event in playground.with_verdicts(whole)] == ["token", "sentence", "end"]


def test_attention_of_the_last_token_in_its_window(endless: Bundle, generator: Generator) -> None:
    tokens = [i % 200 for i in range(40)]  # of which the window of 24 has dropped 24
    start, weights = playground.attended(generator, tokens)
    assert start == 24
    assert weights.shape == (2, 3, 16)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3))


# ---- the server


class Served(NamedTuple):
    """A server in a process of its own, as a user starts it."""

    url: str
    port: int
    ended: Callable[[], str]  # waits for the next text to end, and gives what the server says of that


@pytest.fixture(scope="module")
def directory(endless: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("endless") / "bundle"
    bundle.save(endless, path)
    return path


@pytest.fixture(scope="module")
def served(directory: Path) -> Iterator[Served]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "serve", directory, "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    try:
        line = process.stdout.readline()
        assert "is at http://127.0.0.1:" in line, process.stderr.read()
        url = line.split()[3]
        yield Served(url, int(url.rstrip("/").rpartition(":")[2]), process.stderr.readline)
    finally:
        process.terminate()
        process.stdout.close()
        process.stderr.close()
        process.wait()


def ask(served: Served, path: str, body: Any, **headers: str) -> tuple[int, str]:
    """Status and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, encoded, {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    answer = response.read().decode()
    connection.close()
    return response.status, answer


def test_the_server_tells_the_events(served: Served, endless: Bundle, generator: Generator) -> None:
    status, answer = ask(served, "/generate", vars(SAMPLE) | {"judged": False})
    assert status == 200
    for line, expected in zip(
        answer.splitlines(), playground.events(generator, endless.tokenizer, SAMPLE), strict=True
    ):
        told = json.loads(line)
        probability = told.pop("probability", 0), expected.pop("probability", 0)
        assert probability[0] == pytest.approx(probability[1], rel=1e-4)  # another process may use more threads
        assert [i for i, *_ in told.pop("choices", [])] == [i for i, *_ in expected.pop("choices", [])]
        assert told == expected
    assert served.ended() == "seed 7: 60 tokens\n"


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/generate", {"top_p": 0}, "sample.top_p = 0: input should be greater than 0"),
        ("/generate", {"seed": -1}, "sample.seed = -1"),
        ("/generate", {"temperature": 1e-9}, "must be 0 or at least 0.001"),
        ("/generate", {"temprature": 1}, "unknown key sample.temprature"),
        ("/generate", {"prompt": "\ud800"}, "invalid JSON"),
        (
            "/generate",
            {"prompt": "a" * 5001},
            "the prompt has 5,001, but here at most 5,000; use `python -m bridge gen",
        ),
        ("/generate", {"max_new_tokens": 1001}, "max_new_tokens is 1,001, but here at most 1,000"),
        ("/generate", b"{", "the request is not JSON"),
        ("/generate", b"[" * 100_000, "the request is not JSON"),
        ("/generate", b"[]", "the request is not a JSON object"),
        ("/generate", b" " * 200_000, "the request has more than 131,072 bytes"),
        ("/attention", {}, "tokens must be a list of 1 to"),
        ("/attention", {"tokens": []}, "tokens must be a list of 1 to"),
        ("/attention", {"tokens": [5, 300]}, "300 is not a token id; expected whole numbers from 0 to 299"),
        ("/attention", {"tokens": [1.5]}, "1.5 is not a token id"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_requests_are_refused_in_one_line(served: Served, path: str, body: Any, words: str) -> None:
    status, answer = ask(served, path, body)
    assert status == 400
    error = json.loads(answer)["error"]
    assert words in error
    assert "\n" not in error


def test_pages_from_elsewhere_cannot_ask(served: Served) -> None:
    assert ask(served, "/generate", vars(SAMPLE), Host="evil.example")[0] == 400


def begun(served: Served, seed: int) -> socket.socket:
    """A long text of which a little was read, by someone who takes little at a time."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.settimeout(60)
    reader.connect(("127.0.0.1", served.port))
    body = json.dumps({"max_new_tokens": 1000, "seed": seed, "judged": False, "top_p": 1}).encode()
    reader.sendall(b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    reader.recv(100)
    return reader


def test_slow_readers_block_nobody_and_those_who_leave_are_forgotten(served: Served) -> None:
    slow = [begun(served, seed) for seed in range(serve.MOST_OPEN - 1)]
    short = {"max_new_tokens": 5, "seed": 99}
    assert ask(served, "/generate", short)[0] == 200  # beside them
    assert served.ended().startswith("seed 99: ")
    slow.append(begun(served, 7))
    status, answer = ask(served, "/generate", short)
    assert (status, json.loads(answer)["error"][:34]) == (503, "8 texts are being written already;")
    for reader in slow:
        reader.close()
    ends = [served.ended() for _ in slow]
    assert all(end.endswith(" tokens, broken off\n") for end in ends), ends
    assert max(int(end.split()[2]) for end in ends) < 1000
    assert ask(served, "/generate", short)[0] == 200
    served.ended()


def test_a_port_that_is_taken_is_one_line(
    served: Served, directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, err = call(main.main, capsys, monkeypatch, "serve", directory, "--port", served.port)
    assert (status, err.count("\n")) == (2, 1)
    assert (
        f"cannot listen on 127.0.0.1, port {served.port}: Address already in use; choose another --host or --port"
        in err
    )
    status, _, err = call(main.main, capsys, monkeypatch, "serve", directory, "--host", "no.such.host.invalid")
    assert (status, err.count("\n")) == (2, 1)


# ---- the page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        pytest.skip("needs Chromium")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    quiet += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
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
    page.get_by_label("Prompt").fill(TYPED)
    page.get_by_label("Temperature").fill("0.2")
    page.get_by_label("Top-p").fill("0.7")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Tokens", exact=True).fill("60")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#status")).to_contain_text("60 tokens in ")
    served.ended()


def test_the_text_on_the_page_is_that_of_generate(
    page: Any, served: Served, directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(page, served)
    options = ["--prompt", TYPED, "--temperature", 0.2, "--top-p", 0.7, "--seed", 7, "--max-new-tokens", 60]
    status, out, _ = call(main.main, capsys, monkeypatch, "generate", directory, *options)
    assert status == 0
    assert page.locator("#text").evaluate("element => element.textContent") + "\n" == out
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#status")).to_have_text("The link is copied: it gives the same text again.")
    link = page.evaluate("navigator.clipboard.readText()")
    page.goto("about:blank")
    page.goto(link)  # writes at once
    expect(page.locator("#status")).to_contain_text("60 tokens in ")
    assert page.locator("#text").evaluate("element => element.textContent") + "\n" == out
    served.ended()


def test_pointing_at_a_token_shows_what_it_was_drawn_from(
    page: Any, served: Served, endless: Bundle, generator: Generator
) -> None:
    write(page, served)
    told = [e for e in playground.events(generator, endless.tokenizer, SAMPLE) if e["kind"] != "end"]
    pieces = page.locator("#text .piece")
    assert pieces.evaluate_all("all => all.map(piece => piece.textContent)") == [event["text"] for event in told]
    narrow = [
        i for i, e in enumerate(told) if e["kind"] == "token" and e["kept"] < playground.CHOICES and e["text"].strip()
    ]
    event = told[narrow[0]]
    pieces.nth(narrow[0]).hover()
    share = f"{100 * event['probability']:.1f}%"
    expect(page.locator("#token")).to_have_text(
        f"“{event['label']}” (token {event['id']}) was drawn with probability {share}."
    )
    rows = page.locator("#choices li")
    expect(rows).to_have_count(len(event["choices"]) + 1)  # and the cut
    assert "cut" in rows.nth(event["kept"]).get_attribute("class")
    expect(page.locator("#kept")).to_have_text(f"{event['kept']} of 300 tokens could have been drawn.")
    widths = page.locator("#choices .bar").evaluate_all("bars => bars.map(bar => parseFloat(bar.style.width))")
    assert widths == pytest.approx([100 * choice[2] / event["choices"][0][2] for choice in event["choices"]], abs=1e-3)


def test_attention_by_keyboard(page: Any, served: Served, endless: Bundle, generator: Generator) -> None:
    write(page, served)
    ids = [e["id"] for e in playground.events(generator, endless.tokenizer, SAMPLE) if e["kind"] != "end"]
    first = page.locator("#text .piece").first
    first.focus()
    for key in ("End", "ArrowLeft", "ArrowRight", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    heads = page.locator("#heads button")
    expect(heads).to_have_count(1 + 2 * 3)
    start, weights = playground.attended(generator, ids[:-1])
    page.get_by_role("button", name="layer 1, head 2").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#looking")).to_contain_text("layer 1, head 2: looks at")
    seen = page.locator("#text .piece").evaluate_all("all => all.map(p => +p.style.getPropertyValue('--weight'))")
    expected = weights[1, 2] / weights[1, 2].max()
    assert seen[start : len(ids) - 1] == pytest.approx(expected.tolist(), abs=1e-5)
    assert not any(seen[:start])
    page.keyboard.press("Escape")
    expect(heads).to_have_count(0)


def test_errors_are_shown_in_the_page(page: Any, served: Served) -> None:
    page.goto(served.url)
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()
    page.get_by_label("Top-p").fill("0")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_contain_text("sample.top_p = 0: input should be greater than 0")
    page.get_by_label("Top-p").fill("1")
    page.route("**/generate", lambda route: route.abort())
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_have_text("The server cannot be reached.")


def test_stop_ends_the_text_on_the_server(page: Any, served: Served) -> None:
    page.goto(served.url)
    page.get_by_label("Tokens", exact=True).fill("1000")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#text .token").first).to_be_attached()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status")).to_have_text("Stopped.")
    assert served.ended().endswith(" tokens, broken off\n")


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_is_wider_than_a_phone(browser: Any, served: Served, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 700})
    page.goto(f"{served.url}?prompt={'Zaldrīzes' * 30}&seed=3&max_new_tokens=40")
    expect(page.locator("#status")).to_contain_text("40 tokens in ")
    page.locator("#text .token").last.click()
    expect(page.locator("#heads button").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
    served.ended()
