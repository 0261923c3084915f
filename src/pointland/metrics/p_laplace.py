r"""The 1-Laplacian of the log density: is the picture a sink of the score?

The divergence of the normalized score, averaged over a ball, is its flux through the sphere around it (Gauss). With
points :math:`x_0 + \sigma n`, whose normals are :math:`n / \|n\|`, the flux a unit of area is

.. math:: \mathbb{E}\, \cos\!\big(D(x_0 + \sigma n; \sigma) - x_0 - \sigma n, \; n\big) ,

-1 where every point of the sphere is pulled straight back to :math:`x_0`. On a k-plane in d dimensions noise along the
plane stays, and the flux is about :math:`-\sqrt{1 - k/d}`: it is a local intrinsic dimension, read as an angle.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.lid.estimate import standard_error
from pointland.metrics.captioned import captioned, uncaptioned
from pointland.metrics.evaluations import Condition, Evaluations
from pointland.metrics.metric import NEEDS, WORDS, Column
from pointland.metrics.model_lid import CONDITIONS


@dataclass(frozen=True)
class PLaplace:
    """Brokman's detector (p = 1), at the picture.

    The paper's sphere has the radius ``sigma * sqrt(d)`` exactly; Gaussian draws, whose radius is that up to a relative
    ``1 / sqrt(2 d)``, are the ones of the denoising loss, so that its network calls serve here too.

    Attributes:
        sigma: Noise scale in model-space units: the radius, a coordinate.
        n_draws: Points of the sphere. The authors' code takes 128 by default; a draw's spread is of order
            ``1 / sqrt(d)``, so few do.

    Cost:
        ``n_draws`` forward passes a condition, all of them shared with the denoising loss at the same settings.
    """

    sigma: float
    n_draws: int = 8

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column a condition."""
        return tuple(
            Column(
                f"p_laplace_{condition}",
                f"1-Laplacian {WORDS[condition]}",
                "1",
                "low",
                NEEDS[condition],
                f"p_laplace_{condition}_stderr",
                f"Flux of the normalized score into the picture at sigma {self.sigma:.4g}, {WORDS[condition]}; -1 for "
                "a verbatim copy.",
                "Brokman et al. 2025, arXiv:2505.08246",
            )
            for condition in CONDITIONS
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image when nothing is shared."""
        return float(self.n_draws * n_conditions)

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the columns from the denoising loss's evaluations."""
        out = {}
        for condition in CONDITIONS:
            names = (f"p_laplace_{condition}", f"p_laplace_{condition}_stderr")
            if condition not in batch.conditions:
                out.update(uncaptioned(batch, names))
                continue
            flux = torch.stack([self._flux(batch, condition, draw) for draw in range(self.n_draws)])
            values = dict(zip(names, (flux.mean(0), standard_error(flux)), strict=True))
            out.update(captioned(batch, values) if condition == "conditional" else values)
        return out

    def _flux(self, batch: Evaluations, condition: Condition, draw: int) -> Float[Tensor, " b"]:
        noise = batch.noise(draw)
        pull = batch.denoised(condition, self.sigma, draw) - batch.x - self.sigma * noise
        return torch.nn.functional.cosine_similarity(pull.flatten(1), noise.flatten(1))
