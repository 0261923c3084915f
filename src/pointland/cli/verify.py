"""``pointland verify``: whether a run is whole."""

from pathlib import Path
from typing import Annotated

import typer

SHOWN = 10  # findings of one check


def verify(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    deep: Annotated[bool, typer.Option("--deep", help="Read every picture again and compare its SHA-256.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Check that RUN is whole: every part undamaged, every picture there once, every value a number or a reason.

    Exits 0 if nothing is wrong and 1 otherwise, and says what to do. Changes nothing.
    """
    import json

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pointland.auditing.verifying import verify as verified

    with Console(stderr=True).status(f"Reading {run.name}") as status:
        checks = verified(run, deep=deep, progress=lambda done, of: status.update(f"Reading part {done:,} of {of:,}"))
    passed = all(check.passed for check in checks)
    if as_json:
        told = [{**check._asdict(), "findings": [one._asdict() for one in check.findings]} for check in checks]
        typer.echo(json.dumps({"passed": passed, "checks": told}, indent=2, ensure_ascii=True))
        raise typer.Exit(0 if passed else 1)
    table = Table("", "What should hold", "Looked at")
    for check in checks:
        sign = Text("not checked", "yellow") if check.skipped else Text("ok", "green")
        table.add_row(sign if check.passed else Text("WRONG", "red"), check.name, Text(printable(check.looked_at)))
    console = Console()
    console.print(table)
    for check in checks:
        for finding in check.findings[:SHOWN]:
            console.print(Text(f"{printable(finding.what)}:\n    {finding.todo}"), soft_wrap=True)
        if len(check.findings) > SHOWN:
            console.print(f"... and {len(check.findings) - SHOWN:,} more of this; --json has all of them")
    raise typer.Exit(0 if passed else 1)


def printable(text: str) -> str:
    """Return text of data without the control characters that a terminal would obey."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
