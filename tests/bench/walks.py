"""Draw the pictures of the walks and make their notebooks, from the READMEs.

python tests/bench/walks.py

A notebook has the numbered stops of a README, and the outputs of a real kernel. A picture below a
block is its output: the block leaves it in `figure`. Answers stay folded text.
"""

import base64
import os
import sys
from pathlib import Path

import click

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import nbformat  # noqa: E402
from nbclient import NotebookClient  # noqa: E402

from tests.support.walks import WALKS, find_blocks, make_notebook  # noqa: E402


@click.command()
def main() -> None:
    """Make every notebook, with the outputs and pictures of its cells."""
    for readme, file in WALKS.items():
        text = (ROOT / readme).read_text(encoding="utf-8")
        notebook = make_notebook(text)
        resources = {"metadata": {"path": str((ROOT / file).parent)}}
        NotebookClient(notebook, timeout=300, resources=resources).execute()
        pictures = [b.picture for b in find_blocks(text) if b.picture]
        images = [
            output.data["image/png"]
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            if "image/png" in output.get("data", {})
        ]
        for picture, image in zip(pictures, images, strict=True):
            (ROOT / readme).parent.joinpath(picture).write_bytes(base64.b64decode(image))
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # times, which differ in every run
        notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
        nbformat.write(notebook, ROOT / file)
        click.echo(file)


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    main()
