r"""A mixture of Gaussians on affine subspaces of several dimensions: pieces of known and different LID.

The posterior mean is each piece's own, weighted by its responsibility,

.. math::
    D(x; \sigma) = \sum_j r_j(x) \, D_j(x; \sigma), \qquad r_j(x) \propto w_j \, N(x; \mu_j, \Sigma_j + \sigma^2 I) .

Responsibilities are normalized in log space and in float64, and every piece is kept by its axes, so no covariance is
inverted or even formed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pointland.exact.gaussian import Gaussian
from pointland.exact.subspace import subspace
from pointland.exact.vectors import as_vectors, random_axes


def mixture(d: int, dims: Sequence[int] = (2, 4, 8), seed: int = 0, separation: float = 10.0) -> "Mixture":
    """Make a mixture of equally likely planes with unit variances, one for each of ``dims``.

    Args:
        d: Dimensions of the space, at least ``len(dims)``.
        dims: Dimensions of the planes; 0 is a point.
        seed: Of the rotations.
        separation: Distance between any two centers.

    Raises:
        ValueError: If there are more planes than dimensions, or none.
    """
    if not 0 < len(dims) <= d:
        raise ValueError(f"a mixture in {d} dimensions takes 1 to {d} planes, got {len(dims)}")
    centers = separation / 2**0.5 * random_axes(d, len(dims), seed).T
    planes = [subspace(d, k, seed + 1 + j) for j, k in enumerate(dims)]
    pieces = tuple(Gaussian(center, plane.axes, plane.variances) for center, plane in zip(centers, planes, strict=True))
    return Mixture(pieces, (1 / len(pieces),) * len(pieces))


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of Gaussians, callable as a denoiser; computes in float64 and answers in the dtype of ``x``.

    Attributes:
        pieces: The Gaussians, all in one space.
        weights: Their probabilities, positive, of sum 1.
    """

    pieces: tuple[Gaussian, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.pieces) != len(self.weights) or not self.pieces:
            raise ValueError(f"got {len(self.weights)} weights for {len(self.pieces)} pieces; pass one a piece")
        if min(self.weights) <= 0 or abs(sum(self.weights) - 1) > 1e-6:
            raise ValueError(f"weights must be positive and sum to 1, got {self.weights}")

    def __call__(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
        """Return the posterior mean of the clean point."""
        vectors = as_vectors(x, len(self.pieces[0].mean))
        responsible = self.responsibilities(vectors, sigma)
        denoised = torch.stack([piece(vectors, sigma) for piece in self.pieces], dim=1)
        return torch.einsum("bj,bjd->bd", responsible, denoised).reshape(x.shape).to(x.dtype)

    def responsibilities(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b j"]:
        """Return the posterior probability of every piece given the noised point, float64."""
        logs = torch.stack([piece.log_density(x, sigma) for piece in self.pieces], dim=1)
        return (logs + logs.new_tensor(self.weights).log()).softmax(1)

    def component(self, x: Float[Tensor, "b *event"]) -> Int[Tensor, " b"]:
        """Return the index of the piece each clean point lies on: the one its posterior collapses to at small noise."""
        # far above the rounding of float32 points, far below the pieces themselves
        return self.responsibilities(x, x.new_full((1,), 1e-3, dtype=torch.float64)).argmax(1)

    def sample(self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Float[Tensor, "{n} d"]:
        """Return ``n`` clean points on the CPU."""
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(torch.tensor(self.weights), n, replacement=True, generator=generator)
        drawn = torch.stack([piece.sample(n, seed + 1 + j, dtype) for j, piece in enumerate(self.pieces)])
        return drawn[chosen, torch.arange(n)]

    def lid(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
        """Return the true local intrinsic dimension at clean points: that of the piece each lies on."""
        return x.new_tensor([len(piece.variances) for piece in self.pieces])[self.component(x)]
