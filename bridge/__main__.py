"""Commands of the PyTorch side: python -m bridge COMMAND."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import click

from valyrian_jax.bundle.bundle import save_bundle
from valyrian_jax.bundle.names import count_parameters
from valyrian_jax.bundle.shipped_model import (
    EXAMPLE_OPTIONS,
    SHIPPED_NAME,
    is_shipped,
    name_model,
    short_name,
)
from valyrian_jax.cli.entry_point import completion_help, run_command, version_option
from valyrian_jax.cli.options import PATH, decode_argument, json_option, print_on_terminal
from valyrian_jax.cli.run_options import ACCEPT_OTHER_NAMES, Decorator, run_argument, sample_options
from valyrian_jax.cli.samples import print_samples
from valyrian_jax.errors import UserError, escape, quote_argument, silence
from valyrian_jax.files import (
    check_output_directory,
    is_standard_output,
    is_stream,
    write_atomically,
)
from valyrian_jax.run_directory import find_bundle

# The first parts of `verify` write the TorchScript file and compare float32. Those after them take
# this many times as long as that comparison.
_FIRST_PARTS, _REST_OF_VERIFY = 4, 2.5
# What --quantize can be for each format.
_QUANTIZATIONS: Mapping[str, tuple[str, ...]] = {
    "torchscript": ("int8",),
    "export": (),
    "gguf": ("f16", "q8_0"),
    "web": ("q8_0",),
}


def _program_option(option: str, program: str, needs: str) -> Decorator:
    """Return the option for a C++ program, by default that in the README's build directory."""

    def find_program() -> str | None:
        search_path = f"build/cpp{os.pathsep}{os.environ.get('PATH', '')}"
        return shutil.which(program, path=search_path)

    return click.option(
        option,
        type=click.Path(
            exists=True, dir_okay=False, executable=True, resolve_path=True, path_type=Path
        ),
        default=find_program,
        show_default=f"build/cpp/{program}, or the one on PATH",
        help=f"C++ program to compare, {needs}.",
    )


def _print_progress(part: str) -> None:
    """Print the name of a part of the work before it begins."""
    click.echo(f"  {part}", err=True)


def _print_progress_of_verify() -> Callable[[str], None]:
    """Return a function that prints each part, and an estimate after the first ones."""
    starts: list[float] = []

    def print_part(part: str) -> None:
        starts.append(time.monotonic())
        if len(starts) == _FIRST_PARTS + 1:
            seconds = _REST_OF_VERIFY * (starts[-1] - starts[1])
            left = f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
            click.echo(f"  the rest takes about {left}", err=True)
        _print_progress(part)

    return print_part


@click.group(epilog=completion_help("valyrian-bridge"))
@version_option
def main() -> None:
    """Run, verify and export a trained model with PyTorch.

    RUN is a run directory or a bundle directory. If you name none, commands use the newest run
    under runs/, or the model that ships with valyrian_jax if there is no run. The name of that
    model is `shipped`.
    """


@main.command(
    epilog=f"Example: python -m bridge generate {EXAMPLE_OPTIONS}",
    context_settings=ACCEPT_OTHER_NAMES,
)
@sample_options
def generate(run: Path, **options: Any) -> None:
    """Continue a prompt with the best weights of RUN.

    The text appears as it is generated. It stops at the end of a document or after
    --max-new-tokens. Options that you leave out keep the settings of the run.

    --json with --show-tokens adds the list "tokens" to each object.
    """
    print_on_terminal("loading the model ...")
    from bridge.api import load

    print_samples(load(run), **options)


