r"""The guidance norm after one jump: what the caption alone draws from pure noise, looked at up close.

At the start of a generation every caption pulls the mean of what it names away from the mean of everything, and a
rare kind of picture is pulled furthest, memorized or not. So the sampler is let jump once, under the caption without
guidance, from pure noise :math:`x = \sigma n` to a low level :math:`\sigma'`,

.. math:: x' = D_c(x) + \frac{\sigma'}{\sigma} (x - D_c(x)),

where the noise left hides only details. A caption of many pictures has led to their blurred mean, of which the model
says the same with and without the caption; one that names a memorized picture has led to *it*, and the two predictions
part: the caption knows the details, without it they are not known.
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
class GuidanceNormJump:
    """Guidance norm, root mean square an item, after one step of the sampler under the caption.

    Attributes:
        sigma: The model's highest trained level, where its samplers start.
        low: The level jumped to, below ``sigma``.
        n_draws: Starts.

    Cost:
        ``2 n_draws`` forward passes a condition, those at the start shared with the other signals there; without
        these three in all would do.
    """

    sigma: float
    low: float
    n_draws: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.low < self.sigma:
            raise ValueError(f"the level jumped to must lie below the start's {self.sigma:.4g}, got {self.low:.4g}")

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column, for items with a caption."""
        return (
            Column(
                "guidance_norm_jump",
                "Guidance norm after a jump",
                "1",
                "high",
                "caption",
                "guidance_norm_jump_stderr",
                f"Of the caption, not the picture: guidance norm at sigma {self.low:.4g} after one step under the "
                f"caption from pure noise, sigma {self.sigma:.4g}.",
                "this package; the norm is that of Wen et al. 2024 (ICLR)",
            ),
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image when nothing is shared, 0 without captions."""
        return float(2 * self.n_draws * 2) if n_conditions == 2 else 0.0

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the column."""
        names = ("guidance_norm_jump", "guidance_norm_jump_stderr")
        if "conditional" not in batch.conditions:
            return uncaptioned(batch, names)
        norms = torch.stack([self._at(batch, draw) for draw in range(self.n_draws)])
        return captioned(batch, dict(zip(names, (norms.mean(0), standard_error(norms)), strict=True)))

    def _at(self, batch: Evaluations, draw: int) -> Float[Tensor, " b"]:
        start = batch.start(self.sigma, draw)
        landed = batch.denoised_start("conditional", self.sigma, draw)
        without, conditional = batch.evaluate(landed + self.low / self.sigma * (start - landed), self.low)
        return root_mean_square(without - conditional) / self.low
