"""A comparison in the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pointland.report.compare import cells
from pointland.report.compare.cells import Block
from pointland.report.compare.schema import Comparison
from pointland.report.words import clean, upright

NAME, CELL = 40, 80


def print_comparison(comparison: Comparison, top: int, console: Console) -> None:
    """Print a comparison, at most ``top`` pictures a table. Text from data can neither mark up nor control."""
    flags = comparison["flags"]
    alarming = flags["n_newly"] + flags["n_only_b"]
    console.print(Text(_safe(comparison["headline"], 400), "bold red" if alarming else "bold"))
    for one in comparison["warnings"]:
        style = "bold yellow" if one["kind"] == "incomparable" else "yellow" if one["level"] == "warning" else "dim"
        console.print(Text(f"{one['level'].capitalize()}: {_safe(one['text'], 1_000)}", style))
    console.print(Text(cells.pictures(comparison)))
    _print(cells.sides(comparison), console)
    _print(cells.settings(comparison), console)
    for block in [
        *cells.flags(comparison, top),
        cells.columns(comparison),
        *cells.movers(comparison, min(top, 5)),
    ]:
        _print(block, console)


def _print(block: Block, console: Console) -> None:
    console.print(Text(f"\n{block.title}", "bold"))
    if block.words:
        console.print(Text(_safe(block.words, 600), "dim"))
    if block.rows:
        # a caption gives way first: the other cells are short
        head = block.head[:-1] if block.head is cells.CHANGE and console.width < 150 else block.head
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for place, name in enumerate(head):
            table.add_column(name, justify="left" if place == 0 else "right", overflow="fold")
        if head[0] == "":
            for column in table.columns:
                column.justify = "left"
        first = NAME if head[0] == "Picture" else CELL
        for row in block.rows:
            table.add_row(*(Text(_safe(cell, CELL if i else first)) for i, cell in enumerate(row[: len(head)])))
        console.print(table)
    if block.left_out:
        console.print(Text(f"{block.left_out:,} more; compare.json lists up to 500.", "dim"))


def _safe(text: str, limit: int) -> str:
    return " ".join(upright(clean(text, limit)).split())