@main.command(epilog="Example: python -m bridge verify")
@run_argument
@_program_option("--program", "valyrian-generate", "with libtorch")
@_program_option("--runner", "valyrian-run", "for GGUF files")
@json_option
def verify(run: Path, program: Path | None, runner: Path | None, as_json: bool) -> None:
    """Prove that all runtimes agree on the best weights of RUN.

    Compares PyTorch, TorchScript and the C++ programs with JAX, prints the differences and writes
    them to parity.json in the bundle, except in that of the model that ships. The exit status is 1
    if a difference is too large.
    """
    from bridge import parity, parity_report

    directory = find_bundle(run)
    click.echo(escape(f"comparing the runtimes on {name_model(directory)}"), err=True)
    report = parity.verify(directory, program, _print_progress_of_verify(), runner)
    _save_report(report, directory / "parity.json")
    try:
        if as_json:
            click.echo(json.dumps(report))
        else:
            parity_report.print_report(report)
    except BrokenPipeError:  # The status says whether all agree, also if nobody reads the report.
        silence(sys.stdout)
    sys.exit(not report["passed"])


def _save_report(report: Mapping[str, Any], file: Path) -> None:
    """Write a report into its bundle, or say why it is not written."""
    if is_shipped(file.parent):
        reason: str | None = "the model that ships has its own; --json prints this one"
    else:
        try:
            write_atomically(file, json.dumps(report, indent=1) + "\n")
            return
        except (OSError, UserError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
    click.echo(escape(f"not written: {file} ({reason})"), err=True)


@main.command(epilog="Example: python -m bridge export -o valyrian.pt")
@run_argument
@click.option(
    "-o",
    "--out",
    type=PATH,
    show_default="valyrian.pt, .pt2 or .gguf, or site",
    help="File to write, or directory for web; - is standard output.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["torchscript", "export", "gguf", "web"]),
    default="torchscript",
    show_default=True,
    help="torchscript: one file with model, tokenizer and sampler. export: a .pt2 file of "
    "torch.export with the model only. gguf: model and tokenizer for llama.cpp and for programs "
    "without PyTorch. web: a directory for any web server, with a page that runs the model in the "
    "browser.",
)
@click.option(
    "--quantize",
    type=click.Choice(["int8", "f16", "q8_0"]),
    help="Round the matrices to int8 (torchscript), to float16 or blocks of int8 (gguf), or to "
    "blocks of int8 (web). The file is a third of the size (f16: half); texts can differ.",
)
@json_option
def export(
    run: Path, out: Path | None, file_format: str, quantize: str | None, as_json: bool
) -> None:
    """Write the best weights of RUN as one file, or as a page.

    A TorchScript file takes text and returns text, in Python and in C++. A new process loads and
    checks every file before it gets its name. A page is a directory of files that any web server
    can serve; see it with `python -m http.server --directory site`.
    """
    from bridge import exported_program, torchscript
    from bridge.export_metadata import describe_certificate
    from bridge.gguf import export as gguf_export

    directory = find_bundle(run)
    certificate: Mapping[str, Any] = {}
    if quantize and quantize not in _QUANTIZATIONS[file_format]:
        raise click.UsageError(
            f"--quantize {quantize} requires another --format, found --format {file_format}; "
            f"expected {' or '.join(_QUANTIZATIONS[file_format]) or 'no --quantize'}"
        )
    if file_format == "gguf":
        out = out or Path("valyrian.gguf")
        certificate = gguf_export.export(directory, out, quantize, _print_progress)
        summary = gguf_export.describe(certificate)
    elif file_format == "web":
        from bridge.web import static_site  # It needs what `serve` needs.

        out = out or Path("site")
        certificate = static_site.export(directory, out, short_name(run), quantize, _print_progress)
        summary = gguf_export.describe(certificate)
    elif file_format == "torchscript":
        out = out or Path("valyrian.pt")
        certificate = torchscript.export(directory, out, quantize == "int8", _print_progress)
        summary = describe_certificate(certificate)
    else:
        out = out or Path("valyrian.pt2")
        exported_program.export(directory, out, _print_progress)
        summary = "logits reproduced"
    files = out.iterdir() if out.is_dir() else [out]
    size = None if is_stream(out) else sum(file.stat().st_size for file in files)
    record = {"file": str(out), "bundle": str(directory), "bytes": size, **certificate}
    shown_size = "" if size is None else f"{size:,} bytes, "
    text = escape(f"{out}: {shown_size}from {name_model(directory)}; {summary}")
    click.echo(json.dumps(record) if as_json else text, err=is_standard_output(out))


@main.command(epilog="Example: python -m bridge serve")
@run_argument
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0 lets other machines connect.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 chooses a free one.",
)
@click.option(
    "--name",
    type=decode_argument,
    metavar="TEXT",
    show_default=f"the name of the run, or {SHIPPED_NAME}",
    help="Name of the model on the page and in the API.",
)
def serve(run: Path, host: str, port: int, name: str | None) -> None:
    """Serve a page on which RUN generates text, and OpenAI's API for completions.

    The page shows tokens, probabilities, attention and grammar. The base URL of the API is that of
    the page with v1 at its end. Only this machine can open them, unless you pass --host. There is
    no password.
    """
    from bridge.api import load
    from bridge.web import server

    if name is not None and not name.strip():
        raise UserError("--name is empty; expected at least one letter, or leave it out")
    server.run(load(run), name or short_name(run), host, port)


