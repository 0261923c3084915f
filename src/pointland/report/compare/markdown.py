"""A comparison as Markdown, for a pull request; text from data is escaped."""

from pointland.report.compare import cells
from pointland.report.compare.schema import Comparison
from pointland.report.markdown import escape, table
from pointland.report.words import clean

TOP, MOVERS, CELL = 20, 10, 120


def render_comparison(comparison: Comparison) -> str:
    """Render what changed: headline, cautions, settings, flags, columns, movers."""
    lines = ["# What changed between two audits", "", f"**{escape(comparison['headline'])}**", ""]
    if comparison["why_not"]:
        lines += [f"> **Dimensions are not comparable.** {escape('; '.join(comparison['why_not']))}\\.", ""]
    lines += [escape(cells.pictures(comparison)), ""]
    if comparison["warnings"]:
        lines += ["## Before believing the numbers", ""]
        lines += [f"- {one['level'].capitalize()}: {escape(one['text'])}" for one in comparison["warnings"]]
        lines.append("")
    for block in (
        cells.sides(comparison),
        cells.settings(comparison),
        *cells.flags(comparison, TOP),
        cells.columns(comparison),
        *cells.movers(comparison, MOVERS),
    ):
        lines += [f"## {escape(block.title)}", ""]
        if block.words:
            lines += [escape(block.words), ""]
        if block.rows:
            rows = [[escape(clean(cell, CELL)) for cell in row] for row in block.rows]
            lines += [*table(list(block.head), rows), ""]
        if block.left_out:
            lines += [f"{block.left_out:,} more; compare.json lists up to 500.", ""]
    return "\n".join(lines)
