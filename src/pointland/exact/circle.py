r"""The unit circle with a von Mises density: a curved manifold of dimension 1 with a closed form.

The density of the angle is :math:`\propto e^{\kappa \cos\theta}` along the first of two orthonormal axes. Given
:math:`x = u(\theta) + \sigma n` the posterior of the angle is von Mises again, with natural parameter

.. math::
    \eta = \kappa \, e_1 + x / \sigma^2, \qquad
    D(x; \sigma) = \frac{I_1(\|\eta\|)}{I_0(\|\eta\|)} \frac{\eta}{\|\eta\|} .

Bessel functions are taken in their exponentially scaled form, which does not overflow at small noise. The ratio's
derivative cancels, so the Jacobian's absolute error is about :math:`10^{-16} / \sigma^2`.

Source: Mardia & Jupp 2000, *Directional Statistics*, section 3.5.4, for the mean of the von Mises distribution.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pointland.exact.vectors import as_column, as_vectors, random_axes


def circle(concentration: float = 2.0, d: int = 2, seed: int = 0) -> "Circle":
    r"""Make a randomly turned unit circle around the origin of ``d`` dimensions.

    Args:
        concentration: :math:`\kappa`; 0 is uniform.
        d: Dimensions of the space, at least 2.
        seed: Of the rotation.
    """
    return Circle(concentration, random_axes(d, 2, seed))


@dataclass(frozen=True, eq=False)
class Circle:
    """A von Mises density on the unit circle, callable as a denoiser; float64 inside, the dtype of ``x`` outside.

    Attributes:
        concentration: Not negative; 0 is uniform.
        axes: Orthonormal columns that span the circle's plane, the densest point first, shape ``(d, 2)``.
    """

    concentration: float
    axes: Float[Tensor, "d 2"]

    def __post_init__(self) -> None:
        if self.concentration < 0:
            raise ValueError(f"concentration must not be negative, got {self.concentration}; turn the axes instead")

    def __call__(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
        """Return the posterior mean of the clean point, which lies inside the circle."""
        vectors = as_vectors(x, len(self.axes))
        axes = self.axes.to(vectors)
        eta = vectors @ axes / as_column(sigma, vectors) ** 2 + vectors.new_tensor([self.concentration, 0.0])
        # the ratio over r tends to 1/2 at r = 0; the floor keeps its value and its derivative there
        r = eta.square().sum(1, keepdim=True).clamp_min(1e-30).sqrt()
        shrink: Tensor = torch.special.i1e(r) / torch.special.i0e(r) / r
        return ((shrink * eta) @ axes.T).reshape(x.shape).to(x.dtype)

    def sample(self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Float[Tensor, "{n} d"]:
        """Return ``n`` clean points on the CPU."""
        angle = torch.from_numpy(np.random.default_rng(seed).vonmises(0.0, self.concentration, n))
        return (torch.stack([angle.cos(), angle.sin()], dim=1) @ self.axes.cpu().double().T).to(dtype)

    def lid(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
        """Return the true local intrinsic dimension at clean points: 1."""
        return x.new_ones(len(x))
