"""Commands that write, check and import files: export, check, import."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from valyrian_jax.bundle.bundle import save_bundle
from valyrian_jax.bundle.names import count_parameters
from valyrian_jax.bundle.shipped_model import name_model, short_name
from valyrian_jax.cli.options import PATH, json_option
from valyrian_jax.cli.run_options import run_argument
from valyrian_jax.errors import UserError, escape, quote_argument
from valyrian_jax.files import check_output_directory, is_standard_output, is_stream
from valyrian_jax.run_directory import find_bundle

# The values of --quantize that each format accepts.
QUANTIZATIONS_BY_FORMAT: Mapping[str, tuple[str, ...]] = {
    "torchscript": ("int8",),
    "export": (),
    "gguf": ("f16", "q8_0"),
    "web": ("q8_0",),
}
_FORMATS_BY_SUFFIX = {".pt": "torchscript", ".pt2": "export", ".gguf": "gguf"}


def print_progress(part: str) -> None:
    """Print the name of a part of the work before it begins."""
    click.echo(f"  {part}", err=True)


@click.command(epilog="Example: python -m bridge export -o valyrian.pt")
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
    show_default="that of the suffix of --out, else torchscript",
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
    run: Path, out: Path | None, file_format: str | None, quantize: str | None, as_json: bool
) -> None:
    """Write the best weights of RUN as one file, or as a page.

    A TorchScript file takes text and returns text, in Python and in C++. A new process loads and
    checks every file before it gets its name. A page is a directory of files that any web server
    can serve; see it with `python -m http.server --directory site`.
    """
    from bridge import torchscript
    from bridge.export_metadata import describe_certificate
    from bridge.gguf import export as gguf_export

    file_format = _choose_format(file_format, out)
    directory = find_bundle(run)
    certificate: Mapping[str, Any] = {}
    if quantize and quantize not in QUANTIZATIONS_BY_FORMAT[file_format]:
        accepted = " or ".join(QUANTIZATIONS_BY_FORMAT[file_format]) or "no --quantize"
        raise click.UsageError(
            f"--quantize {quantize} requires another --format, found --format {file_format}; "
            f"expected {accepted} with it"
        )
    if file_format == "gguf":
        out = out or Path("valyrian.gguf")
        certificate = gguf_export.export(directory, out, quantize, print_progress)
        summary = gguf_export.describe(certificate)
    elif file_format == "web":
        from bridge.web import static_site  # It imports the packages of the server.

        out = out or Path("site")
        certificate = static_site.export(directory, out, short_name(run), quantize, print_progress)
        summary = gguf_export.describe(certificate)
    elif file_format == "torchscript":
        out = out or Path("valyrian.pt")
        certificate = torchscript.export(directory, out, quantize == "int8", print_progress)
        summary = describe_certificate(certificate)
    else:
        from bridge import exported_program  # It imports the tracer, which is slow to load.

        out = out or Path("valyrian.pt2")
        exported_program.export(directory, out, print_progress)
        summary = "logits reproduced"
    files = out.iterdir() if out.is_dir() else [out]
    size = None if is_stream(out) else sum(file.stat().st_size for file in files)
    record = {"file": str(out), "bundle": str(directory), "bytes": size, **certificate}
    shown_size = "" if size is None else f"{size:,} bytes, "
    text = escape(f"{out}: {shown_size}from {name_model(directory)}; {summary}")
    click.echo(json.dumps(record) if as_json else text, err=is_standard_output(out))


def _choose_format(wanted: str | None, out: Path | None) -> str:
    """Return the format of a file: the wanted one, else that of its suffix.

    Raises:
        click.UsageError: The suffix is that of another format.
    """
    by_suffix = _FORMATS_BY_SUFFIX.get(out.suffix) if out and not is_stream(out) else None
    if wanted and by_suffix not in (None, wanted):
        raise click.UsageError(
            f"--out {out} has the suffix of --format {by_suffix}, found --format {wanted}; change "
            "one of them"
        )
    return wanted or by_suffix or "torchscript"


@click.command(epilog="Example: python -m bridge check valyrian.pt")
@click.argument("file", type=PATH)
@json_option
def check(file: Path, as_json: bool) -> None:
    """Check that an exported FILE computes the same results as at export.

    --json prints the certificate of a TorchScript or GGUF file, or the largest difference of a
    logit in a .pt2 file.
    """
    from bridge import torchscript
    from bridge.export_metadata import describe_certificate
    from bridge.gguf import export as gguf_export
    from bridge.gguf.reader import is_gguf

    if file.suffix == ".gguf" or is_gguf(file):
        result: Mapping[str, Any] = gguf_export.check(file)
        summary = gguf_export.describe(result)
    elif file.suffix == ".pt2":
        from bridge import exported_program  # See `export`.

        result = {"difference": exported_program.check(file)}
        summary = f"logits differ by at most {result['difference']:.1e} from those at export"
    else:
        result = torchscript.check(file)["certificate.json"]
        summary = describe_certificate(result)
    click.echo(
        json.dumps({"file": str(file), **result}) if as_json else escape(f"{file}: {summary}")
    )


@click.command("import", epilog="Example: python -m bridge import gpt2/ -o gpt2-bundle")
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
    help="GELU of a nanoGPT checkpoint, which does not record it.",
    show_default="gelu",
)
def import_(checkpoint: Path, out: Path, tokenizer: Path | None, activation: str | None) -> None:
    """Check a GPT-2 CHECKPOINT and write it as a bundle.

    CHECKPOINT is a Hugging Face GPT-2 directory, a GGUF file, a checkpoint of nanoGPT, or another
    file of weights with a config.json beside it. Weights are safetensors, whole or sharded, or
    PyTorch's .bin, .pt and .pth, from which only tensors and plain values are unpickled.
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
