"""The parity report of a bundle: its contents, its file `parity.json`, and its table."""

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from valyrian_jax.cli.tables import new_table, print_table
from valyrian_jax.files import read_json_object, sha256_of_file

FORMAT_VERSION = 1
MODEL_FILES = ("model.safetensors", "config.json", "tokenizer.json")
FINDING_KEYS = ("runtime", "what", "difference", "allowed", "passed")


class Comparison(NamedTuple):
    """The difference between a runtime and JAX in one quantity."""

    runtime: str
    quantity: str
    difference: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the difference is allowed; NaN never is."""
        return self.difference <= self.allowed


def make_report(
    sha256: dict[str, str], comparisons: Sequence[Comparison], left_out: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the contents of `parity.json`: comparisons in the order of the forward pass.

    `sha256` is from `hash_bundle`; `left_out` says what was not compared, one line each.
    """
    failed = [comparison for comparison in comparisons if not comparison.passed]
    return {
        "format_version": FORMAT_VERSION,
        "sha256": sha256,
        "versions": {name: _version(name) for name in ("jax", "flax", "torch", "transformers")},
        "machine": platform.machine(),
        "passed": not failed,
        "first_divergence": f"{failed[0].runtime}: {failed[0].quantity}" if failed else None,
        "findings": [
            dict(zip(FINDING_KEYS, (*comparison, comparison.passed), strict=True))
            for comparison in comparisons
        ],
        "left_out": [*left_out],
    }


def read_report(directory: Path) -> dict[str, Any] | None:
    """Return the report in a bundle directory; None if it is missing or the files have changed."""
    path = directory / "parity.json"
    if not path.exists():
        return None
    report = read_json_object(path)
    return report if report.get("sha256") == hash_bundle(directory) else None


def hash_bundle(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of the files of a bundle that define the model, by file name."""
    return {name: sha256_of_file(directory / name) for name in MODEL_FILES}


def print_report(report: dict[str, Any]) -> None:
    """Print the report as a table, with the worst comparison of every kind."""
    worst: dict[tuple[str, str], dict[str, Any]] = {}
    for finding in report["findings"]:
        kind = finding["runtime"], finding["what"].split(":")[0]
        if kind not in worst or _excess(finding) > _excess(worst[kind]):
            worst[kind] = finding
    table = new_table("runtime", "compared with JAX", "difference", "allowed", "")
    for finding in worst.values():
        numbers = f"{finding['difference']:.1e}", f"{finding['allowed']:.1e}"
        quantity = f"worst {finding['what']}" if ": " in finding["what"] else finding["what"]
        quantity = quantity.replace("transformer.", "")  # A row must fit into 80 columns.
        verdict = "ok" if finding["passed"] else "TOO FAR"
        table.add_row(finding["runtime"], quantity, *numbers, verdict)
    print_table(table)
    compared = {finding["runtime"].partition(" float")[0] for finding in report["findings"]}
    for name in sorted({"transformers", "C++", "C++ from GGUF"} - compared):
        print(f"not compared: {name}, which is not installed or built")
    for line in report["left_out"]:
        print(f"left out: {line}")
    if report["passed"]:
        print("all runtimes agree")
    else:
        print(f"the runtimes DISAGREE; first divergence: {report['first_divergence']}")


def _excess(finding: dict[str, Any]) -> float:
    allowed = finding["allowed"]
    return finding["difference"] / allowed if allowed else finding["difference"]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
