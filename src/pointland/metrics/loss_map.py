"""Where in a picture the model leaves freedom and where it is frozen: the denoising loss by place.

The denoising loss is a sum over places, so its terms say where the dimensions are. A template copy, a picture whose
background was seen many times with other foregrounds, is frozen in one part only: the whole sum hides it, the map does
not.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from pointland.lid.denoising_loss import DenoisingLoss
from pointland.lid.places import residual_by_place
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import Column

CELLS = 8


@dataclass(frozen=True)
class LossMap:
    """The denoising loss without caption on a grid of 8 x 8 cells; free beside the loss with the same settings.

    Attributes:
        estimator: The denoising loss's settings.
    """

    estimator: DenoisingLoss

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column of 64 numbers, row by row."""
        return (
            Column(
                "loss_map_unconditional",
                "Map of the denoising loss",
                "dimensions",
                "neither",
                "nothing",
                None,
                f"The denoising loss at sigma {self.estimator.sigma:.4g} by place; the 64 cells sum to it.",
                "Ours, from Yeats et al. 2025, arXiv:2510.12975",
                CELLS * CELLS,
            ),
        )

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"] | Float[Tensor, "b parts"]]:
        """Compute the map; nothing where the model's space is no grid."""
        if batch.x.ndim != 4:
            return {}
        sigma, n = self.estimator.sigma, self.estimator.n_draws
        scale = batch.x.new_tensor([sigma])
        squares = torch.stack(
            [residual_by_place(batch.denoised("unconditional", sigma, draw), batch.x, scale) for draw in range(n)]
        )
        return {"loss_map_unconditional": cells(squares.mean(0))}


def cells(squares: Float[Tensor, "b h w"]) -> Float[Tensor, "b 64"]:
    """Gather a map into 8 x 8 cells whose sum is the map's."""
    pooled = adaptive_avg_pool2d(squares[:, None], CELLS).flatten(1)
    return pooled * (squares.flatten(1).sum(1) / pooled.sum(1).clamp(min=1e-30))[:, None]
