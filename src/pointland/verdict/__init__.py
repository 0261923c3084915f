"""Verdicts: decisions with a false discovery rate, the kind of memorization, and separations with intervals."""

from pointland.verdict.combine import combine
from pointland.verdict.conformal import (
    Decisions,
    Direction,
    benjamini_hochberg,
    check_rate,
    conformal_p_values,
    decide,
    mirrored_p_values,
    shift_weights,
)
from pointland.verdict.kind import Kind, Told, tell
from pointland.verdict.separation import (
    MINIMUM_FOR_TPR,
    UNMEMORIZED_LABELS,
    Interval,
    Separation,
    auroc,
    clopper_pearson,
    separations,
    tpr_at_fpr,
)

__all__ = [
    "MINIMUM_FOR_TPR",
    "UNMEMORIZED_LABELS",
    "Decisions",
    "Direction",
    "Interval",
    "Kind",
    "Separation",
    "Told",
    "auroc",
    "benjamini_hochberg",
    "check_rate",
    "clopper_pearson",
    "combine",
    "conformal_p_values",
    "decide",
    "mirrored_p_values",
    "separations",
    "shift_weights",
    "tell",
    "tpr_at_fpr",
]
