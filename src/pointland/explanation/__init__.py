"""What is behind one picture: maps of its dimensions, walks on the manifold, spectrum and curve, near pictures."""

from pointland.explanation.explained_run import explain_run
from pointland.explanation.explaining import explain
from pointland.explanation.explanation import Explanation
from pointland.explanation.page import write_page

__all__ = ["Explanation", "explain", "explain_run", "write_page"]
