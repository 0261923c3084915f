r"""A ``k``-plane with Gaussian coordinates: the simplest manifold of known dimension.

Points are :math:`x_0 = \mu + U z` with orthonormal columns :math:`U \in \mathbb{R}^{d \times k}` and independent
:math:`z_i \sim N(0, l_i)`: a :class:`~pointland.exact.gaussian.Gaussian` of rank ``k``, whose denoiser lets the plane
through and drops everything across it.
"""

from collections.abc import Sequence

import torch

from pointland.exact.gaussian import Gaussian
from pointland.exact.vectors import normal_vectors, random_axes


def subspace(
    d: int = 20, k: int = 5, seed: int = 0, *, variances: Sequence[float] | None = None, shift: float = 1.0
) -> Gaussian:
    """Make a randomly turned and shifted plane of ``k`` dimensions in ``d``.

    Args:
        d: Dimensions of the space.
        k: Dimensions of the plane; 0 is a point.
        seed: Of the rotation and the shift.
        variances: One an axis; all 1 if left out.
        shift: Standard deviation of every coordinate of the center; 0 for a plane through the origin.

    Raises:
        ValueError: If the number of variances is not ``k``.
    """
    if variances is not None and len(variances) != k:
        raise ValueError(f"a plane of {k} dimensions takes {k} variances, got {len(variances)}")
    along = torch.ones(k, dtype=torch.float64) if variances is None else torch.tensor(list(variances)).double()
    return Gaussian(shift * normal_vectors(1, d, seed + 1)[0], random_axes(d, k, seed), along)
