"""The paper's figures and theory as experiments: ``run`` gives the numbers of one, ``draw`` its picture as SVG."""

from pointland.experiments import (
    dual_threshold,
    figure_1,
    figure_3,
    figure_4,
    out_of_distribution,
    proposition_4_2,
    score_norm,
    soft_count,
    theorem_4_1,
)

__all__ = [
    "dual_threshold",
    "figure_1",
    "figure_3",
    "figure_4",
    "out_of_distribution",
    "proposition_4_2",
    "score_norm",
    "soft_count",
    "theorem_4_1",
]
