r"""Theorem 4.1: duplicates are points of dimension 0, and such points are duplicated sooner or later.

The data is a point mass of probability :math:`p` beside a plane. Among :math:`n` independent draws exact copies occur
at the point mass alone, and there every estimate of the dimension is 0: from the data, in the model that is the truth
(a mixture), and in the model that memorized the draws.

A training item at a point of mass :math:`p` has a copy among the other :math:`n - 1` with probability

.. math:: P(x_i = x_1 \text{ for some } i > 1 \mid x_1 = x_0) = 1 - (1 - p)^{n-1} ,

the expression of equation (9). That the training *set* holds two copies of :math:`x_0` is less likely,

.. math:: P(\text{two copies}) = 1 - (1 - p)^n - n p (1 - p)^{n-1} \le 1 - (1 - p)^{n-1} ,

for it takes a first one. So inequality (7) of the paper, which bounds this probability from below by (9), holds only
given that :math:`x_1 = x_0`: at :math:`n = 2` the probability is :math:`p^2` and the bound :math:`p`. The theorem
stands, since both tend to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import beta

from pointland import exact
from pointland.experiments.axes import BLUE, GRAY, GREEN, RED, Number, Panel, legend, page, text
from pointland.lid.data.censored_hill import CensoredHill
from pointland.lid.data.kernel import Kernel
from pointland.lid.flipd import flipd_exact

LEVEL = 0.9999  # of the intervals: dozens are looked at, and all must hold


class Reading(NamedTuple):
    """What one estimator reads at the copies and at everything else.

    Attributes:
        estimator: Its name.
        of: Data, the true model, or the model that memorized the draws.
        copies: Largest absolute value at the copies, in dimensions.
        others: Median at the points of the plane.
    """

    estimator: str
    of: str
    copies: float
    others: float


class Row(NamedTuple):
    """How often copies occur among ``n`` draws.

    Attributes:
        p: Probability of the point.
        n: Draws.
        formula: ``1 - (1 - p)^(n - 1)``.
        given: Share of trials in which the first draw, put at the point, had a copy.
        low: Lower end of the Clopper-Pearson interval of that share, level 0.9999.
        high: Upper end.
        set_formula: Probability of two copies of the point in the set.
        in_set: Share of trials with two copies or more, the first draw free.
        set_low: Lower end of its interval.
        set_high: Upper end.
    """

    p: float
    n: int
    formula: float
    given: float
    low: float
    high: float
    set_formula: float
    in_set: float
    set_low: float
    set_high: float


@dataclass(frozen=True)
class Result:
    """Theorem 4.1 in numbers.

    Attributes:
        lid: True dimension of the plane beside the point mass.
        n_copies: Draws that have an exact copy.
        n_copies_elsewhere: Those of them that are not at the point mass.
        readings: One an estimator.
        trials: Simulated training sets a row.
        rows: One a probability and number of draws.
    """

    lid: int
    n_copies: int
    n_copies_elsewhere: int
    readings: tuple[Reading, ...]
    trials: int
    rows: tuple[Row, ...]

    @property
    def claims(self) -> dict[str, bool]:
        """What the theorem and its proof say, and whether it held."""
        biggest = {p: max((row for row in self.rows if row.p == p), key=lambda row: row.n) for p in _masses(self)}
        return {
            "copies occur only where LID is 0": self.n_copies > 0 and self.n_copies_elsewhere == 0,
            "at copies every estimate is 0, elsewhere that of the plane": all(
                reading.copies < 0.05 and abs(reading.others - self.lid) < 0.5 for reading in self.readings
            ),
            "a training item at the point has a copy with probability 1 - (1 - p)^(n - 1)": all(
                row.low <= row.formula <= row.high for row in self.rows
            ),
            "the set holds two copies with probability 1 - (1 - p)^n - n p (1 - p)^(n - 1)": all(
                row.set_low <= row.set_formula <= row.set_high for row in self.rows
            ),
            "both tend to 1": all(row.given > 0.9 and row.in_set > 0.9 for row in biggest.values()),
            "inequality (7) as printed: the set holds two copies at least as often as (9)": all(
                row.set_high >= row.formula for row in self.rows
            ),
        }


def run(
    *,
    masses: Sequence[float] = (0.01, 0.05, 0.2),
    sizes: Sequence[int] = (2, 5, 10, 20, 50, 100, 200, 500),
    trials: int = 10_000,
    seed: int = 0,
) -> Result:
    """Measure copies among 2,000 draws of a point mass and a plane, and count how often they occur.

    Args:
        masses: Probabilities of the point.
        sizes: Numbers of draws.
        trials: Simulated training sets for each pair.
        seed: Of every draw.
    """
    readings, n_copies, elsewhere = _readings(seed)
    return Result(2, n_copies, elsewhere, readings, trials, tuple(_rows(masses, sizes, trials, seed)))


def draw(result: Result) -> str:
    """Draw both probabilities against the number of draws: formulas as lines, trials as intervals."""
    ends = min(row.n for row in result.rows), max(row.n for row in result.rows)
    ticks = [n for n in (2, 5, 10, 20, 50, 100, 200, 500, 1000) if ends[0] <= n <= ends[1]]
    left = Panel(64, 64, 320, 250, (ends[0] / 1.15, ends[1] * 1.15), (0, 1.03), log_x=True)
    right = Panel(468, 64, 320, 250, left.x, left.y, log_x=True)
    shares = [0, 0.25, 0.5, 0.75, 1]
    parts = [
        left.frame("A training item at x0 has a copy", "training set size n", "probability", ticks, shares),
        right.frame("The set holds two copies of x0", "training set size n", "probability", ticks, shares),
    ]
    grid = np.geomspace(*ends, 80)
    colors = dict(zip(_masses(result), (BLUE, "#805ad5", RED, GREEN), strict=False))
    for p, color in colors.items():
        parts.append(left.line([(n, 1 - (1 - p) ** (n - 1)) for n in grid], color))
        parts.append(right.line([(n, 1 - (1 - p) ** (n - 1)) for n in grid], color, 1, "3 3"))
        parts.append(right.line([(n, _in_set(p, n)) for n in grid], color))
        own = [row for row in result.rows if row.p == p]
        parts.append(left.intervals([(row.n, row.low, row.high) for row in own], color))
        parts.append(left.dots([(row.n, row.given) for row in own], color))
        parts.append(right.intervals([(row.n, row.set_low, row.set_high) for row in own], color))
        parts.append(right.dots([(row.n, row.in_set) for row in own], color))
    parts.append(legend(806, 90, [(color, f"p = {p:g}") for p, color in colors.items()]))
    note = f"Lines: formulas (dashed right: the left one, equation 9). Dots: {result.trials:,} simulated sets each."
    parts.append(text(64, 384, note, anchor="start", color=GRAY))
    return page(890, 400, "Probability of duplicates against the size of the training set", *parts)


def _masses(result: Result) -> list[float]:
    return sorted({row.p for row in result.rows})


def _in_set(p: float, n: Number) -> float:
    return float(1 - (1 - p) ** n - n * p * (1 - p) ** (n - 1))


def _rows(masses: Sequence[float], sizes: Sequence[int], trials: int, seed: int) -> list[Row]:
    generator = np.random.default_rng(seed)
    rows = []
    for p in masses:
        for n in sizes:
            # uniform draws, those below p moved to p: a point mass of probability p at p, a density above it
            sets = np.maximum(generator.random((trials, n)), p)
            in_set = int((np.diff(np.sort(sets, axis=1), axis=1) == 0).any(1).sum())
            given = int((sets[:, 1:] == p).any(1).sum())  # the first draw at p, the others free
            formulas = 1 - (1 - p) ** (n - 1), _in_set(p, n)
            of_item, of_set = (_interval(k, trials) for k in (given, in_set))
            rows.append(Row(p, n, formulas[0], given / trials, *of_item, formulas[1], in_set / trials, *of_set))
    return rows


def _interval(k: int, n: int) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a share."""
    tail = (1 - LEVEL) / 2
    low = float(beta.ppf(tail, k, n - k + 1)) if k else 0.0
    return low, float(beta.ppf(1 - tail, k + 1, n - k)) if k < n else 1.0


