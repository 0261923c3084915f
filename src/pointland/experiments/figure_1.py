r"""Figure 1: three models of one surface, of dimension 0, 1 and 2 at three training points.

The true manifold is a sheet :math:`z = h(u, v)` in three dimensions. The first model has point masses at three training
points, the second a curve on the sheet through them, the third the sheet itself. Every model is its posterior mean,
summed over a fine grid of its manifold: with a spacing well below :math:`\sigma` the sum is the integral to many
digits. Every estimator must read 0, 1 and 2 at the same three points, where the data has 2.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pointland import exact
from pointland.experiments.axes import BLUE, PALE, RED, Number, Point, cross, dot, line, page, text
from pointland.lid.data.censored_hill import CensoredHill
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.lid.flipd import Flipd
from pointland.lid.jacobian_spectrum import JacobianRank
from pointland.lid.normal_bundle import NormalBundle
from pointland.lid.spectrum import FilteredSpectrum

MODELS = {0: "point masses", 1: "a curve", 2: "the surface"}
CORNERS = ((-0.65, -0.35), (-0.15, 0.3), (0.4, 0.1))  # the training points, in the coordinates of the sheet
OTHERS = ((0.35, -0.55), (0.1, -0.75), (-0.75, 0.7), (0.7, 0.75), (0.15, 0.75), (-0.3, -0.7))


class Row(NamedTuple):
    """What one estimator reads on one model, at the three points.

    Attributes:
        model: In words.
        lid: The true dimension of the model.
        estimator: Its name.
        least: Smallest of the three values, in dimensions.
        most: Largest.
    """

    model: str
    lid: int
    estimator: str
    least: float
    most: float


@dataclass(frozen=True)
class Result:
    """Figure 1 in numbers.

    Attributes:
        sigma: Noise scale of the estimators, in the unit of the sheet, which is 2 wide.
        rows: One a model and estimator.
    """

    sigma: float
    rows: tuple[Row, ...]

    @property
    def claims(self) -> dict[str, bool]:
        """What the figure says, and whether it held."""
        right = all(abs(value - row.lid) < 0.5 for row in self.rows for value in (row.least, row.most))
        return {"every estimator reads LID 0, 1 and 2 at the three points": right}


def run(*, sigma: float = 0.05, n_draws: int = 512, n_samples: int = 20_000, seed: int = 0) -> Result:
    """Measure the three models by five estimators from the denoiser and one from samples.

    Args:
        sigma: Noise scale; the grid of the sheet has spacing 0.02.
        n_draws: Noises of the denoising loss.
        n_samples: Samples of each model for the estimate from data.
        seed: Of every draw.
    """
    corners = lifted(torch.tensor(CORNERS, dtype=torch.float64))
    keys = ["a", "b", "c"]
    rows = []
    for lid, grid in manifolds().items():
        model = exact.points(grid)
        found = {
            "FLIPD": Flipd(sigma, "exact")(model, corners, keys).value,
            "denoising loss": DenoisingLoss(sigma, n_draws, seed)(model, corners, keys).value,
            "filtered spectrum": FilteredSpectrum(sigma, 64, seed=seed)(model, corners, keys).value,
            "Jacobian rank": JacobianRank(sigma, seed=seed)(model, corners, keys).value,
            "normal bundle": NormalBundle(sigma, 64, seed)(model, corners, keys).value,
            "censored Hill, samples": torch.from_numpy(_from_samples(lid, n_samples, seed)),
        }
        for name, value in found.items():
            rows.append(Row(MODELS[lid], lid, name, float(value.min()), float(value.max())))
    return Result(sigma, tuple(rows))


def manifolds() -> dict[int, Float[Tensor, "m 3"]]:
    """Return a fine grid of each model's manifold, by its dimension."""
    side = torch.linspace(-1, 1, 101, dtype=torch.float64)
    return {
        0: lifted(torch.tensor(CORNERS, dtype=torch.float64)),
        1: lifted(curve(torch.linspace(-0.95, 0.95, 2001, dtype=torch.float64))),
        2: lifted(torch.cartesian_prod(side, side)),
    }


