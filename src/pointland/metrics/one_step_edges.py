r"""One-step edges: a memorized prompt's picture stands there after one step of the sampler, whatever the seed.

After a single step from pure noise straight to no noise an ordinary prompt gives a blur; a memorized one gives its
picture, sharp, and the same from every start. The share of pixels that are edges in more than half of the pictures
measures both, from decoded pictures alone.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from pointland.metrics.captioned import captioned, uncaptioned
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import Column

SIDE = 256
THRESHOLD = 1.5


@dataclass(frozen=True)
class OneStepEdges:
    """Webster's black-box detector.

    Attributes:
        sigma: The model's highest trained level, where its samplers start.
        guidance: Scale of classifier-free guidance; published with 7.5.
        n_draws: Starts; published with 4.

    Cost:
        ``n_draws`` forward passes a condition, shared with the other signals at the start, and as many decodings.
    """

    sigma: float
    guidance: float = 7.5
    n_draws: int = 4

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column, for items with a caption."""
        return (
            Column(
                "one_step_edges",
                "Edges shared after one step",
                "1",
                "high",
                "caption",
                None,
                f"Of the caption, not the picture: share of pixels that are edges in more than half of {self.n_draws} "
                f"pictures of one step, from pure noise, sigma {self.sigma:.4g}.",
                "Webster 2023, arXiv:2305.08694, black box",
            ),
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image when nothing is shared, 0 without captions."""
        return float(self.n_draws * 2) if n_conditions == 2 else 0.0

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the column."""
        if "conditional" not in batch.conditions:
            return uncaptioned(batch, ["one_step_edges"])
        maps = []
        for draw in range(self.n_draws):
            without = batch.denoised_start("unconditional", self.sigma, draw)
            guided = without + self.guidance * (batch.denoised_start("conditional", self.sigma, draw) - without)
            maps.append(edges(batch.model.codec.decode(guided)).float())
        shared = torch.stack(maps).mean(0) > 0.5
        return captioned(batch, {"one_step_edges": shared.flatten(1).to(batch.x).mean(-1)})


def edges(images: UInt8[Tensor, "b 3 h w"]) -> Bool[Tensor, "b side side"]:
    """Return where pictures, brought to 256 x 256, have edges: Sobel's magnitude, summed over colors, above 1.5.

    Intensities are from 0 to 1; at the border the picture goes on as it ends.
    """
    scaled = interpolate(images.float() / 255, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    rows = scaled.reshape(-1, 1, SIDE, SIDE)
    across = scaled.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    both = conv2d(pad(rows, (1, 1, 1, 1), mode="replicate"), torch.stack([across, across.T])[:, None])
    magnitude = both.square().sum(1).sqrt().reshape(len(images), 3, SIDE, SIDE).sum(1)
    return magnitude > THRESHOLD