@main.command(epilog="Example: python -m bridge check valyrian.pt")
@click.argument("file", type=PATH)
@json_option
def check(file: Path, as_json: bool) -> None:
    """Check that an exported FILE computes the same as at export.

    --json prints the certificate of a TorchScript or GGUF file, or the largest difference of a
    logit in a .pt2 file.
    """
    from bridge import exported_program, torchscript
    from bridge.export_metadata import describe_certificate
    from bridge.gguf import export as gguf_export
    from bridge.gguf.reader import is_gguf

    if file.suffix == ".gguf" or is_gguf(file):
        result: Mapping[str, Any] = gguf_export.check(file)
        summary = gguf_export.describe(result)
    elif file.suffix == ".pt2":
        result = {"difference": exported_program.check(file)}
        summary = f"logits differ by at most {result['difference']:.1e} from those at export"
    else:
        result = torchscript.check(file)["certificate.json"]
        summary = describe_certificate(result)
    click.echo(
        json.dumps({"file": str(file), **result}) if as_json else escape(f"{file}: {summary}")
    )


@main.command("import", epilog="Example: python -m bridge import gpt2/ -o gpt2-bundle")
@click.argument("checkpoint", type=PATH)
@click.option("-o", "--out", type=PATH, required=True, help="Bundle directory to write.")
@click.option(
    "--tokenizer",
    type=PATH,
    show_default="the tokenizer beside the weights",
    help="A tokenizer.json to use, or a directory with a tokenizer.",
)
@click.option(
    "--activation",
    type=click.Choice(["gelu", "gelu_new"]),
    help="GELU of a nanoGPT checkpoint, which does not tell it.",
    show_default="gelu",
)
def import_(checkpoint: Path, out: Path, tokenizer: Path | None, activation: str | None) -> None:
    """Check a GPT-2 CHECKPOINT and write it as a bundle.

    CHECKPOINT is a Hugging Face GPT-2 directory, a GGUF file, a checkpoint of nanoGPT, or another
    file of weights with a config.json beside it. Weights are safetensors, whole or sharded, or
    .bin, .pt and .pth of PyTorch, of which only tensors and plain values are unpickled.
    """
    from bridge.importers.gpt2 import read_gpt2

    check_output_directory(out)
    out = Path(os.path.realpath(out))
    if out.exists() and any(out.iterdir()):
        raise UserError(
            f"cannot write {out}: expected a new or empty directory, found existing files; "
            "choose another with -o"
        )
    bundle, notes = read_gpt2(checkpoint, tokenizer, activation)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_bundle(bundle, out)
    for note in notes:
        click.echo(escape(f"note: {note}"))
    count = count_parameters(bundle.model)
    command = f"python -m valyrian_jax train --init {quote_argument(str(out))}"
    click.echo(escape(f"{out}: {count:,} parameters; train it further with `{command}`"))


def run() -> NoReturn:
    """Run the program; the console script `valyrian-bridge` calls this."""
    run_command(main)


if __name__ == "__main__":
    run()
