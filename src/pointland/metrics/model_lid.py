"""The model's local intrinsic dimension as audit columns: FLIPD and the denoising loss, with and without caption."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.lid.denoising_loss import DenoisingLoss, from_losses
from pointland.lid.flipd import Flipd, from_products, squared_residual
from pointland.metrics.evaluations import Condition, Evaluations
from pointland.metrics.metric import NEEDS, WORDS, Column

CONDITIONS: tuple[Condition, ...] = ("unconditional", "conditional")


@dataclass(frozen=True)
class FlipdColumns:
    """FLIPD (see :mod:`pointland.lid.flipd`) and, from the same evaluation, the norm of the score at the picture.

    Attributes:
        estimator: FLIPD's settings; its seed is the audit's.

    Cost:
        ``1 + n_probes`` forward passes a condition.
    """

    estimator: Flipd

    @property
    def columns(self) -> tuple[Column, ...]:
        """FLIPD and score norm, one of each a condition."""
        at = f"at sigma {self.estimator.sigma:.4g}"
        return tuple(
            column
            for condition in CONDITIONS
            for column in (
                Column(
                    f"flipd_{condition}",
                    f"FLIPD {WORDS[condition]}",
                    "dimensions",
                    "low",
                    NEEDS[condition],
                    f"flipd_{condition}_stderr",
                    f"Local intrinsic dimension of the model {at}, {WORDS[condition]}; ranks, may be negative.",
                    "Kamkari et al. 2024, arXiv:2406.03537",
                ),
                Column(
                    f"score_norm_{condition}",
                    f"Score norm {WORDS[condition]}",
                    "1/x",
                    "neither",
                    NEEDS[condition],
                    None,
                    f"Norm of the gradient of the log density {at}: small on the model's manifold, large off it.",
                    "Ross et al. 2024, section 4",
                ),
            )
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image, a Jacobian product counted as one more; infinite for the exact trace."""
        n_probes = self.estimator.n_probes
        return math.inf if n_probes == "exact" else float((1 + n_probes) * n_conditions)

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the columns from one Jacobian evaluation a condition."""
        settings = self.estimator
        if settings.n_probes == "exact":
            raise ValueError("an audit needs a number of probes, got 'exact'; use Flipd alone for the exact trace")
        sigma = torch.tensor([settings.sigma], dtype=batch.x.dtype, device=batch.x.device)
        out = {}
        for condition in batch.conditions:
            found = batch.products(condition, settings.sigma, settings.n_probes, settings.derivative)
            estimate = from_products(batch.x, sigma, batch.probes(settings.n_probes), found)
            out[f"flipd_{condition}"] = estimate.value
            out[f"flipd_{condition}_stderr"] = estimate.stderr
            out[f"score_norm_{condition}"] = estimate.parts["residual"].sqrt() / settings.sigma
        return out


@dataclass(frozen=True)
class DenoisingLossColumns:
    """The denoising loss (see :mod:`pointland.lid.denoising_loss`), the default signal of an audit.

    Attributes:
        estimator: Its settings; its seed is the audit's.

    Cost:
        ``n_draws`` forward passes a condition.
    """

    estimator: DenoisingLoss

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column a condition."""
        return tuple(
            Column(
                f"denoising_loss_{condition}",
                f"Denoising loss {WORDS[condition]}",
                "dimensions",
                "low",
                NEEDS[condition],
                f"denoising_loss_{condition}_stderr",
                f"Directions in which the model lets the picture vary by more than sigma {self.estimator.sigma:.4g}, "
                f"{WORDS[condition]}; 0 for a verbatim copy.",
                "Yeats et al. 2025, arXiv:2510.12975",
            )
            for condition in CONDITIONS
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image."""
        return float(self.estimator.n_draws * n_conditions)

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the columns from ``n_draws`` evaluations."""
        sigma = torch.tensor([self.estimator.sigma], dtype=batch.x.dtype, device=batch.x.device)
        out = {}
        for condition in batch.conditions:
            losses = [
                squared_residual(batch.denoised(condition, self.estimator.sigma, draw), batch.x, sigma)
                for draw in range(self.estimator.n_draws)
            ]
            estimate = from_losses(torch.stack(losses))
            out[f"denoising_loss_{condition}"] = estimate.value
            out[f"denoising_loss_{condition}_stderr"] = estimate.stderr
        return out
