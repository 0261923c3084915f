r"""The guidance norm: how much the caption changes the prediction.

With noise predictions :math:`\hat n = (x - D(x; \sigma)) / \sigma` under the caption and without it, the norm of their
difference is large where the caption pulls towards one picture (Wen et al. 2024). It is given per coordinate (root mean
square), so that it does not grow with the size of the model's space.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.denoiser import per_item
from pointland.lid.estimate import standard_error
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import Column
from pointland.metrics.rms import root_mean_square


@dataclass(frozen=True)
class GuidanceNorm:
    """The guidance norm at a fixed sigma, averaged over draws; free beside the denoising loss with the same settings.

    Attributes:
        sigma: Noise scale in model-space units.
        n_draws: Noise draws an item.
    """

    sigma: float
    n_draws: int = 8

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column, for items with a caption."""
        return (
            Column(
                "guidance_norm",
                "Guidance norm",
                "1",
                "high",
                "caption",
                "guidance_norm_stderr",
                f"Root mean square of conditional minus unconditional noise prediction at sigma {self.sigma:.4g}.",
                "Wen et al. 2024 (ICLR), at noised training pictures",
            ),
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image when nothing is shared: ``n_draws`` a condition, 0 without captions."""
        return float(self.n_draws * 2) if n_conditions == 2 else 0.0

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the column from the denoising loss's evaluations."""
        if "conditional" not in batch.conditions:
            return {}
        norms = torch.stack([root_mean_square(batch.difference(self.sigma, draw)) for draw in range(self.n_draws)])
        return {"guidance_norm": norms.mean(0), "guidance_norm_stderr": standard_error(norms)}


@dataclass(frozen=True)
class EulerGuidanceNorm:
    """The paper's variant for training pictures: a few Euler steps of the probability-flow ODE first.

    From the picture at the lowest trained level, ``n_steps`` equal steps in sigma of ``dx/dsigma = (x - D(x, caption))
    / sigma`` lead to ``sigma``, where the difference of the two scores is taken. The paper steps in the time of its
    SDE, from zero, where the score is singular; in sigma, from the lowest trained level, the same ODE has no singular
    start.

    Attributes:
        sigma: Where the norm is taken; the paper's time 0.01 is sigma 0.045 in its SDE.
        sigma_min: The model's lowest trained level, where the steps start.
        n_steps: Euler steps; the paper takes 3.

    Cost:
        ``n_steps + 1`` network calls of both conditions.
    """

    sigma: float
    sigma_min: float
    n_steps: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma or self.n_steps < 1:
            raise ValueError(
                f"steps lead up from sigma_min {self.sigma_min:.4g} to sigma {self.sigma:.4g} in {self.n_steps}; "
                "need 0 < sigma_min < sigma and at least one step"
            )

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column, for items with a caption."""
        return (
            Column(
                "guidance_norm_euler",
                "Guidance norm after Euler steps",
                "1",
                "high",
                "caption",
                None,
                f"Guidance norm at sigma {self.sigma:.4g} after {self.n_steps} Euler steps of the flow.",
                "Ross et al. 2024, appendix A",
            ),
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image, 0 without captions."""
        return float((self.n_steps + 1) * 2) if n_conditions == 2 else 0.0

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Walk and compute the column."""
        if "conditional" not in batch.conditions:
            return {}
        x = batch.x
        sigmas = torch.linspace(self.sigma_min, self.sigma, self.n_steps + 1, dtype=torch.float64).tolist()
        for now, then in pairwise(sigmas):
            conditional = batch.evaluate(x, now)[1]
            x = x + (then - now) * (x - conditional) / now
        without, conditional = batch.evaluate(x, self.sigma)
        return {
            "guidance_norm_euler": root_mean_square((without - conditional) / per_item(torch.tensor([self.sigma]), x))
        }
