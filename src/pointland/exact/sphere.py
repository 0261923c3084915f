r"""The unit sphere with the uniform density: a curved manifold of any dimension with a closed form.

For :math:`u` uniform on the :math:`k`-sphere in :math:`p = k + 1` dimensions and :math:`x = u + \sigma n` the posterior
is von Mises-Fisher with concentration :math:`\kappa = \|x\| / \sigma^2`, so

.. math::
    D(x; \sigma) = A_p(\kappa) \frac{x}{\|x\|}, \qquad A_p(\kappa) = \frac{I_{p/2}(\kappa)}{I_{p/2-1}(\kappa)} .

The ratio of Bessel functions comes from its backward recurrence, started between the bounds of Amos, where the error is
of third order in :math:`1 / \kappa`; nothing overflows, and it can be differentiated.

Source: Mardia & Jupp 2000, *Directional Statistics*, section 9.3.2; Amos 1974, *Computation of Modified Bessel
Functions and Their Ratios*, for the bound.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.exact.vectors import as_column, as_vectors, random_axes

TERMS = 200


def sphere(k: int, d: int, seed: int = 0) -> "Sphere":
    """Make a randomly turned unit ``k``-sphere around the origin of ``d`` dimensions.

    Args:
        k: Dimension of the sphere, at least 1.
        d: Dimensions of the space, more than ``k``.
        seed: Of the rotation.

    Raises:
        ValueError: If ``k`` is not in ``1 .. d - 1``.
    """
    if not 1 <= k < d:
        raise ValueError(f"a {k}-sphere does not fit into {d} dimensions; k must be in 1 .. {d - 1}")
    return Sphere(random_axes(d, k + 1, seed))


@dataclass(frozen=True, eq=False)
class Sphere:
    """The uniform density on a unit sphere, callable as a denoiser; float64 inside, the dtype of ``x`` outside.

    Attributes:
        axes: Orthonormal columns that span the sphere's space, shape ``(d, k + 1)``.
    """

    axes: Float[Tensor, "d p"]

    def __call__(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
        """Return the posterior mean of the clean point, which lies inside the sphere."""
        vectors = as_vectors(x, len(self.axes))
        axes = self.axes.to(vectors)
        eta = vectors @ axes / as_column(sigma, vectors) ** 2
        # the ratio over kappa tends to 1 / p at 0; the floor keeps its value and its derivative there
        kappa = eta.square().sum(1, keepdim=True).clamp_min(1e-24).sqrt()
        return ((bessel_ratio(axes.shape[1], kappa) / kappa * eta) @ axes.T).reshape(x.shape).to(x.dtype)

    def sample(self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Float[Tensor, "{n} d"]:
        """Return ``n`` clean points on the CPU."""
        generator = torch.Generator().manual_seed(seed)
        points = torch.randn(n, self.axes.shape[1], generator=generator, dtype=torch.float64)
        return (torch.nn.functional.normalize(points, dim=1) @ self.axes.cpu().double().T).to(dtype)

    def lid(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
        """Return the true local intrinsic dimension at clean points: ``k``."""
        return x.new_full((len(x),), self.axes.shape[1] - 1.0)


def bessel_ratio(p: int, kappa: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Return ``I_{p/2}(kappa) / I_{p/2-1}(kappa)`` for positive ``kappa``, in (0, 1); relative error below 1e-9."""
    order = p / 2 - 1 + TERMS
    ratio = kappa / (order + 0.5 + ((order + 0.5) * (order + 1.5) + kappa**2).sqrt())
    for step in range(TERMS):
        ratio = 1 / (2 * (order - step) / kappa + ratio)
    return ratio
