r"""An empirical point set: the perfect memorizer.

The best denoiser for a finite training set puts all its belief on the training points themselves,

.. math:: D(x; \sigma) = \sum_i p_i(x) \, x_i, \qquad p_i(x) \propto w_i \exp(-\|x - x_i\|^2 / 2\sigma^2) ,

so its manifold is a set of points, of dimension 0. A weight stands for the number of copies. For a real data set it is
the lower curve that a model would follow if it memorized everything.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.exact.vectors import as_column, as_vectors

CHUNK_VALUES = 2**22  # float64 values of the point set worked on at a time, 32 MiB


def points(x0: Float[Tensor, "m *event"], weights: Float[Tensor, " m"] | None = None) -> "Points":
    """Make the denoiser that has memorized ``x0``.

    Args:
        x0: The points, shape ``(m, *event)``, kept in their dtype and on their device.
        weights: Copies of each, positive; all 1 if left out.

    Raises:
        ValueError: If there are no points, or a weight is not positive.
    """
    return Points(x0, torch.ones(len(x0), dtype=torch.float64) if weights is None else weights)


@dataclass(frozen=True, eq=False)
class Points:
    """A weighted point set, callable as a denoiser; computes in float64 and answers in the dtype of ``x``.

    Memory beyond the point set is one chunk of points and one number for every pair of item and point. Where a gradient
    is recorded, the graph also keeps a float64 copy of a point set of another dtype.

    Attributes:
        x0: The points, shape ``(m, *event)``.
        weights: Copies of each, positive, shape ``(m,)``.
    """

    x0: Float[Tensor, "m *event"]
    weights: Float[Tensor, " m"]

    def __post_init__(self) -> None:
        if self.x0.ndim < 2 or len(self.x0) == 0:
            raise ValueError(f"a point set has shape (m, *event) with m at least 1, got {tuple(self.x0.shape)}")
        if not bool((self.weights > 0).all()):
            raise ValueError("weights must be positive; leave out points of weight 0")

    def __call__(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
        """Return the posterior mean of the clean point."""
        vectors = as_vectors(x, self.x0[0].numel())
        known = torch.split(self.x0.flatten(1), max(1, CHUNK_VALUES // vectors.shape[1]))
        # -|x - x_i|^2 / 2 without |x|^2, which is the same for every point and drops out
        logs = torch.cat([_closeness(vectors, part.to(vectors)) for part in known], dim=1)
        belief = (logs / as_column(sigma, vectors) ** 2 + self.weights.to(vectors).log()).softmax(1)
        denoised = torch.zeros_like(vectors)
        for part, share in zip(known, torch.split(belief, len(known[0]), dim=1), strict=True):
            denoised = denoised + share @ part.to(vectors)
        return denoised.reshape(x.shape).to(x.dtype)

    def sample(self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Float[Tensor, "{n} *event"]:
        """Return ``n`` of the points, drawn with replacement by weight, on the CPU."""
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(self.weights.cpu().double(), n, replacement=True, generator=generator)
        return self.x0.cpu()[chosen].to(dtype)

    def lid(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
        """Return the true local intrinsic dimension at the points: 0."""
        return x.new_zeros(len(x))


def _closeness(vectors: Float[Tensor, "b d"], part: Float[Tensor, "c d"]) -> Float[Tensor, "b c"]:
    return vectors @ part.T - part.square().sum(1) / 2
