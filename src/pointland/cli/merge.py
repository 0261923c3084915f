"""``pointland merge``: the runs of shares become one."""

from pathlib import Path
from typing import Annotated

import typer

NOTHING_FLAGGED, INCOMPLETE, FLAGGED = 0, 1, 10


def merge(
    runs: Annotated[list[Path], typer.Argument(help="Run directories of `pointland audit --shard`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run directory of the whole; continued if it is there.")],
    top: Annotated[int, typer.Option(min=0, help="Rows of the table printed at the end.")] = 20,
) -> None:
    """Join RUNS that shared one audit, write the report, print the verdict.

    Exits 10 if something is flagged, 0 if not, and 1 if parts are missing; then it says which --shard to run.
    """
    from rich.console import Console

    from pointland.auditing.merging import merge as merged
    from pointland.report import print_table, read_summary, write_report

    console = Console(stderr=True)
    with console.status("Merging") as status:
        found = merged(runs, out, progress=lambda done, of: status.update(f"Merging part {done:,} of {of:,}"))
    if found.missing:
        shown = ", ".join(map(str, found.missing[:10])) + (", ..." if len(found.missing) > 10 else "")
        console.print(f"{len(found.missing):,} of {found.of:,} parts are missing: {shown}.", highlight=False)
        for share in found.shares:
            console.print(f"Run --shard {share.number}/{share.of} to its end, and merge again.", highlight=False)
        console.print(
            f"Or repeat the audit's command without --shard and with -o {out}: it makes what is missing there.",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
        raise typer.Exit(INCOMPLETE)
    with console.status("Writing the report"):
        page = write_report(out)
    summary = read_summary(out)
    print_table(summary, top, Console())
    console.print(f"Report: {page}", soft_wrap=True, markup=False)
    raise typer.Exit(FLAGGED if summary["verdict"]["n_flagged"] else NOTHING_FLAGGED)
