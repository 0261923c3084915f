"""Figure 4: memorized pictures against others, in every metric of the paper."""

from pointland.experiments.figure_4.drawing import draw
from pointland.experiments.figure_4.experiment import folders, run
from pointland.experiments.figure_4.result import Result

__all__ = ["Result", "draw", "folders", "run"]
