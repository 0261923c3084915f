r"""A Gaussian, of full rank or on an affine subspace: the denoiser is linear.

With mean :math:`\mu`, orthonormal axes :math:`u_i` and variances :math:`l_i > 0` (a missing axis has variance 0),

.. math:: D(x; \sigma) = \mu + \sum_i \frac{l_i}{l_i + \sigma^2} \, u_i u_i^\top (x - \mu) .

The trace of its Jacobian is the *soft count* :math:`\sum_i l_i / (l_i + \sigma^2)`, which tends to the number of axes
as :math:`\sigma \to 0`. It is also the expected denoising loss,
:math:`\mathbb{E} \|D(x_0 + \sigma n; \sigma) - x_0\|^2 / \sigma^2`.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.exact.vectors import as_column, as_vectors, normal_vectors


def gaussian(covariance: Float[Tensor, "d d"], mean: Float[Tensor, " d"] | None = None) -> "Gaussian":
    """Make a Gaussian of any covariance.

    Args:
        covariance: Symmetric, positive semidefinite. Eigenvalues below ``1e-12`` of the largest (``1e-6`` unless
            float64) count as zero.
        mean: Its center; the origin if left out.

    Raises:
        ValueError: If the covariance is not symmetric or has a negative eigenvalue.
    """
    matrix = covariance.detach().to("cpu", torch.float64)
    values, vectors = torch.linalg.eigh(matrix)
    rounding = 1e-12 if covariance.dtype == torch.float64 else 1e-6
    floor = rounding * float(matrix.abs().max())
    if float((matrix - matrix.T).abs().max()) > floor or float(values.min()) < -floor * len(matrix):
        raise ValueError("a covariance must be symmetric with no negative eigenvalue; pass A @ A.T")
    kept = values > rounding * values.max().clamp_min(0)
    center = torch.zeros(len(matrix)) if mean is None else mean.detach()
    return Gaussian(center.to("cpu", torch.float64), vectors[:, kept], values[kept])


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian given by its axes, callable as a denoiser in the space of ``d`` dimensions, items of any shape.

    Computes in float64 and answers in the dtype of ``x``.

    Attributes:
        mean: Center, shape ``(d,)``.
        axes: Orthonormal columns, shape ``(d, k)``; ``k`` may be 0, a point mass.
        variances: Positive variance along each axis, shape ``(k,)``.
    """

    mean: Float[Tensor, " d"]
    axes: Float[Tensor, "d k"]
    variances: Float[Tensor, " k"]

    def __post_init__(self) -> None:
        if not bool((self.variances > 0).all()):
            raise ValueError(f"variances must be positive, got {self.variances.tolist()}; leave out flat axes")

    def __call__(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
        """Return the posterior mean of the clean point."""
        vectors = as_vectors(x, len(self.mean))
        axes, gain = self.axes.to(vectors), self._gain(as_column(sigma, vectors))
        center = self.mean.to(vectors)
        return (center + ((vectors - center) @ axes * gain) @ axes.T).reshape(x.shape).to(x.dtype)

    def log_density(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, " b"]:
        """Return the log density of noised data, in nats, float64."""
        vectors = as_vectors(x, len(self.mean))
        axes, column = self.axes.to(vectors), as_column(sigma, vectors)
        offset = vectors - self.mean.to(vectors)
        along = offset @ axes
        across = (offset - along @ axes.T) / column  # subtracting |along|^2 from |offset|^2 would cancel at small sigma
        total = self.variances.to(vectors) + column**2
        d, k = self.axes.shape
        logs = total.log().sum(-1) + (d - k) * 2 * column[:, 0].log() + d * math.log(2 * math.pi)
        return -0.5 * ((along**2 / total).sum(-1) + across.square().sum(-1) + logs)

    def sample(self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Float[Tensor, "{n} d"]:
        """Return ``n`` clean points on the CPU; on a plane they are exact to the rounding of ``dtype``."""
        along = normal_vectors(n, len(self.variances), seed) * self.variances.cpu().double().sqrt()
        return (self.mean.cpu().double() + along @ self.axes.cpu().double().T).to(dtype)

    def lid(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
        """Return the true local intrinsic dimension at clean points: the number of axes."""
        return x.new_full((len(x),), len(self.variances))

    def soft_count(self, sigma: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the dimension seen at scale ``sigma``: the trace of the Jacobian and the expected denoising loss."""
        return self._gain(sigma.double()[:, None]).sum(-1).to(sigma.dtype)

    def _gain(self, column: Float[Tensor, "b 1"]) -> Float[Tensor, "b k"]:
        variances = self.variances.to(column)
        return variances / (variances + column**2)
