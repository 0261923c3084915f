"""What changed between two audits: computed once, then only formatted."""

from pointland.report.compare.comparison import compare
from pointland.report.compare.markdown import render_comparison
from pointland.report.compare.schema import Comparison
from pointland.report.compare.terminal import print_comparison
from pointland.report.compare.write import write_comparison

__all__ = ["Comparison", "compare", "print_comparison", "render_comparison", "write_comparison"]
