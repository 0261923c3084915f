"""Density histograms of every column, one a group, on common edges: the paper's Figure 4."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pointland.report.schema import Density, GroupDensity

Floats = NDArray[np.float64]

MOST_BINS, FEWEST_BINS, MARKS = 48, 12, 200


def density(
    column: str, groups: Mapping[str, Floats], keep: Floats, threshold: float | None, deciding: bool
) -> Density | None:
    """Return the histograms of one column.

    Args:
        column: Its name.
        groups: Values by group; NaN are left out.
        keep: Values that must be inside the edges, such as the flagged ones.
        threshold: Where the decision falls, if it falls on this column.
        deciding: Whether it does; then ``keep`` is given along as ``flagged``, at most 200 quantiles of it.

    Returns:
        ``None`` if no group has a value. The edges leave out what lies more than three interquartile ranges beyond the
        quartiles of every group, so that one stray value does not flatten the picture; how many are outside is counted.
    """
    known = {group: values[np.isfinite(values)] for group, values in groups.items()}
    known = {group: values for group, values in known.items() if len(values)}
    if not known:
        return None
    fences = [_fence(values) for values in known.values()]
    low, high = min(low for low, _ in fences), max(high for _, high in fences)
    keep = keep[np.isfinite(keep)]
    if len(keep):
        low, high = min(low, float(np.quantile(keep, 0.02))), max(high, float(np.quantile(keep, 0.98)))
    if not high > low:
        room = abs(low) * 0.05 or 0.5
        low, high = low - room, high + room
    edges = np.linspace(low, high, _bins(known, high - low) + 1)
    found = []
    for group, values in known.items():
        counts, _ = np.histogram(values, edges)
        heights = counts / (len(values) * np.diff(edges))
        outside = int(len(values) - counts.sum())
        found.append(GroupDensity(group=group, n=len(values), outside=outside, density=heights.tolist()))
    marks = keep if len(keep) <= MARKS else np.quantile(keep, np.linspace(0, 1, MARKS))
    flagged = [float(f"{mark:.5g}") for mark in np.sort(marks)] if deciding else []
    return Density(column=column, edges=edges.tolist(), groups=found, threshold=threshold, flagged=flagged)


def _fence(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [0.25, 0.75])
    reach = 3 * (high - low)
    return float(max(values.min(), low - reach)), float(min(values.max(), high + reach))


def _bins(groups: Mapping[str, Floats], width: float) -> int:
    """Freedman and Diaconis' number of bins for the largest group, within limits that can be drawn."""
    largest = max(groups.values(), key=len)
    low, high = np.quantile(largest, [0.25, 0.75])
    if high <= low:
        return FEWEST_BINS
    return int(np.clip(width / (2 * (high - low) * len(largest) ** (-1 / 3)), FEWEST_BINS, MOST_BINS))
