"""python -m bridge <command>: generate with PyTorch, prove it equal, write files that run without this project."""

import functools
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from valyrian_jax.bundle.bundle import load_bundle, save_bundle
from valyrian_jax.cli.options import (
    JSON_OPTION,
    PATH,
    RUN_ARGUMENT,
    decode_argument,
    print_samples,
    run_command,
    sample_options,
)
from valyrian_jax.errors import UserError
from valyrian_jax.files import write_atomically
from valyrian_jax.run_directory import find_bundle, load_run_bundle


@click.group(context_settings={"max_content_width": 100})
def main() -> None:
    """The trained model in PyTorch. RUN is a run or a bundle directory [the newest run under runs/]."""


@main.command(epilog='Example: python -m bridge generate --prompt "valar morghulis" --seed 7')
@sample_options
def generate(run: Path | None, **options: Any) -> None:
    """Continue a prompt with the best weights of RUN, streaming.

    A text ends at the end of a document or after --max-new-tokens. Settings not given are those of the run.
    With --json, --show-tokens adds the list "tokens" to each object.
    """
    from bridge.generator import Generator, stream

    source = load_run_bundle(run)
    print_samples(source, functools.partial(stream, Generator(source)), **options)


@main.command(epilog="Example: python -m bridge verify")
@RUN_ARGUMENT
@click.option(
    "--program",
    type=click.Path(exists=True, dir_okay=False, executable=True, path_type=Path),
    help="The C++ program [build/cpp/valyrian-generate, or as found on PATH].",
)
@JSON_OPTION
def verify(run: Path | None, program: Path | None, as_json: bool) -> None:
    """Prove that JAX, PyTorch, TorchScript and C++ compute the same with the best weights of RUN.

    Prints how far they are apart, writes parity.json into the bundle, and ends with status 1 if that is too far.
    """
    from bridge import parity, parity_report

    directory = find_bundle(run)
    click.echo(f"comparing the runtimes on {directory}, which takes a minute or so", err=True)
    found = parity.verify(directory, program.resolve() if program else find_program())
    if as_json:
        click.echo(json.dumps(found))
    else:
        parity_report.print_report(found)
    write_atomically(directory / "parity.json", json.dumps(found, indent=1) + "\n")
    sys.exit(not found["passed"])


@main.command(epilog="Example: python -m bridge export -o valyrian.pt")
@RUN_ARGUMENT
@click.option(
    "-o",
    "--out",
    type=PATH,
    help="File to write [valyrian.pt, or valyrian.pt2 with --format export].",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["torchscript", "export"]),
    default="torchscript",
    show_default=True,
    help="export: a .pt2 file of torch.export with the steps of generation, without tokenizer and sampler.",
)
@click.option(
    "--quantize",
    type=click.Choice(["int8"]),
    help="Round the matrices: a third of the size, not quite the same text.",
)
@JSON_OPTION
def export(
    run: Path | None, out: Path | None, kind: str, quantize: str | None, as_json: bool
) -> None:
    """Write the best weights of RUN as one TorchScript file: text in, text out, from Python or C++.

    The file is loaded in a fresh process and checked before it gets its name.
    """
    from bridge import exported_program, torchscript

    directory = find_bundle(run)
    certificate: Mapping[str, Any]
    if kind == "export":
        if quantize:
            raise click.UsageError("--quantize goes with --format torchscript only")
        out = out or Path("valyrian.pt2")
        exported_program.export(directory, out)
        certificate, said = {}, "computes the same when loaded again"
    else:
        out = out or Path("valyrian.pt")
        certificate = torchscript.export(directory, out, quantize == "int8")
        said = describe(certificate)
    size = out.stat().st_size
    record = {"file": str(out), "bundle": str(directory), "bytes": size, **certificate}
    click.echo(json.dumps(record) if as_json else f"{out} from {directory}: {size:,} bytes, {said}")


@main.command(epilog="Example: python -m bridge serve runs/first")
@RUN_ARGUMENT
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; others can reach 0.0.0.0.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0: a free one.",
)
def serve(run: Path | None, host: str, port: int) -> None:
    """Open a page on this machine to play with RUN: tokens, probabilities, attention, grammar.

    It listens to this machine only, unless --host says otherwise; there is no password.
    """
    from bridge.web import server as page

    directory = find_bundle(run)
    page.run(load_bundle(directory), decode_argument(str(run or directory.parent)), host, port)


@main.command(epilog="Example: python -m bridge check valyrian.pt")
@click.argument("file", type=PATH)
@JSON_OPTION
def check(file: Path, as_json: bool) -> None:
    """Open a FILE that `export` wrote, and see that it gives what it gave where it was made.

    With --json, print its certificate or, of a .pt2 file, how far its logits are from those where it was made.
    """
    from bridge import exported_program, torchscript

    found: Mapping[str, Any]
    if file.suffix == ".pt2":
        found = {"difference": exported_program.check(file)}
        said = f"logits are within {found['difference']:.1e} of those where it was made"
    else:
        found = torchscript.check(file)["certificate.json"]
        said = describe(found)
    click.echo(json.dumps({"file": str(file), **found}) if as_json else f"{file}: {said}")


@main.command("import", epilog="Example: python -m bridge import gpt2/ -o gpt2-bundle")
@click.argument("directory", type=PATH)
@click.option("-o", "--out", type=PATH, required=True, help="Bundle directory to write.")
@click.option("--tokenizer", type=PATH, help="A tokenizer.json [the directory's own].")
def import_(directory: Path, out: Path, tokenizer: Path | None) -> None:
    """Check a GPT-2 DIRECTORY from anywhere, in Hugging Face layout, and write it as a bundle."""
    from bridge.importers.hf_gpt2 import read_gpt2

    found, out = read_gpt2(directory, tokenizer), out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already; choose another place with -o")
    save_bundle(found, out)
    click.echo(
        f"{out}: {sum(t.size for t in found.tensors.values()):,} parameters; train on with train.py --init {out}"
    )


def find_program() -> Path | None:
    """The C++ program where the README builds it, or on PATH."""
    found = shutil.which(
        "valyrian-generate", path=f"build/cpp{os.pathsep}{os.environ.get('PATH', '')}"
    )
    return Path(found).resolve() if found else None


def describe(certificate: Any) -> str:
    """A certificate in one line."""
    parity, cost, count = certificate["parity"], certificate["int8"], len(certificate["examples"])
    exact = "its exact weights are " if cost else ""
    return "; ".join(
        [
            f"{count} of {count} example texts came out the same",
            f"{exact}proven equal by `python -m bridge verify`"
            if parity and parity.get("passed")
            else f"{exact}not proven equal: run `python -m bridge verify` before `export`",
            *(
                [f"int8 costs {cost['kl_mean']:.1e} nats a token, top-1 same {cost['top1']:.1%}"]
                if cost
                else []
            ),
        ]
    )


if __name__ == "__main__":
    run_command(main)
