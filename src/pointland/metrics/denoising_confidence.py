r"""Denoising confidence: the size of the guided noise prediction where a generation starts.

One step of the sampler from :math:`x_T = \sigma n` straight to noise 0 gives the guided
:math:`\hat x = D_u + g (D_c - D_u)`; the published white-box score is the mean square of :math:`x_T - \hat x`, that is
:math:`\sigma^2` times the mean square of the guided noise prediction. Here it is the root mean square of that
prediction, near 1 where the guidance adds nothing. The length of the start's own noise is part of it and adds a spread
of :math:`1 / \sqrt{2 d}` a draw, so that in few coordinates it needs many draws.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.lid.estimate import standard_error
from pointland.metrics.captioned import captioned, uncaptioned
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import Column
from pointland.metrics.rms import root_mean_square


@dataclass(frozen=True)
class DenoisingConfidence:
    """Webster's white-box detector at the first sampling step.

    Attributes:
        sigma: The model's highest trained level, where its samplers start.
        guidance: Scale of classifier-free guidance; published with 7.5.
        n_draws: Starts; published with 1.

    Cost:
        ``n_draws`` forward passes a condition, shared with the other signals at the start.
    """

    sigma: float
    guidance: float = 7.5
    n_draws: int = 1

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column, for items with a caption."""
        return (
            Column(
                "denoising_confidence",
                "Denoising confidence at the start",
                "1",
                "high",
                "caption",
                "denoising_confidence_stderr",
                f"Of the caption, not the picture: root mean square of the noise prediction with guidance "
                f"{self.guidance:g}, from pure noise, sigma {self.sigma:.4g}.",
                "Webster 2023, arXiv:2305.08694, white box",
            ),
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image when nothing is shared, 0 without captions."""
        return float(self.n_draws * 2) if n_conditions == 2 else 0.0

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the column from the evaluations at the start."""
        names = ("denoising_confidence", "denoising_confidence_stderr")
        if "conditional" not in batch.conditions:
            return uncaptioned(batch, names)
        found = []
        for draw in range(self.n_draws):
            without = batch.denoised_start("unconditional", self.sigma, draw)
            guided = without + self.guidance * (batch.denoised_start("conditional", self.sigma, draw) - without)
            noise = (batch.start(self.sigma, draw) - guided) / self.sigma
            found.append(root_mean_square(noise))
        stacked = torch.stack(found)
        return captioned(batch, dict(zip(names, (stacked.mean(0), standard_error(stacked)), strict=True)))
