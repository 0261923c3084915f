"""Reports: a run summarized once, and rendered as HTML, Markdown, JSON and a table in the terminal."""

from pointland.report.html import render_html
from pointland.report.kinds import kinds_of
from pointland.report.markdown import render_markdown
from pointland.report.schema import Summary
from pointland.report.summary import summarize
from pointland.report.terminal import print_table
from pointland.report.write import read_summary, write_report

__all__ = [
    "Summary",
    "kinds_of",
    "print_table",
    "read_summary",
    "render_html",
    "render_markdown",
    "summarize",
    "write_report",
]
