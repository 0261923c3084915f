r"""Sharpness: the curvature that the caption adds, along the direction in which it pulls.

With the scores :math:`s = (D - x) / \sigma^2` and their Jacobians, the Hessians :math:`H = (J_D - I) / \sigma^2` of the
log density, under the caption (c) and without (u),

.. math:: \|(H_c - H_u)(s_c - s_u)\| = \frac{\|(J_c - J_u)(D_c - D_u)\|}{\sigma^4}

takes one Jacobian product of both conditions at once. It is published in the variance-preserving coordinate
:math:`x_t = x / \sqrt{1 + \sigma^2}`, in which score and Hessian gain one and two factors :math:`\sqrt{1 + \sigma^2}`;
so does the number here.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import derivatives
from pointland.denoiser import per_item
from pointland.derivatives import Derivative
from pointland.lid.estimate import standard_error
from pointland.metrics.captioned import captioned, uncaptioned
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import Column
from pointland.metrics.rms import root_mean_square


@dataclass(frozen=True)
class Sharpness:
    """Jeon's detector at the first sampling step, root mean square an item.

    Attributes:
        sigma: The model's highest trained level, where its samplers start.
        n_draws: Starts; published with 1 and 4, best with 4.
        derivative: How the product is taken. The paper's is ``jvp``; the default runs through every attention kernel
            and gives the product with the transposed Jacobian, the same for a true Hessian, which is symmetric.

    Cost:
        A forward pass and a Jacobian product (one more, and its value) a draw and condition: ``3 n_draws``, of which
        the first is shared with the other signals at the start.
    """

    sigma: float
    n_draws: int = 4
    derivative: Derivative = "vjp"

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column, for items with a caption."""
        return (
            Column(
                "sharpness",
                "Sharpness at the start",
                "1",
                "high",
                "caption",
                "sharpness_stderr",
                f"Of the caption, not the picture: norm of the Hessian difference times the score difference, from "
                f"pure noise, sigma {self.sigma:.4g}.",
                "Jeon et al. 2025 (ICML), arXiv:2412.04140",
            ),
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image when nothing is shared, 0 without captions."""
        return float(3 * self.n_draws * 2) if n_conditions == 2 else 0.0

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the column, one Jacobian product of both conditions a draw."""
        names = ("sharpness", "sharpness_stderr")
        if "conditional" not in batch.conditions:
            return uncaptioned(batch, names)
        found = torch.stack([self._at(batch, draw) for draw in range(self.n_draws)])
        return captioned(batch, dict(zip(names, (found.mean(0), standard_error(found)), strict=True)))

    def _at(self, batch: Evaluations, draw: int) -> Float[Tensor, " b"]:
        x = batch.start(self.sigma, draw)
        conditional, without = (
            batch.denoised_start(condition, self.sigma, draw) for condition in ("conditional", "unconditional")
        )
        pull = conditional - without
        size = root_mean_square(pull)
        # of unit size, because a finite difference steps along it; an item without a caption has none
        direction = pull / per_item(torch.where(size > 0, size, 1.0), pull)
        both = derivatives.products(
            batch.denoise,
            torch.cat([x, x]),
            x.new_tensor([self.sigma]),
            probes=torch.cat([direction, direction])[None],
            method=self.derivative,
        )
        flat, curved = both.products[0].chunk(2)
        preserving: float = (1 + self.sigma**2) ** 1.5
        return root_mean_square(curved - flat) * size * (preserving / self.sigma**4)
