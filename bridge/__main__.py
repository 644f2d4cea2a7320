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

from bridge.file_commands import check, export, import_, print_progress
from valyrian_jax.bundle.shipped_model import (
    EXAMPLE_OPTIONS,
    SHIPPED_NAME,
    is_shipped,
    name_model,
    short_name,
)
from valyrian_jax.cli.entry_point import completion_help, run_command, version_option
from valyrian_jax.cli.options import decode_argument, json_option, print_on_terminal
from valyrian_jax.cli.run_options import ACCEPT_OTHER_NAMES, Decorator, run_argument, sample_options
from valyrian_jax.cli.samples import print_samples
from valyrian_jax.errors import UserError, escape, silence
from valyrian_jax.files import write_atomically
from valyrian_jax.run_directory import find_bundle

# The first parts of `verify` write the TorchScript file and compare float32. The later parts take
# this many times as long as the comparison in float32.
_FIRST_PARTS, _REST_OF_VERIFY = 4, 2.5


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


def _make_verify_progress() -> Callable[[str], None]:
    """Return a function that prints each part and, once it can estimate it, the time left."""
    starts: list[float] = []

    def print_part(part: str) -> None:
        starts.append(time.monotonic())
        if len(starts) == _FIRST_PARTS + 1:
            seconds = _REST_OF_VERIFY * (starts[-1] - starts[1])
            left = f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
            click.echo(f"  the rest takes about {left}", err=True)
        print_progress(part)

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
    report = parity.verify(directory, program, _make_verify_progress(), runner)
    _save_report(report, directory / "parity.json")
    try:
        if as_json:
            click.echo(json.dumps(report))
        else:
            parity_report.print_report(report)
    except BrokenPipeError:  # The exit status still says whether all runtimes agree.
        silence(sys.stdout)
    sys.exit(not report["passed"])


def _save_report(report: Mapping[str, Any], file: Path) -> None:
    """Write a report into its bundle, or print why it is not written."""
    if is_shipped(file.parent):
        reason: str | None = "the model that ships has its own; --json prints this one"
    else:
        try:
            write_atomically(file, json.dumps(report, indent=1) + "\n")
            return
        except (OSError, UserError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
    click.echo(escape(f"not written: {file} ({reason})"), err=True)


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

    The page shows tokens, probabilities, attention and grammar, and what each head does if RUN has
    heads.jsonl, the output of `python -m valyrian_jax inspect RUN --json`. The base URL of the API
    is that of the page with v1 at its end. Only this machine can open them, unless you pass --host.
    There is no password.
    """
    from bridge.api import load
    from bridge.web import server
    from bridge.web.heat_map import read_heat_map

    if name is not None and not name.strip():
        raise UserError("--name is empty; expected at least one letter, or leave it out")
    model = load(run)
    heat_map = read_heat_map(filter(None, (run, model.directory)), model.bundle)
    server.run(model, name or short_name(run), host, port, heat_map)


for _command in (export, check, import_):
    main.add_command(_command)


def run() -> NoReturn:
    """Run the program; the console script `valyrian-bridge` calls this."""
    run_command(main)


if __name__ == "__main__":
    run()
