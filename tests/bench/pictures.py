"""Draw the pictures of the README from a run, into tests/bench/pictures.

python tests/bench/pictures.py runs/first

Run it in the root of the project. It needs playwright and Chromium.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import click
from playwright.sync_api import expect, sync_playwright

OUT = Path(__file__).parent / "pictures"
SENTENCES = "Sīr vali kari issi. Tubī dārī zaldrīzī ēzi."
QUERY = "?prompt=Sīr+vali&temperature=1&seed=9&max_new_tokens=60"


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
def main(run: Path) -> None:
    """Draw the loss, the attention and the page of a run."""
    OUT.mkdir(exist_ok=True)
    plot = [sys.executable, "-m", "valyrian_jax", "plot", run]
    subprocess.run([*plot, "-o", OUT / "loss"], check=True)
    subprocess.run(
        [*plot, "-o", OUT / "attention", "--attention", "--prompt", SENTENCES], check=True
    )
    for name in ("loss.svg", "attention.svg"):
        (OUT / name).unlink()
    serve = [sys.executable, "-u", "-m", "bridge", "serve", run, "--port", "0"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            photograph_page(server.stdout.readline().split()[3])
        finally:
            server.terminate()


def photograph_page(url: str) -> None:
    """Generate a text on the page, select a token and a head, and save a screenshot."""
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1000, "height": 900}, device_scale_factor=1.5)
        page.goto(url + QUERY)
        expect(page.locator("#status")).to_contain_text(" tokens in ")
        page.locator("#text .text-token:visible").nth(20).click()
        page.get_by_role("button", name="layer 2, head 3").click()
        page.mouse.move(0, 0)
        page.screenshot(path=OUT / "playground.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
