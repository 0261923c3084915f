r"""Out of distribution: a high likelihood proves nothing where the dimension is low.

A generative model can give pictures of another, simpler kind a *higher* likelihood than its own, and yet never draw
them. On a :math:`k`-plane of probability :math:`w` the density of data with noise of scale :math:`\sigma` is of order
:math:`w \, \sigma^{-(d - k)}`: as :math:`\sigma` falls, the piece with the fewest dimensions has the highest density
however small its probability, which is density times volume. So a point is out of distribution if

.. math:: \log p(x) < a \quad \text{or} \quad \mathrm{LID}(x) < b ,

the dual threshold of Kamkari et al. 2024 (arXiv:2403.18910), here on a model whose every number is known.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pointland import exact
from pointland.exact.gaussian import Gaussian
from pointland.exact.mixture import Mixture
from pointland.experiments.axes import BLUE, ORANGE, RED, Panel, legend, page
from pointland.experiments.dual_threshold import dual_auroc, dual_threshold
from pointland.lid.flipd import flipd_exact
from pointland.verdict import auroc
from pointland.verdict.conformal import Floats


class Row(NamedTuple):
    """One kind of points against points in distribution.

    Attributes:
        points: The kind.
        log_density: Median log density, nats.
        lid: Median LID.
        likelihood_auroc: Of a low log density.
        lid_auroc: Of a low LID.
        dual_auroc: The published measure of both.
        dual_chance: What it is when labels are dealt at random.
        p_auroc: Of the dual threshold's p-value.
        flagged: Share with p at most 0.05.
    """

    points: str
    log_density: float
    lid: float
    likelihood_auroc: float
    lid_auroc: float
    dual_auroc: float
    dual_chance: float
    p_auroc: float
    flagged: float


class Cloud(NamedTuple):
    """What the picture shows of one kind: LID and log density of every point."""

    points: str
    places: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Result:
    """The paradox in numbers.

    Attributes:
        d: Dimensions of the space.
        sigma: Noise scale of density and LID.
        peak_probability: Of the model's low-dimensional piece.
        rows: One a kind of points.
        clouds: Their places in the picture.
    """

    d: int
    sigma: float
    peak_probability: float
    rows: tuple[Row, ...]
    clouds: tuple[Cloud, ...]

    @property
    def claims(self) -> dict[str, bool]:
        """What Kamkari et al. say, and whether it held."""
        same, peak, off = self.rows
        return {
            "points of the peak have a higher density than points in distribution": peak.likelihood_auroc < 0.05,
            "points of the peak have a lower LID": peak.lid_auroc > 0.95,
            "points off the manifold have a lower density, and LID alone misses them": (
                off.likelihood_auroc > 0.95 > 0.5 > off.lid_auroc
            ),
            "the dual threshold finds both": min(peak.p_auroc, off.p_auroc) > 0.95,
            "of other points in distribution it flags 5 % as asked": abs(same.flagged - 0.05) < 0.04,
        }


def run(*, d: int = 20, k: int = 12, k_peak: int = 2, sigma: float = 0.05, n: int = 400, seed: int = 0) -> Result:
    """Compare likelihood, LID and both on an exact model with a low-dimensional peak that it never samples.

    The model is a plane of ``k`` dimensions with variances from 0.5 to 2 and, with a probability of one in a million,
    another of ``k_peak``. Its samples are the points in distribution. Points of the peak are out of distribution, and
    so are samples moved by noise three times as large as ``sigma``.

    Args:
        d: Dimensions of the space.
        k: Dimensions of the plane.
        k_peak: Dimensions of the peak.
        sigma: Noise scale of density and LID.
        n: Points of every kind, and of the reference.
        seed: Of planes and points.
    """
    weight = 1e-6
    body = exact.subspace(d, k, seed, variances=torch.logspace(-1, 1, k, 2).tolist())
    peak = exact.subspace(d, k_peak, seed + 1)
    model = Mixture((body, Gaussian(body.mean, peak.axes, peak.variances)), (1 - weight, weight))
    reference, control, same, moved = model.sample(4 * n, seed + 2, torch.float64).chunk(4)
    noise = torch.randn(n, d, generator=torch.Generator().manual_seed(seed + 3), dtype=torch.float64)
    scale = torch.tensor([sigma], dtype=torch.float64)
    kinds = {
        "samples": same,
        "peak": model.pieces[1].sample(n, seed + 4, torch.float64),
        "off the plane": moved + 3 * sigma * noise,
    }

    def numbers(x: Tensor) -> tuple[Floats, Floats]:
        return log_density(model, x, scale).numpy(), flipd_exact(model, x, scale).value.numpy()

    known, others = numbers(reference), numbers(control)
    p_others = dual_threshold(*others, *known).p
    rows, clouds = [], []
    for name, x in kinds.items():
        logs, lids = numbers(x)
        p, dual = dual_threshold(logs, lids, *known).p, dual_auroc(logs, lids, *others, n_resamples=20)
        row = Row(
            name,
            float(np.median(logs)),
            float(np.median(lids)),
            auroc(-logs, -others[0]),
            auroc(-lids, -others[1]),
            dual.value.value,
            dual.chance,
            auroc(-p, -p_others),
            float((p <= 0.05).mean()),
        )
        rows.append(row)
        clouds.append(Cloud(name, tuple(zip(lids.tolist(), logs.tolist(), strict=True))))
    return Result(d, sigma, weight, tuple(rows), tuple(clouds))


def log_density(model: Mixture, x: Float[Tensor, "b d"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, " b"]:
    """Return the exact log density of a mixture's noised data, nats, float64."""
    pieces = torch.stack([piece.log_density(x, sigma) for piece in model.pieces], 1)
    return (pieces + pieces.new_tensor(model.weights).log()).logsumexp(1)


def draw(result: Result) -> str:
    """Draw every point's log density against its LID."""
    lids, logs = zip(*(place for cloud in result.clouds for place in cloud.places), strict=True)
    x, y = (-2.0, max(lids) + 4), (min(logs) - 4, max(logs) + 4)
    panel = Panel(70, 56, 400, 280, x, y)
    title = "Density and dimension: neither alone finds both kinds"
    ticks = [20 * i for i in range(round(y[0] / 20), round(y[1] / 20) + 1) if y[0] <= 20 * i <= y[1]]
    parts = [panel.frame(title, "LID", "log density, nats", range(0, int(x[1]) + 1, 20), ticks)]
    colors = (BLUE, RED, ORANGE)
    parts += [panel.dots(cloud.places, color, 2) for cloud, color in zip(result.clouds, colors, strict=True)]
    parts.append(legend(496, 80, [(color, cloud.points) for cloud, color in zip(result.clouds, colors, strict=True)]))
    return page(660, 400, title, *parts)
