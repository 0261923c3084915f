"""The model's LID minus that of a reference model: the base of a fine-tune, or an early checkpoint.

A simple picture has a low LID under both, so the difference leaves its simplicity out; what the fine-tuning froze
remains. Both models see the same noises, so that the difference has less of them.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.lid.denoising_loss import DenoisingLoss, from_losses
from pointland.lid.flipd import squared_residual
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import Column
from pointland.model import Model

GAP = "lid_gap_unconditional"


@dataclass(frozen=True)
class ModelGap:
    """The denoising loss under the audited model minus that under a reference model, without caption.

    Attributes:
        estimator: The denoising loss's settings.
        reference: The other model; it must diffuse in the same space.

    Cost:
        ``n_draws`` forward passes of the reference model, beside the audited model's own.
    """

    estimator: DenoisingLoss
    reference: Model = field(repr=False)

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column."""
        return (
            Column(
                GAP,
                "LID minus the reference model's",
                "dimensions",
                "low",
                "nothing",
                f"{GAP}_stderr",
                f"Denoising loss at sigma {self.estimator.sigma:.4g} minus that of "
                f"{self.reference.identity['name']}: what training since then froze.",
                "Ours, from Ross et al. 2024 and Yeats et al. 2025",
            ),
        )

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the column.

        Raises:
            ValueError: If the two models do not diffuse in the same space.
        """
        theirs = self.reference.codec.encode(batch.images)
        if theirs.shape != batch.x.shape:
            raise ValueError(
                f"the reference model diffuses in {self.reference.codec.space}, the audited one in "
                f"{batch.model.codec.space}; dimensions compare in one space only: give the model it was tuned from"
            )
        level = torch.tensor([self.estimator.sigma], dtype=batch.x.dtype, device=batch.x.device)
        gaps = []
        with torch.no_grad():
            for draw in range(self.estimator.n_draws):
                noised = theirs + self.estimator.sigma * batch.noise(draw)
                mine = squared_residual(batch.denoised("unconditional", self.estimator.sigma, draw), batch.x, level)
                gaps.append(mine - squared_residual(self.reference.unconditional(noised, level), theirs, level))
        found = from_losses(torch.stack(gaps))
        return {GAP: found.value, f"{GAP}_stderr": found.stderr}
