r"""Suite ``paper``: the models of the paper's Figures 1 and 3, with exact scores in place of trained networks.

Figure 1 is three models of one surface, with dimension 0, 1 and 2 at the same three points. Figure 3 is a von Mises
circle; the later version of the paper adds a point mass at its center. With weights :math:`w` and :math:`1 - w`, the
circle's concentration :math:`\kappa` and :math:`\eta` as in :mod:`pointland.exact.circle`, the log-odds that a noised
point came from the circle are

.. math:: \log \frac{w}{1 - w} - \frac{1}{2 \sigma^2} + \log I_0(\|\eta\|) - \log I_0(\kappa) ,

since on the circle :math:`|x - u|^2 = |x|^2 + 1 - 2 x \cdot u`. Beside it stands the perfect memorizer of the figure's
training set, which has what the paper says of its trained network: dimension 0 at the isolated point.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import exact
from pointland.benchmarks.lid.estimators import errors, evaluate, small
from pointland.benchmarks.lid.result import ERROR, Result, Row, Table, Target
from pointland.benchmarks.lid.suites import Say, Settings
from pointland.denoiser import Denoiser
from pointland.exact.vectors import as_column, as_vectors
from pointland.experiments import figure_1, figure_3

SIGMA = 0.05  # the grids of Figure 1 have spacing 0.02
TARGET = 0.5  # a whole number is right
MASS = 0.2  # share of the point mass, 25 of 125 as in the training set of Figure 3


def run(settings: Settings, say: Say) -> Result:
    """Run the suite: about half a minute on one core."""
    table = models(seed=settings.seed, say=say)
    targets = tuple(
        Target(f"{name}: largest mean error", max(row.values[name] for row in table.rows), "at most", TARGET)
        for name in table.columns
    )
    notes = (
        f"sigma {SIGMA:g}, in units of the surface (2 wide) and of the circle (radius 1).",
        "What a trained network makes of Figure 3 is an experiment: pointland reproduce figure-3.",
    )
    return Result("paper", {"seed": settings.seed, "sigma": SIGMA}, (table,), targets, notes)


def models(*, say: Say, n: int = 64, seed: int = 0) -> Table:
    """Measure every small estimator at the points of the two figures."""
    rows = []
    corners = figure_1.lifted(torch.tensor(figure_1.CORNERS, dtype=torch.float64))
    for lid, grid in figure_1.manifolds().items():
        rows.append(row(f"Fig. 1: {figure_1.MODELS[lid]}", lid, exact.points(grid), corners, seed, say))
    x0 = figure_3.training_set(seed, copies=25).double()
    circle = exact.Circle(figure_3.CONCENTRATION, torch.eye(2, dtype=torch.float64))
    both = CircleAndMass(circle, MASS)
    on_circle = circle.sample(n, seed=seed + 1, dtype=torch.float64)
    isolated, mass = x0[99:100], x0[-1:]
    rows.append(row("Fig. 3: true circle", 1, circle, on_circle, seed, say))
    rows.append(row("Fig. 3: same, isolated point", 1, circle, isolated, seed, say))
    rows.append(row("Fig. 3: circle of circle and mass", 1, both, on_circle, seed, say))
    rows.append(row("Fig. 3: mass of circle and mass", 0, both, mass, seed, say))
    memorizer = exact.points(x0)
    rows.append(row("Fig. 3: memorizer, isolated point", 0, memorizer, isolated, seed, say))
    rows.append(row("Fig. 3: memorizer, point mass", 0, memorizer, mass, seed, say))
    return Table(f"the paper's models at sigma {SIGMA:g}", ERROR, tuple(rows), averaged=True)


def row(name: str, lid: int, model: Denoiser, x: Float[Tensor, "n d"], seed: int, say: Say) -> Row:
    """Measure one model of one dimension."""
    say(name)
    found = evaluate(small(SIGMA, seed), model, x)
    return Row(name, str(lid), x.shape[1], errors(found, x.new_full((len(x),), lid)))


@dataclass(frozen=True, eq=False)
class CircleAndMass:
    """A circle in its plane with a point mass at the center, callable as a denoiser; float64 inside.

    Attributes:
        circle: In two dimensions.
        mass: Probability of the center, between 0 and 1.
    """

    circle: exact.Circle
    mass: float

    def __call__(self, x: Float[Tensor, "b 2"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b 2"]:
        """Return the posterior mean of the clean point."""
        share = self.log_odds(x, sigma).sigmoid()
        return (share[:, None] * self.circle(x.double(), sigma)).to(x.dtype)

    def log_odds(self, x: Float[Tensor, "b 2"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, " b"]:
        """Return the log-odds of the circle against the mass, float64."""
        vectors = as_vectors(x, 2)
        column = as_column(sigma, vectors)
        kappa = torch.tensor(self.circle.concentration, dtype=torch.float64)
        eta = vectors @ self.circle.axes.to(vectors) / column**2
        eta = eta + eta.new_tensor([self.circle.concentration, 0.0])
        size = eta.square().sum(1).clamp_min(1e-30).sqrt()
        prior = torch.tensor((1 - self.mass) / self.mass, dtype=torch.float64).log()
        bessel = torch.special.i0e(size).log() + size - torch.special.i0e(kappa).log() - kappa
        odds: Tensor = prior + bessel - 1 / (2 * column[:, 0] ** 2)
        return odds

    def log_density(self, x: Float[Tensor, "b 2"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, " b"]:
        """Return the log density of noised data, in nats, up to a constant that depends on sigma alone."""
        vectors = as_vectors(x, 2)
        center = -vectors.square().sum(1) / (2 * as_column(sigma, vectors)[:, 0] ** 2)
        return center + torch.nn.functional.softplus(self.log_odds(x, sigma))