def lifted(uv: Float[Tensor, "m 2"]) -> Float[Tensor, "m 3"]:
    """Put coordinates on the sheet."""
    u, v = uv.unbind(1)
    return torch.stack([u, v, 0.25 * torch.sin(2 * u) * torch.cos(1.5 * v)], dim=1)


def curve(u: Float[Tensor, " m"]) -> Float[Tensor, "m 2"]:
    """Return the parabola through the three training points, in the coordinates of the sheet."""
    known = torch.tensor(CORNERS, dtype=torch.float64)
    weights = torch.linalg.solve(torch.stack([known[:, 0] ** i for i in range(3)], dim=1), known[:, 1])
    return torch.stack([u, sum((w * u**i for i, w in enumerate(weights)), torch.zeros_like(u))], dim=1)


def draw(result: Result) -> str:
    """Draw the three models side by side: true manifold pale, model red, training points as crosses."""
    parts = [text(20, 26, "Three models of one surface: LID at the three points", anchor="start", weight="600")]
    for lid in MODELS:
        left = 20 + 280 * lid
        parts += [line([_seen(p, left) for p in grid], PALE, 0.8) for grid in _mesh()]
        if lid == 2:
            parts += [line([_seen(p, left) for p in grid], RED, 0.9) for grid in _mesh()]
        if lid == 1:
            whole = lifted(curve(torch.linspace(-0.95, 0.95, 80, dtype=torch.float64)))
            parts.append(line([_seen(p, left) for p in whole.tolist()], RED, 2.2))
        corners = lifted(torch.tensor(CORNERS, dtype=torch.float64)).tolist()
        if lid == 0:
            parts += [dot(_seen(p, left), RED, 6) for p in corners]
        more = lifted(torch.tensor(OTHERS, dtype=torch.float64)).tolist()
        parts += [cross(_seen(p, left), "#1a202c" if p in corners else BLUE, 4.5) for p in corners + more]
        parts.append(text(left + 130, 252, f"({'abc'[lid]}) {MODELS[lid]}: LID {lid}", weight="600"))
        for i, row in enumerate(row for row in result.rows if row.lid == lid):
            low, high = f"{row.least + 0:.2f}", f"{row.most + 0:.2f}"
            parts.append(text(left + 168, 276 + 17 * i, row.estimator, anchor="end", color="#4a5568"))
            parts.append(text(left + 178, 276 + 17 * i, low if low == high else f"{low} to {high}", anchor="start"))
    note = f"Black crosses: the three training points measured, at sigma {result.sigma:g}. Blue: other training points."
    parts.append(text(20, 392, note, anchor="start", color="#4a5568"))
    return page(860, 408, "Three models of one surface with LID 0, 1 and 2 at three training points", *parts)


def _from_samples(lid: int, n: int, seed: int) -> np.ndarray:
    """Estimate the dimension at the three points from fresh samples of a model, and no model."""
    generator = torch.Generator().manual_seed(seed)
    corners = lifted(torch.tensor(CORNERS, dtype=torch.float64))
    uniform = 1.9 * torch.rand(n, 2, generator=generator, dtype=torch.float64) - 0.95
    match lid:
        case 0:
            samples = corners[torch.randint(3, (n,), generator=generator)]
        case 1:
            samples = lifted(curve(uniform[:, 0]))
        case _:
            samples = lifted(uniform)
    return CensoredHill(k=100)(corners.numpy(), samples.numpy()).value


def _mesh() -> list[list[list[float]]]:
    along = torch.linspace(-1, 1, 25, dtype=torch.float64)
    lines = []
    for at in torch.linspace(-1, 1, 11, dtype=torch.float64):
        fixed = torch.full_like(along, float(at))
        lines += [lifted(torch.stack(pair, dim=1)).tolist() for pair in ((along, fixed), (fixed, along))]
    return lines


def _seen(point: list[float], left: Number) -> Point:
    """Project a point of the sheet obliquely."""
    u, v, z = point
    turn = math.radians(24)
    across, depth = u * math.cos(turn) - v * math.sin(turn), u * math.sin(turn) + v * math.cos(turn)
    return left + 130 + 92 * across, 142 - 46 * depth - 100 * z
