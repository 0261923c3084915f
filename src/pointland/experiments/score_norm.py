r"""Score norm: it grows as the dimension falls (section 4, "The Classifier-Free Guidance Norm and LID").

For a Gaussian on a :math:`k`-plane in :math:`d` dimensions with variances :math:`l_i`, at noised points of the data,

.. math::
    \mathbb{E} \|s(x; \sigma)\|^2 = \frac{d - k}{\sigma^2} + \sum_i \frac{1}{l_i + \sigma^2}
    = \frac{1}{\sigma^2} \Bigl( d - \sum_i \frac{l_i}{l_i + \sigma^2} \Bigr) :

ambient dimension less the soft count at :math:`\sigma`. At one noise scale the mean score norm *is* the dimension, read
backwards; it explodes as :math:`\sigma \to 0` unless :math:`k = d`. The statement is about typical noised points of the
model. At a clean point of the manifold the score is small whatever the dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import exact
from pointland.denoiser import score
from pointland.experiments.axes import BLUE, GREEN, ORANGE, RED, Panel, legend, page, text
from pointland.lid.estimate import standard_error


class Row(NamedTuple):
    """One plane at one noise scale.

    Attributes:
        lid: Dimension of the plane, ``k``.
        sigma: Noise scale.
        formula: Expected squared score norm.
        simulated: Its mean over noised points.
        stderr: Standard error of that mean.
        clean: Mean squared score norm at the clean points, for comparison.
    """

    lid: int
    sigma: float
    formula: float
    simulated: float
    stderr: float
    clean: float


@dataclass(frozen=True)
class Result:
    """The score norm in numbers.

    Attributes:
        d: Dimensions of the space.
        n: Points in every mean.
        rows: One a plane and noise scale.
    """

    d: int
    n: int
    rows: tuple[Row, ...]

    @property
    def claims(self) -> dict[str, bool]:
        """What section 4 says, and whether it held."""
        scales = sorted({row.sigma for row in self.rows})
        at = {s: sorted((row for row in self.rows if row.sigma == s), key=lambda row: row.lid) for s in scales}
        gap = [row for row in self.rows if row.lid < self.d]
        growth = [(a, b) for a in gap for b in gap if a.lid == b.lid and a.sigma < b.sigma]
        return {
            "the simulation is within 5 standard errors of the formula": all(
                abs(row.simulated - row.formula) <= 5 * row.stderr for row in self.rows
            ),
            "at every noise scale the score norm falls as LID grows": all(
                a.simulated > b.simulated for rows in at.values() for a, b in pairwise(rows)
            ),
            "below the ambient dimension it grows without bound as sigma falls": all(
                a.simulated > b.simulated for a, b in growth
            ),
        }


def run(
    *,
    d: int = 64,
    dims: Sequence[int] = (0, 4, 16, 32, 48, 60, 64),
    sigmas: Sequence[float] = (0.01, 0.1, 1.0),
    n: int = 2000,
    seed: int = 0,
) -> Result:
    """Compare formula and simulation on planes with variances from 0.5 to 2.

    Args:
        d: Dimensions of the space.
        dims: Dimensions of the planes.
        sigmas: Noise scales.
        n: Noised points in every mean.
        seed: Of planes, points and noises.
    """
    rows = []
    for k in dims:
        plane = exact.subspace(d, k, seed, variances=variances(k).tolist())
        x0 = plane.sample(n, seed + 2, torch.float64)
        noise = torch.randn(n, d, generator=torch.Generator().manual_seed(seed + 3), dtype=torch.float64)
        for sigma in sigmas:
            scale = torch.tensor([sigma], dtype=torch.float64)
            squares = score(plane, x0 + sigma * noise, scale).square().sum(1)
            clean = score(plane, x0, scale).square().sum(1).mean()
            error = standard_error(squares[:, None])[0]
            rows.append(Row(k, sigma, expected(d, k, sigma), float(squares.mean()), float(error), float(clean)))
    return Result(d, n, tuple(rows))


def variances(k: int) -> Float[Tensor, " {k}"]:
    """Return the variances of the plane of ``k`` dimensions: from 0.5 to 2, evenly in their logarithm."""
    return torch.logspace(-1, 1, k, 2, dtype=torch.float64)


def expected(d: int, k: int, sigma: float) -> float:
    """Return the expected squared score norm at noised points of that plane."""
    return (d - k) / sigma**2 + float((1 / (variances(k) + sigma**2)).sum())


def draw(result: Result) -> str:
    """Draw the score norm against the dimension: formula as lines, simulation as dots."""
    scales = sorted({row.sigma for row in result.rows})
    norms = [expected(result.d, k, sigma) ** 0.5 for sigma in scales for k in (0, result.d)]
    ends = min(norms) / 1.6, max(norms) * 1.6
    panel = Panel(70, 56, 400, 260, (-1, result.d + 1), ends, log_y=True)
    ticks = [10.0**i for i in range(-3, 8) if ends[0] <= 10.0**i <= ends[1]]
    across = f"dimension k of the plane, in {result.d} dimensions"
    steps = [round(result.d * i / 4) for i in range(5)]
    parts = [panel.frame("The score norm grows as LID falls", across, "score norm, root mean square", steps, ticks)]
    colors = [RED, ORANGE, GREEN, BLUE]
    for i, sigma in enumerate(scales):
        color = colors[i % len(colors)]
        own = sorted((row for row in result.rows if row.sigma == sigma), key=lambda row: row.lid)
        parts.append(panel.line([(k, expected(result.d, k, sigma) ** 0.5) for k in range(result.d + 1)], color))
        parts.append(panel.dots([(row.lid, row.simulated**0.5) for row in own], color, 3.5))
    parts.append(legend(496, 80, [(colors[i % 4], f"sigma {sigma:g}") for i, sigma in enumerate(scales)]))
    parts.append(text(486, 160, "lines: formula", anchor="start", color="#4a5568"))
    parts.append(text(486, 178, f"dots: mean of {result.n:,} points", anchor="start", color="#4a5568"))
    return page(650, 370, "Root mean square score norm against the dimension of the plane", *parts)
