"""What `python -m bridge verify` shows on the terminal."""

from typing import Any

from valyrian_jax.cli.tables import new_table, print_table


def print_report(report: dict[str, Any]) -> None:
    """The findings as a table: of each kind, the one that comes nearest to what is allowed or goes farthest beyond."""
    worst: dict[tuple[str, str], dict[str, Any]] = {}
    for finding in report["findings"]:
        key = finding["runtime"], finding["what"].split(":")[0]
        if key not in worst or _excess(finding) > _excess(worst[key]):
            worst[key] = finding
    shown = new_table("runtime", "compared with JAX", "difference", "allowed", "")
    for finding in worst.values():
        numbers = f"{finding['difference']:.1e}", f"{finding['allowed']:.1e}"
        what = f"worst {finding['what']}" if ": " in finding["what"] else finding["what"]
        shown.add_row(finding["runtime"], what, *numbers, "ok" if finding["passed"] else "TOO FAR")
    print_table(shown)
    for name in sorted(
        {"transformers", "C++"} - {finding["runtime"].split()[0] for finding in report["findings"]}
    ):
        print(f"not compared: {name}, which is not installed or built")
    first = report["first_divergence"]
    print(
        "all runtimes agree"
        if report["passed"]
        else f"the runtimes DISAGREE; the first place: {first}"
    )


def _excess(finding: dict[str, Any]) -> float:
    return (
        finding["difference"] / finding["allowed"] if finding["allowed"] else finding["difference"]
    )