def _readings(seed: int, n: int = 2000, p: float = 0.05, sigma: float = 0.1) -> tuple[tuple[Reading, ...], int, int]:
    """Return what the estimators read, the number of copies, and that of copies elsewhere."""
    plane = exact.subspace(3, 2, seed, shift=0.0)
    normal = torch.linalg.cross(plane.axes[:, 0], plane.axes[:, 1])
    truth = exact.Mixture(
        (exact.Gaussian(3 * normal, plane.axes[:, :0], plane.variances[:0]), plane), (p, 1 - p)
    )  # the point is off the plane, as the theorem's continuous density demands
    x = truth.sample(n, seed, torch.float64)
    unique, which, counts = torch.unique(x, dim=0, return_inverse=True, return_counts=True)
    copied = counts[which] > 1
    elsewhere = copied & (truth.lid(x) > 0)
    # of the plane, the middle: at its thin edge no estimate from 2,000 points resolves two dimensions
    middle = ~copied & (x.norm(dim=1) < 1)
    scale = torch.tensor([sigma], dtype=torch.float64)
    memorizer = exact.points(unique, counts.double())
    found = {
        ("censored Hill", "data"): torch.from_numpy(CensoredHill(k=40)(x, x, np.arange(n)).value),
        ("kernel", "data"): torch.from_numpy(Kernel(sigma)(x, x, np.arange(n)).value),
        ("FLIPD", "true model"): flipd_exact(truth, x, scale).value,
        ("FLIPD", "memorizing model"): flipd_exact(memorizer, x, scale).value,
    }
    readings = tuple(
        Reading(name, of, float(value[copied].abs().max()), float(value[middle].median()))
        for (name, of), value in found.items()
    )
    return readings, int(copied.sum()), int(elsewhere.sum())
