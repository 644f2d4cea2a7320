"""Compare texts in Chromium with those of JAX and PyTorch, and measure tokens per second.

python tests/bench/browser.py [BUNDLE] [--texts 100] [--quantize q8_0]
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from bridge.api import load
from bridge.generator import Generator
from bridge.gguf import export as gguf_export
from bridge.streaming import stream
from bridge.torchscript import EXAMPLE_SETTINGS
from bridge.web import static_site
from tests.bench.same_text import NEW_TOKENS, make_prompts
from tests.support.static_server import serve_directory
from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.bundle.shipped_model import SHIPPED_MODEL
from valyrian_jax.bundle.text_generation import encode_prompt
from valyrian_jax.config import SampleConfig
from valyrian_jax.generation.generate import make_generator

ROUNDS, TIMED_TOKENS = 5, 5000
START = """async () => {
  const { loadRunner } = await import("./runner.js");
  const bytes = (name) => fetch(name).then((response) => response.arrayBuffer());
  const module = await WebAssembly.compile(await bytes("runner.wasm"));
  globalThis.runner = await loadRunner(module, new Uint8Array(await bytes("model.gguf")));
}"""
DRAW = """([settings, count]) => {
  runner.start(settings);
  return Array.from({ length: count }, () => runner.drawToken());
}"""
DESCRIBE = """([settings, count]) => {
  let events = 0;
  for (const event of runner.generate(settings)) events += event.kind === "token";
  return events;
}"""


def list_samples(bundle: Bundle, generator: Generator, texts: int) -> list[SampleConfig]:
    """Return prompts, with each of the settings that every runtime is compared at in turn."""
    return [
        SampleConfig(prompt, NEW_TOKENS, *EXAMPLE_SETTINGS[i % len(EXAMPLE_SETTINGS)])
        for i, prompt in enumerate(make_prompts(bundle, generator)[:texts])
    ]


@contextmanager
def open_page(site: Path) -> Iterator[Any]:
    """Open a page in Chromium and load its model."""
    from playwright.sync_api import sync_playwright

    with serve_directory(site) as address, sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        print(f"Chromium {browser.version}")
        page = browser.new_page()
        page.goto(address)
        page.evaluate(START)
        yield page
        browser.close()


def compare_texts(page: Any, bundle: Bundle, generator: Generator, texts: int) -> None:
    """Print how many texts differ, and where."""
    draw_in_jax = make_generator(bundle)
    counts = {"JAX": 0, "PyTorch": 0}
    for number, sample in enumerate(list_samples(bundle, generator, texts)):
        prompt = encode_prompt(bundle.tokenizer, sample.prompt)
        request = [{**vars(sample), "stop": []}, NEW_TOKENS]
        ids = np.asarray(page.evaluate(DRAW, request))
        expected = {
            "JAX": draw_in_jax([prompt], [sample.seed], sample),
            "PyTorch": stream(generator, [prompt], [sample.seed], sample),
        }
        for name, columns in expected.items():
            differs = ids != np.concatenate([*columns])
            counts[name] += bool(differs.any())
            if differs.any():
                print(f"text {number} {sample}: parts from {name} at token {differs.argmax()}")
    for name, count in counts.items():
        print(f"{count} of {texts} texts of {NEW_TOKENS} tokens differ from {name}")


def measure_speed(page: Any) -> None:
    """Print tokens per second of one text, by the clock and by the processor time of the page."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def read_processor_time() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return float(next(m["value"] for m in metrics if m["name"] == "ProcessTime"))

    sample = SampleConfig("valar", TIMED_TOKENS, 0.8, min_new_tokens=TIMED_TOKENS)
    request = [{**vars(sample), "stop": []}, TIMED_TOKENS]
    for name, code in (("tokens", DRAW), ("tokens with distributions", DESCRIBE)):
        rates = []
        for _ in range(ROUNDS + 1):  # The first compiles.
            start = page.evaluate("performance.now()") / 1000, read_processor_time()
            page.evaluate(code, request)
            end = page.evaluate("performance.now()") / 1000, read_processor_time()
            rates.append([TIMED_TOKENS / (b - a) for a, b in zip(start, end, strict=True)])
        clock, processor = np.sort(rates[1:], axis=0).T
        print(
            f"{name} per second: {clock[-1]:,.0f} by the clock at best (median "
            f"{clock[ROUNDS // 2]:,.0f}), {processor[-1]:,.0f} by processor time at best (median "
            f"{processor[ROUNDS // 2]:,.0f})"
        )


@click.command()
@click.argument("bundle", type=click.Path(exists=True, path_type=Path), default=SHIPPED_MODEL)
@click.option("--texts", default=100, show_default=True, help="Texts to compare, at most 100.")
@click.option("--quantize", type=click.Choice(["q8_0"]))
def main(bundle: Path, texts: int, quantize: str | None) -> None:
    """Export BUNDLE as a page and run it in Chromium; texts are compared in float32 only."""
    with tempfile.TemporaryDirectory() as scratch:
        site = Path(scratch) / "site"
        site.mkdir()
        gguf_export.write(bundle, site / static_site.MODEL_NAME, quantize)
        static_site.add_page(site, load(bundle), "model")
        stored = load_bundle(bundle)
        size = sum(file.stat().st_size for file in site.iterdir())
        runner = (site / "runner.wasm").stat().st_size
        print(f"{size:,} bytes, of which the runner has {runner:,}")
        with open_page(site) as page:
            measure_speed(page)
            if not quantize:  # The runner also rounds the inputs of its products.
                compare_texts(page, stored, Generator(stored), texts)


if __name__ == "__main__":
    main()
