r"""The guidance norm where a generation starts: from pure noise, under the caption.

Published for prompts: it says whether a *caption* calls up something memorized, and nothing of the picture beside it
goes in, so that a caption's copies all have its value, whatever their pictures.
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
class GuidanceNormStart:
    """Wen's detector at the first sampling step.

    Root mean square of conditional minus unconditional noise prediction, an item at a time; the published norm is this
    times the square root of the number of coordinates, and in the released code the norm of a whole batch.

    Attributes:
        sigma: The model's highest trained level, where its samplers start.
        n_draws: Starts; published with 1 to 4 (and up to 16), best with 4.

    Cost:
        ``n_draws`` forward passes a condition, shared with the other signals at the start.
    """

    sigma: float
    n_draws: int = 4

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column, for items with a caption."""
        return (
            Column(
                "guidance_norm_start",
                "Guidance norm at the start",
                "1",
                "high",
                "caption",
                "guidance_norm_start_stderr",
                f"Of the caption, not the picture: root mean square of conditional minus unconditional noise "
                f"prediction from pure noise, sigma {self.sigma:.4g}.",
                "Wen et al. 2024 (ICLR), first step",
            ),
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image when nothing is shared, 0 without captions."""
        return float(self.n_draws * 2) if n_conditions == 2 else 0.0

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the column from the evaluations at the start."""
        names = ("guidance_norm_start", "guidance_norm_start_stderr")
        if "conditional" not in batch.conditions:
            return uncaptioned(batch, names)
        norms = torch.stack([start_norm(batch, self.sigma, draw) for draw in range(self.n_draws)])
        return captioned(batch, dict(zip(names, (norms.mean(0), standard_error(norms)), strict=True)))


def start_norm(batch: Evaluations, sigma: float, draw: int) -> Float[Tensor, " b"]:
    """Return the root mean square difference of the two noise predictions at one start."""
    gap = batch.denoised_start("unconditional", sigma, draw) - batch.denoised_start("conditional", sigma, draw)
    return root_mean_square(gap) / sigma
