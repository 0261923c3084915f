r"""Proposition 4.2: conditioning never raises the dimension, :math:`\mathrm{LID}(x_0 \mid c) \le \mathrm{LID}(x_0)`.

A Gaussian on a :math:`k`-plane, given :math:`r` exact linear measurements :math:`c = A x`, is one on a plane of
:math:`\max(k - r, 0)` dimensions, with covariance :math:`\Sigma - \Sigma A^\top (A \Sigma A^\top)^+ A \Sigma`. Given
noisy measurements it stays on the :math:`k`-plane, narrower: the dimension is the same, the soft count at any
:math:`\sigma` is lower. A mixture given its piece has at :math:`x_0` the dimension of that piece.

The proof is about supports, which it takes to be manifolds. Where one piece lies inside another that fails, and so does
the inequality for LID in the sense of a density, which FLIPD measures: at a point of a line inside a space of three
dimensions the line outweighs the space as :math:`\sigma \to 0` and the mixture reads 1; given the space, it reads 3.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import exact
from pointland.denoiser import Denoiser
from pointland.experiments.axes import BLUE, GRAY, GREEN, RED, Panel, legend, page, text
from pointland.lid.flipd import flipd_exact

SLACK = 0.02  # dimensions; FLIPD at the noise scale used is that far from its limit


class Row(NamedTuple):
    """One model and one condition, at points that meet it.

    Attributes:
        model: In words.
        condition: In words.
        measured: Number of exact measurements, 0 for other conditions.
        lid: True dimension without the condition.
        given: True dimension with it.
        flipd: Median FLIPD without.
        flipd_given: Median FLIPD with.
        largest_rise: Largest rise of FLIPD by the condition, over the points; negative where it always fell.
    """

    model: str
    condition: str
    measured: int
    lid: int
    given: int
    flipd: float
    flipd_given: float
    largest_rise: float


@dataclass(frozen=True)
class Result:
    """Proposition 4.2 in numbers.

    Attributes:
        sigma: Noise scale of FLIPD.
        rows: Where the proposition's conditions are met.
        outside: A point of a line inside a space: they are not.
        random_trials: Random planes, measurements and noises tried.
        random_rises: Those of them in which the true dimension rose.
        soft_rises: Those in which the soft count rose, at any of three noise scales.
    """

    sigma: float
    rows: tuple[Row, ...]
    outside: Row
    random_trials: int
    random_rises: int
    soft_rises: int

    @property
    def claims(self) -> dict[str, bool]:
        """What the proposition says, and whether it held."""
        return {
            "conditioning never raises the exact LID": self.random_rises == 0
            and all(row.given <= row.lid for row in self.rows),
            "conditioning never raises the soft count at any noise scale": self.soft_rises == 0,
            "FLIPD reads the exact LID with and without the condition, and no rise": all(
                abs(row.flipd - row.lid) < 0.1 and abs(row.flipd_given - row.given) < 0.1 and row.largest_rise < SLACK
                for row in self.rows
            ),
            "beyond the proposition: no rise of FLIPD where one piece lies inside another": (
                self.outside.largest_rise < SLACK
            ),
        }


def run(*, d: int = 20, k: int = 6, n: int = 50, trials: int = 300, sigma: float = 1e-3, seed: int = 0) -> Result:
    """Condition exact models and measure the dimension with and without.

    Args:
        d: Dimensions of the space.
        k: Dimensions of the plane.
        n: Points at which FLIPD is taken, for each condition.
        trials: Random Gaussians and measurements, of which only exact dimensions are compared.
        sigma: Noise scale of FLIPD.
        seed: Of every draw.
    """
    plane = exact.subspace(d, k, seed)
    rows = []
    for r in range(k + 2):
        narrowed = measured(plane, _matrix(r, d, seed + 1), plane.sample(1, seed, torch.float64)[0], 0.0)
        words = f"{r} exact measurement{'s' * (r != 1)}"
        rows.append(_row(f"{k}-plane", words, r, plane, narrowed, narrowed.sample(n, seed, torch.float64), sigma))
    noisy = measured(plane, _matrix(3, d, seed + 1), plane.sample(1, seed, torch.float64)[0], 0.5)
    points = noisy.sample(n, seed, torch.float64)
    rows.append(_row(f"{k}-plane", "3 noisy measurements", 0, plane, noisy, points, sigma))
    apart = exact.mixture(d, (0, 2, 8), seed)
    for piece in apart.pieces:
        points = piece.sample(n, seed, torch.float64)
        rows.append(_row("mixture", f"its {len(piece.variances)}-plane", 0, apart, piece, points, sigma))
    space = exact.subspace(d, 3, seed)
    on_it = exact.Gaussian(space.mean, space.axes[:, :1], space.variances[:1])
    nested = exact.Mixture((on_it, space), (0.5, 0.5))
    points = on_it.sample(n, seed, torch.float64)
    outside = _row("3-plane and a line in it", "the 3-plane, on the line", 0, nested, space, points, sigma, lid=3)
    return Result(sigma, tuple(rows), outside, trials, *_random_trials(trials, seed))


def measured(plane: exact.Gaussian, a: Float[Tensor, "r d"], x0: Float[Tensor, " d"], noise: float) -> exact.Gaussian:
    """Return the Gaussian given the measurements ``a @ x0``, each with normal error of deviation ``noise``."""
    spread = plane.axes * plane.variances.sqrt()  # x = mean + spread z with z standard normal
    # singular values s and directions v of the map from z to measurements: z has variance 1 / (1 + s^2 / noise^2) there
    _, s, v = torch.linalg.svd(a @ spread, full_matrices=True)
    s = torch.cat([s, s.new_zeros(max(0, len(v) - len(s)))])
    seen = s > 1e-9 * max(1.0, float(s.max()) if len(s) else 0.0)
    narrow = torch.where(seen, noise**2 / (noise**2 + s**2), 1.0)
    z0 = torch.linalg.lstsq(spread, (x0 - plane.mean)[:, None]).solution[:, 0]
    mean = plane.mean + spread @ (v.mT @ ((1 - narrow) * (v @ z0)))
    left = spread @ v.mT * narrow.sqrt()
    return exact.gaussian(left @ left.mT, mean)


def draw(result: Result) -> str:
    """Draw LID with the condition against LID without, and LID against the number of measurements."""
    exactly = [row for row in result.rows if "exact" in row.condition]
    most = max(row.lid for row in result.rows)
    left = Panel(60, 64, 280, 260, (-0.6, most + 0.6), (-0.6, most + 0.6))
    right = Panel(430, 64, 300, 260, (-0.4, len(exactly) - 0.6), (-0.4, most + 0.6))
    even = list(range(0, most + 1, 2))
    parts = [
        left.frame("Conditioning never raises LID", "LID without the condition", "LID given the condition", even, even),
        right.frame("A plane given measurements", "exact linear measurements", "LID", range(len(exactly)), even),
        left.line([(-0.6, -0.6), (most + 0.6, most + 0.6)], GRAY, 1, "4 4"),
        right.line([(row.measured, row.lid) for row in exactly], GRAY, 1, "4 4"),
        right.line([(row.measured, row.given) for row in exactly], BLUE),
        right.dots([(row.measured, row.flipd_given) for row in exactly], BLUE, 4),
    ]
    for row in result.rows:
        color = GREEN if row.model == "mixture" else BLUE
        parts.append(left.dots([(row.flipd, row.flipd_given)], color, 4))
    parts.append(left.crosses([(result.outside.flipd, result.outside.flipd_given)], RED, 5))
    marks = [
        (BLUE, "FLIPD, Gaussian given measurements"),
        (GREEN, "FLIPD, mixture given its piece"),
        (RED, "cross: a line inside a 3-plane, given the 3-plane;"),
    ]
    parts.append(legend(70, 388, marks))
    parts.append(text(80, 442, "together no manifold: the proposition is silent", anchor="start"))
    parts.append(legend(440, 388, [(GRAY, "dashed: without the condition (left: equal)")]))
    return page(760, 460, "LID with and without conditioning", *parts)


def _row(
    model: str,
    condition: str,
    measurements: int,
    without: exact.Gaussian | exact.Mixture,
    given: exact.Gaussian,
    points: Float[Tensor, "n d"],
    sigma: float,
    lid: int | None = None,
) -> Row:
    before, after = _flipd(without, points, sigma), _flipd(given, points, sigma)
    true = int(without.lid(points[:1])[0]) if lid is None else lid
    rise = float((after - before).max())
    medians = float(before.median()), float(after.median())
    return Row(model, condition, measurements, true, len(given.variances), *medians, rise)


def _flipd(model: Denoiser, points: Float[Tensor, "n d"], sigma: float) -> Float[Tensor, " n"]:
    return flipd_exact(model, points, torch.tensor([sigma], dtype=torch.float64)).value


def _matrix(r: int, d: int, seed: int) -> Float[Tensor, "{r} {d}"]:
    return torch.randn(r, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _random_trials(trials: int, seed: int) -> tuple[int, int]:
    """Return in how many random cases the dimension and the soft count rose."""
    sigmas = torch.tensor([0.01, 0.3, 3.0], dtype=torch.float64)
    rises = soft = 0
    for trial in range(trials):
        generator = torch.Generator().manual_seed(seed + trial)
        d, k, r = (int(torch.randint(1, 9, (1,), generator=generator)) for _ in range(3))
        k = min(k, d)
        noise = float(torch.randint(0, 3, (1,), generator=generator)) / 2
        variances = (torch.rand(k, generator=generator, dtype=torch.float64) * 3 + 0.1).tolist()
        plane = exact.subspace(d, k, seed + trial, variances=variances)
        narrowed = measured(plane, _matrix(r, d, seed + trial), plane.sample(1, trial, torch.float64)[0], noise)
        rises += len(narrowed.variances) > k
        soft += bool((narrowed.soft_count(sigmas) > plane.soft_count(sigmas) + 1e-9).any())
    return rises, soft
