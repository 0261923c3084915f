r"""Five manifolds of known dimension: the suite of Yeats et al. 2025, in the definitions of scikit-dimension.

A point is a smooth function of standard normal parameters :math:`g`, written with :math:`u = \Phi(g)`, uniform on
:math:`(0, 1)`, followed by as many zeros as the space needs:

==========  ===  ===  ============================================================================================
name        LID  d    point
==========  ===  ===  ============================================================================================
sphere      16   64   :math:`g / |g|`, 17 coordinates
ball        16   64   :math:`u_{17}^{1/16} g / |g|`, 16 coordinates
twin-peaks  128  256  :math:`(u, \prod_i \sin 2 \pi u_i)`, 129 coordinates; nearly a cube
clifford    32   128  :math:`(\cos 2 \pi u, \sin 2 \pi u)`, 64 coordinates, a flat torus of 32 circles
nonlinear   32   128  :math:`(a, b, a, b)`, :math:`a_i = \tan(u_i \cos u_{33-i}), b_i = \arctan(u_{33-i} \sin u_i)`
==========  ===  ===  ============================================================================================

The product of 128 sines is below 1e-30. The paper names the manifolds and their dimensions only. This reading is the
one at which model-free estimates agree with those known for the originals: at k = 100 the maximum likelihood estimate
errs by 4.0, 4.5, 84.9, 3.1 and 13.7 (originals 4.0, 4.4, 84.6, 3.3, 13.6), local PCA by 0.6, 0.0, 47.1, 24.1 and 0.9
(0.5, 0.0, 47.2, 24.2, 1.0).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Manifold:
    """A manifold with one known dimension everywhere.

    Attributes:
        name: For tables.
        lid: Its dimension.
        d: Dimensions of the space it lies in.
        n_parameters: Standard normal numbers a point is made of.
        surface: Takes parameters ``(n, n_parameters)`` to points ``(n, at most d)``, smoothly.
    """

    name: str
    lid: int
    d: int
    n_parameters: int
    surface: Callable[[Float[Tensor, "n p"]], Float[Tensor, "n e"]]

    def sample(self, n: int, seed: int, *, rotated: bool = False) -> Float[Tensor, "n d"]:
        """Draw points, divided by the largest standard deviation of a coordinate; float32.

        Args:
            n: Points.
            seed: Of the draw, and of the rotation.
            rotated: Turn the space at random after scaling, so that no coordinate is special.

        Example:
            >>> MANIFOLDS["sphere"].sample(5, seed=0).shape
            torch.Size([5, 64])
        """
        generator = torch.Generator().manual_seed(seed)
        parameters = torch.randn(n, self.n_parameters, generator=generator, dtype=torch.float64)
        flat = self.surface(parameters)
        points = torch.nn.functional.pad(flat / flat.std(0).max(), (0, self.d - flat.shape[1]))
        if rotated:
            points = points @ torch.linalg.qr(torch.randn(self.d, self.d, generator=generator, dtype=torch.float64)).Q
        return points.float()


def sphere(g: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
    """Points of the unit sphere, uniform for normal parameters; one dimension fewer than parameters."""
    return g / g.square().sum(1, keepdim=True).sqrt()


def ball(g: Float[Tensor, "n p"]) -> Float[Tensor, "n e"]:
    """Points of the unit ball, uniform for normal parameters, the last of which is the radius."""
    radius: Tensor = torch.special.ndtr(g[:, -1:]) ** (1 / (g.shape[1] - 1))
    return radius * sphere(g[:, :-1])


def twin_peaks(g: Float[Tensor, "n p"]) -> Float[Tensor, "n e"]:
    """A cube with the product of sines as its height."""
    u = torch.special.ndtr(g)
    return torch.cat([u, (2 * math.pi * u).sin().prod(1, keepdim=True)], 1)


def clifford(g: Float[Tensor, "n p"]) -> Float[Tensor, "n e"]:
    """A flat torus: one circle a parameter."""
    angle = 2 * math.pi * torch.special.ndtr(g)
    return torch.cat([angle.cos(), angle.sin()], 1)


def nonlinear(g: Float[Tensor, "n p"]) -> Float[Tensor, "n e"]:
    """Pairs of parameters on curved surfaces in four dimensions, every coordinate twice (Campadelli et al. 2015)."""
    u = torch.special.ndtr(g)
    other = u.flip(1)
    once = torch.cat([(u * other.cos()).tan(), (other * u.sin()).atan()], 1)
    return torch.cat([once, once], 1)


MANIFOLDS = {
    m.name: m
    for m in (
        Manifold("sphere", 16, 64, 17, sphere),
        Manifold("ball", 16, 64, 17, ball),
        Manifold("twin-peaks", 128, 256, 128, twin_peaks),
        Manifold("clifford", 32, 128, 32, clifford),
        Manifold("nonlinear", 32, 128, 32, nonlinear),
    )
}
