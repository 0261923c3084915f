"""The verdict and the most suspicious pictures, as a table in the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pointland.report.schema import Row, Summary
from pointland.report.words import clean, level, probability, upright, with_error

NAME, CAPTION = 40, 60
STYLES = {"flagged": "bold red", "none": "bold green", "ranked": "bold", "empty": "bold"}


def print_table(summary: Summary, top: int, console: Console) -> None:
    """Print the verdict, its warnings, and the ``top`` most suspicious pictures (at most 500).

    Text from data is printed as text: neither markup nor terminal escapes in it do anything.
    """
    v = summary["verdict"]
    console.print(Text(v["headline"], STYLES[v["state"]]))
    against = f", against {v['n_reference']:,} reference pictures" if v["n_reference"] else ""
    sigma = summary["sigma"].get("value")
    console.print(Text(f"Judged by {v['title']} at sigma {level(sigma)}{against}.", "dim"))
    if v["kinds"]:
        console.print(Text("Of those flagged: " + ", ".join(f"{n:,} {kind}" for kind, n in v["kinds"].items()) + "."))
    for one in summary["warnings"]:
        style = "yellow" if one["level"] == "warning" else "dim"
        console.print(Text(f"{one['level'].capitalize()}: {_safe(one['text'], 1_000)}", style))
    rows = summary["rows"][:top]
    if not rows:
        return
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("flagged" if v["n_flagged"] else "", no_wrap=True)
    table.add_column("picture", no_wrap=True)
    table.add_column(v["unit"], justify="right", no_wrap=True)
    if v["smallest_p"] is not None:
        table.add_column("q", justify="right", no_wrap=True)
    labelled = any(row["label"] for row in rows)
    if labelled:
        table.add_column("label")
    table.add_column("copies", justify="right")
    table.add_column("caption", overflow="ellipsis", no_wrap=True)
    # rich squeezes whole columns away when it runs out of width, so the caption gives way first
    names = min(NAME, max(len(_safe(row["key"], NAME)) for row in rows))
    room = max(8, min(CAPTION, console.width - names - 54 - 12 * labelled - 11 * (v["n_flagged"] > 0)))
    for row in rows:
        table.add_row(*_cells(row, summary, labelled=labelled, room=room))
    console.print(table)
    if len(rows) < summary["n_rows"]:
        console.print(
            Text(f"{len(rows):,} of {summary['n_rows']:,} pictures; report.html has more, rows/ has all.", "dim")
        )


def _cells(row: Row, summary: Summary, *, labelled: bool, room: int) -> list[Text]:
    v = summary["verdict"]
    stderr = next(column["stderr"] for column in summary["columns"] if column["name"] == v["decide_by"])
    value = row["values"].get(v["decide_by"])
    copies = max(row["n_exact"], row["n_near"])
    cells = [
        Text(f"{row['rank']:,}" if row["rank"] else "–"),
        Text(row["kind"] or "flagged", "red") if row["flagged"] else Text(""),
        Text(_safe(row["key"], NAME)),
        Text(with_error(value, row["values"].get(stderr) if stderr else None)),
    ]
    if v["smallest_p"] is not None:
        cells.append(Text(probability(row["q"])))
    if labelled:
        cells.append(Text(_safe(row["label"] or "", 20)))
    return [*cells, Text(f"{copies:,}" if copies > 1 else ""), Text(_safe(row["caption"] or "", room), "dim")]


def _safe(text: str, limit: int) -> str:
    return " ".join(upright(clean(text, limit)).split())
