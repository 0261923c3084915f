"""The command ``samples``: generated images against training images."""

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from pointland.auditing.directory import write_json
from pointland.cli.tabular import prepared, write_rows
from pointland.report.words import clean, number, percent, probability, upright
from pointland.samples.compare import Comparison, compare_samples
from pointland.samples.descriptors import Descriptor, Perceptual, Pixels, load_dinov2, load_sscd
from pointland.verdict import check_rate

FILES = ("rows.parquet", "rows.csv", "summary.json")
STYLES = {"flagged": "bold red", "none": "bold green", "ranked": "bold", "undecided": "bold yellow"}


def run_samples(
    generated: Path,
    train: Path,
    *,
    reference: Path | None,
    descriptor: str,
    fdr: float,
    local: bool,
    k: int,
    radius: float,
    seed: int,
    out: Path | None,
    top: int,
) -> bool:
    """Compare, print, write; return whether anything was flagged."""
    check_rate(fdr)
    made = descriptor_from(descriptor)
    prepared(out, generated, train, reference, names=FILES)
    console = Console(stderr=True)
    ticks: dict[str, Any] = {}

    def advance(role: str, _done: int, total: int) -> None:
        if role not in ticks:
            ticks[role] = iter(track(range(total), f"Reading {role}", console=console, transient=True))
        next(ticks[role], None)

    found = compare_samples(
        generated,
        train,
        reference=reference,
        descriptor=made,
        fdr=fdr,
        local=local,
        k=k,
        radius=radius,
        seed=seed,
        progress=advance,
    )
    print_comparison(found, top, Console())
    if out is not None:
        write_rows(out, found.rows)
        write_json(out / "summary.json", found.summary)
        console.print(f"Written: {out}", highlight=False, markup=False)
    return bool(found.summary["verdict"]["n_flagged"])


def descriptor_from(text: str) -> Descriptor:
    """Read the option ``--descriptor``."""
    name, _, source = text.partition(":")
    match name:
        case "perceptual" if not source:
            return Perceptual()
        case "pixels":
            if source and not (source.isdecimal() and int(source)):
                raise ValueError(f"--descriptor {text!r}: expected a size in pixels, such as pixels:64")
            return Pixels(int(source)) if source else Pixels()
        case "sscd" if source:
            return load_sscd(source)
        case "dinov2" if source:
            return load_dinov2(source)
        case _:
            raise ValueError(
                f"--descriptor {text!r} is not one of perceptual, pixels[:SIZE], sscd:FILE, dinov2:DIRECTORY"
            )


def print_comparison(found: Comparison, top: int, console: Console) -> None:
    """Print the verdict, what the published metrics say, and the most suspicious samples with their training images."""
    summary = found.summary
    verdict, counts = summary["verdict"], summary["counts"]
    console.print(Text(verdict["headline"], STYLES[verdict["state"]]))
    console.print(
        Text(
            f"Against {counts['train']:,} training images, {counts['train_in_groups_of_copies']:,} of them in "
            f"{counts['train_groups_of_copies']:,} groups of copies, which count once; "
            f"{verdict['n_reference']:,} held-out images; descriptor {summary['descriptor']['name']}.",
            "dim",
        )
    )
    for notice in summary["notices"]:
        console.print(Text(f"Warning: {notice}.", "yellow"))
    failed = counts["train_failed"] + counts["generated_failed"] + counts["reference_failed"]
    flat = counts["train_flat"] + counts["generated_flat"]
    if failed or flat:
        console.print(Text(f"Left out: {failed:,} that cannot be read, {flat:,} flat.", "yellow"))
    _print_metrics(summary, console)
    rows = [row for row in found.rows.to_pylist() if row["role"] == "generated" and row["rank"] is not None]
    rows = sorted(rows, key=lambda row: row["rank"])[:top]
    if rows:
        _print_rows(rows, verdict["n_reference"] > 0, console)


def _print_metrics(summary: dict[str, Any], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("published metric", "generated", "held out"):
        table.add_column(name, justify="left" if name == "published metric" else "right")
    for row in summary["metrics"]:
        shares = ["–" if row[role] is None else percent(row[role]) for role in ("generated", "reference")]
        table.add_row(row["rule"], *shares)
    for row in summary["set"]:
        table.add_row(
            f"{row['name']} (copying: {row['copying_when']})", number(row["generated"]), number(row["reference"])
        )
    console.print(table)


def _print_rows(rows: list[dict[str, Any]], judged: bool, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("", justify="right")
    for name in ("", "generated", "training image"):
        table.add_column(name, overflow="ellipsis", no_wrap=True, max_width=40)
    for name in ("copies", "calibrated", "local", *(("q",) if judged else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        part = row["copied"] == "part"
        nearest = row["local_nearest"] if part else row["nearest"]
        cells = [
            Text(f"{row['rank']:,}"),
            Text({"whole": "copy", "part": "part copied"}.get(row["copied"], ""), "red"),
            Text(upright(clean(row["key"], 60))),
            Text(upright(clean(nearest, 60))),
            Text(f"{row['nearest_copies']:,}" if row["nearest_copies"] > 1 and not part else ""),
            Text(number(row["calibrated"])),
            Text(number(row["local_evidence"])),
        ]
        table.add_row(*cells, *([Text(probability(row["q"]))] if judged else []))
    console.print(table)
