"""The pictures of the README, from a run: `python tests/bench/pictures.py runs/first`, in the root of the project.

Needs playwright and Chromium. They go to tests/bench/pictures.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import click
from playwright.sync_api import expect, sync_playwright

OUT = Path(__file__).parent / "pictures"
SENTENCES = "Sīr vali kari issi. Tubī dārī zaldrīzī ēzi."
ASKED = "?prompt=Sīr+vali&temperature=1&seed=6&max_new_tokens=60"


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
def main(run: Path) -> None:
    OUT.mkdir(exist_ok=True)
    plot = [sys.executable, "-m", "valyrian_jax", "plot", run]
    subprocess.run([*plot, "-o", OUT / "loss"], check=True)
    subprocess.run(
        [*plot, "-o", OUT / "attention", "--attention", "--prompt", SENTENCES], check=True
    )
    for unused in ("loss.svg", "attention.svg"):
        (OUT / unused).unlink()
    serve = [sys.executable, "-u", "-m", "bridge", "serve", run, "--port", "0"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            photograph(server.stdout.readline().split()[3])
        finally:
            server.terminate()


def photograph(url: str) -> None:
    """The page with a text, a token chosen in it."""
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1000, "height": 900}, device_scale_factor=1.5)
        page.goto(url + ASKED)
        expect(page.locator("#status")).to_contain_text(" tokens in ")
        page.locator("#text .token", has_text="urnes").first.click()
        page.get_by_role("button", name="layer 2, head 3").click()
        page.mouse.move(0, 0)
        page.screenshot(path=OUT / "playground.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
