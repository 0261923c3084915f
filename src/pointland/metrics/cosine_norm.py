r"""Cosine plus norm: how strongly, and in which direction, the caption pulls at pure noise.

The same pure noise is shown to the model as the start of a generation, where the *norm* of the guidance
:math:`\hat n_c - \hat n_u` is taken, and as an almost clean input, where its *cosine* with :math:`\hat n_u` is. In a
network the cosine is taken over channels at every pixel, and averaged over pixels. Such an almost clean input is far
off anything the model was trained on: the number is what the paper defines, not a property of a density.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.lid.estimate import standard_error
from pointland.metrics.captioned import captioned, uncaptioned
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.guidance_start import start_norm
from pointland.metrics.metric import Column

COORDINATES = 16384  # of Stable Diffusion's latents, for which the weights are published


@dataclass(frozen=True)
class CosineNorm:
    """The detector of Asthana and Belagiannis, from two evaluations of pure noise.

    Attributes:
        sigma: The model's highest trained level, where its samplers start.
        low: An almost noiseless level; published with the third from last of 50 DDIM steps, for Stable Diffusion the
            timestep 41, sigma 0.20.
        cosine_weight: Of the cosine beside the norm, in units of Stable Diffusion's norm (128 times the root mean
            square, for its 16,384 coordinates): 2 for version 1.4, 0.1 for version 2, tuned by the authors for each.
        n_draws: Starts; published with 1.

    Cost:
        ``2 n_draws`` forward passes a condition; those at the start are shared with the other signals there.
    """

    sigma: float
    low: float
    cosine_weight: float = 2.0
    n_draws: int = 1

    @property
    def columns(self) -> tuple[Column, ...]:
        """The published sum and the cosine alone, for items with a caption."""
        source = "Asthana & Belagiannis 2026 (ICLR), arXiv:2601.20642"
        return (
            Column(
                "cosine_norm",
                "Cosine plus guidance norm at the start",
                "1",
                "high",
                "caption",
                "cosine_norm_stderr",
                f"Of the caption, not the picture: guidance norm from pure noise at sigma {self.sigma:.4g}, plus "
                f"{self.cosine_weight:g} times the cosine.",
                source,
            ),
            Column(
                "cosine_start",
                "Guidance cosine at pure noise",
                "1",
                "high",
                "caption",
                "cosine_start_stderr",
                f"Of the caption, not the picture: cosine between guidance and unconditional noise prediction, pure "
                f"noise read as sigma {self.low:.4g}.",
                source,
            ),
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image when nothing is shared, 0 without captions."""
        return float(2 * self.n_draws * 2) if n_conditions == 2 else 0.0

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the columns."""
        names = ("cosine_norm", "cosine_start")
        if "conditional" not in batch.conditions:
            return uncaptioned(batch, [f"{name}{end}" for name in names for end in ("", "_stderr")])
        norms = torch.stack([start_norm(batch, self.sigma, draw) for draw in range(self.n_draws)])
        cosines = torch.stack([self._cosine(batch, draw) for draw in range(self.n_draws)])
        sums = COORDINATES**0.5 * norms + self.cosine_weight * cosines
        values: dict[str, Tensor] = {}
        for name, found in zip(names, (sums, cosines), strict=True):
            values |= {name: found.mean(0), f"{name}_stderr": standard_error(found)}
        return captioned(batch, values)

    def _cosine(self, batch: Evaluations, draw: int) -> Float[Tensor, " b"]:
        # what a variance-preserving network sees is then the unit noise itself, whatever the level
        x = (1 + self.low**2) ** 0.5 * batch.noise(draw)
        without, conditional = batch.evaluate(x, self.low)
        cosine: Tensor = torch.nn.functional.cosine_similarity(x - without, without - conditional, dim=1)
        return cosine.reshape(len(x), -1).mean(-1)
