r"""Manifolds of several dimensions in the plane and in space, as fine grids: lollipop, doughnut, Swiss roll.

A grid with a spacing below :math:`\sigma` has the denoiser of the uniform law on its manifold: the sum is the integral
up to :math:`e^{-2 \pi^2 \sigma^2 / h^2}`, :math:`10^{-17}` at the spacing :math:`h = 0.7 \sigma`. All are divided by
their largest standard deviation of a coordinate, as for training.

==========  =====  =====================================================================================
name        LID    pieces
==========  =====  =====================================================================================
lollipop    0+1+2  a disc of radius 1 at (3, 3), a stick of the diagonal below it, a dot at the origin; shares 4:2:1
doughnut    1+2    a torus of radii 10 and 1, uniform in its angles, and the circle at its core; shares 1:1
swiss-roll  2      :math:`(t \cos t, h, t \sin t)`, t from 1.5 pi to 4.5 pi, h from 0 to 21
==========  =====  =====================================================================================

Source: Kamkari et al. 2024, FLIPD, arXiv:2406.03537, and their public code as described by others. Where the stick
begins, and the roll, are our reading.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import exact

Uniform = Float[Tensor, "n p"]


@dataclass(frozen=True)
class Piece:
    """A part of one dimension, the image of the unit cube of as many.

    Attributes:
        lid: Its dimension.
        share: Of the points.
        surface: Takes ``(n, lid)`` uniform on [0, 1] to points ``(n, d)``; equal volumes to equal shares of points.
        sides: About how long the images of the cube's edges are, for the spacing of the grid.
    """

    lid: int
    share: float
    surface: Callable[[Uniform], Float[Tensor, "n d"]]
    sides: tuple[float, ...]


@dataclass(frozen=True)
class Union:
    """Pieces of several dimensions in one space.

    Attributes:
        name: For tables.
        d: Dimensions of the space.
        pieces: What it is made of.
        sigma: A scale at which its curvature and its edges hardly count, in units of its largest standard deviation.
    """

    name: str
    d: int
    pieces: tuple[Piece, ...]
    sigma: float

    def model(self, sigma: float | None = None) -> exact.Points:
        """Return the denoiser, exact at scales from ``sigma`` on, which is the union's own if left out."""
        spacing = 0.7 * (self.sigma if sigma is None else sigma) * self.size
        grids, weights = [], []
        for piece in self.pieces:
            sides = [(torch.arange(n) + 0.5).double() / n for n in (math.ceil(s / spacing) for s in piece.sides)]
            cube = torch.cartesian_prod(*sides).reshape(-1, piece.lid) if sides else torch.zeros(1, 0).double()
            grids.append(piece.surface(cube) / self.size)
            weights.append(torch.full((len(cube),), piece.share / len(cube), dtype=torch.float64))
        return exact.points(torch.cat(grids), torch.cat(weights))

    def sample(self, n: int, seed: int) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        """Return ``n`` random points, float32, and their dimensions."""
        points, lids = self._draw(n, seed)
        return (points / self.size).float(), lids

    @property
    def size(self) -> float:
        """Largest standard deviation of a coordinate."""
        return float(self._draw(100_000, 0)[0].std(0).max())

    def _draw(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        shares = torch.tensor([piece.share for piece in self.pieces])
        chosen = torch.multinomial(shares, n, replacement=True, generator=generator)
        points = torch.empty(n, self.d, dtype=torch.float64)
        for i, piece in enumerate(self.pieces):
            own = chosen == i
            points[own] = piece.surface(torch.rand(int(own.sum()), piece.lid, generator=generator).double())
        return points, torch.tensor([float(piece.lid) for piece in self.pieces])[chosen]


def disc(u: Uniform) -> Float[Tensor, "n 2"]:
    """The candy: uniform on the disc, by the equal-area map of Shirley & Chiu 1997, which tears no grid."""
    a, b = (2 * u - 1).unbind(1)
    flat = a.abs() > b.abs()
    r = torch.where(flat, a, b)
    ratio = torch.where(flat, b / torch.where(a == 0, 1.0, a), a / torch.where(b == 0, 1.0, b))
    angle = torch.where(flat, math.pi / 4 * ratio, math.pi / 2 - math.pi / 4 * ratio)
    return 3 + torch.stack([r * angle.cos(), r * angle.sin()], 1)


def stick(u: Uniform) -> Float[Tensor, "n 2"]:
    """From (1, 1) to the disc."""
    along: Tensor = 1 + u * (2 - 0.5**0.5)
    return along.expand(-1, 2)


def dot(u: Uniform) -> Float[Tensor, "n 2"]:
    """The origin."""
    return u.new_zeros(len(u), 2)


def torus(u: Uniform) -> Float[Tensor, "n 3"]:
    """Around the core, at distance 1."""
    a, b = (2 * math.pi * u).unbind(1)
    wide = 10 + b.cos()
    return torch.stack([wide * a.cos(), wide * a.sin(), b.sin()], 1)


def core(u: Uniform) -> Float[Tensor, "n 3"]:
    """The circle of radius 10."""
    a = 2 * math.pi * u[:, 0]
    return torch.stack([10 * a.cos(), 10 * a.sin(), torch.zeros_like(a)], 1)


def roll(u: Uniform) -> Float[Tensor, "n 3"]:
    """The Swiss roll."""
    t = 1.5 * math.pi * (1 + 2 * u[:, 0])
    return torch.stack([t * t.cos(), 21 * u[:, 1], t * t.sin()], 1)


UNIONS = {
    union.name: union
    for union in (
        Union(
            "lollipop",
            2,
            (Piece(2, 4 / 7, disc, (3.0, 3.0)), Piece(1, 2 / 7, stick, (1.83,)), Piece(0, 1 / 7, dot, ())),
            0.01,
        ),
        Union("doughnut", 3, (Piece(2, 0.5, torus, (69.2, 6.3)), Piece(1, 0.5, core, (62.9,))), 0.01),
        Union("swiss-roll", 3, (Piece(2, 1.0, roll, (90.0, 21.0)),), 0.03),
    )
}
