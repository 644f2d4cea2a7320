"""python -m bridge <command>: generate with PyTorch, prove it equal, write files that run without this project."""

import functools
from pathlib import Path
from typing import Any

import click

from valyrian_jax import bundle, command, runs


@click.group(context_settings={"max_content_width": 100})
def main() -> None:
    """The trained model in PyTorch. RUN is a run or a bundle directory [the newest run under runs/]."""


@main.command(epilog='Example: python -m bridge generate --prompt "valar morghulis" --seed 7')
@command.sample_options
def generate(run: Path | None, **options: Any) -> None:
    """Continue a prompt with the best weights of RUN, streaming.

    A text ends at the end of a document or after --max-new-tokens. Settings not given are those of the run.
    """
    from .generate import Generator, stream

    source = runs.load_bundle(run)
    command.print_samples(source, functools.partial(stream, Generator(source)), **options)


@main.command(epilog="Example: python -m bridge export -o valyrian.pt")
@command.RUN
@click.option("-o", "--out", type=command.FILE, default="valyrian.pt", show_default=True, help="File to write.")
@click.option(
    "--quantize", type=click.Choice(["int8"]), help="Round the matrices: a third of the size, not quite the same text."
)
def export(run: Path | None, out: Path, quantize: str | None) -> None:
    """Write the best weights of RUN as one TorchScript file: text in, text out, from Python or C++.

    The file is loaded in a fresh process and checked before it gets its name.
    """
    from . import torchscript

    directory = runs.find_bundle(run)
    certificate = torchscript.export(directory, out, quantize == "int8")
    click.echo(f"{out}: {out.stat().st_size:,} bytes, {describe(certificate)}")


@main.command(epilog="Example: python -m bridge check valyrian.pt")
@click.argument("file", type=command.FILE)
def check(file: Path) -> None:
    """Open a TorchScript FILE that `export` wrote, and see that it gives the texts that it gave where it was made."""
    from . import torchscript

    papers = torchscript.check(file)
    click.echo(f"{file}: {describe(papers['certificate.json'])}")


def describe(certificate: Any) -> str:
    """A certificate in one line."""
    parity, cost, count = certificate["parity"], certificate["int8"], len(certificate["examples"])
    return "; ".join(
        [
            f"{count} of {count} example texts came out the same",
            "proven equal by `python -m bridge verify`"
            if parity
            else "not proven equal: run `python -m bridge verify` before `export`",
            *([f"int8 costs {cost['kl_mean']:.1e} nats a token, top-1 same {cost['top1']:.1%}"] if cost else []),
        ]
    )


if __name__ == "__main__":
    command.run(main)
