r"""Freedom at the start: how many dimensions a caption leaves open where a generation starts, and FLIPD there.

If what a caption names spreads with variances :math:`\lambda_i`, the trace of its denoiser's Jacobian is
:math:`\sum_i \lambda_i / (\lambda_i + \sigma^2)`, near 0 when the caption names one picture. The trace without caption,
from the same start and the same probes, is that of everything the model knows: their difference has less of both
draws' chance. FLIPD of the guided denoiser adds the size of the guided noise prediction to the trace of the whole of
it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import derivatives
from pointland.derivatives import Derivative
from pointland.lid.estimate import standard_error
from pointland.lid.flipd import squared_residual
from pointland.metrics.captioned import captioned, uncaptioned
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import Column


@dataclass(frozen=True)
class FreedomStart:
    """Traces at the first sampling step, with caption and without.

    Attributes:
        sigma: The model's highest trained level, where its samplers start.
        guidance: Scale of classifier-free guidance, of FLIPD.
        n_probes: Sign probes of the traces.
        derivative: How the products are taken; see :mod:`pointland.derivatives`.

    Cost:
        ``1 + n_probes`` forward passes a condition.
    """

    sigma: float
    guidance: float = 7.5
    n_probes: int = 1
    derivative: Derivative = "vjp"

    @property
    def columns(self) -> tuple[Column, ...]:
        """The trace with caption, that minus the one without, and FLIPD of the guided denoiser."""
        end = f"from pure noise, sigma {self.sigma:.4g}."
        of = "Of the caption, not the picture: "
        return (
            Column(
                "freedom_start",
                "Freedom at the start",
                "dimensions",
                "low",
                "caption",
                "freedom_start_stderr",
                f"{of}trace of the denoiser's Jacobian under the caption, {end}",
                "this package",
            ),
            Column(
                "freedom_gap_start",
                "Freedom at the start, minus that without caption",
                "dimensions",
                "low",
                "caption",
                "freedom_gap_start_stderr",
                f"{of}what the caption takes from the trace of the denoiser's Jacobian, {end}",
                "this package",
            ),
            Column(
                "flipd_start",
                "FLIPD at the start",
                "dimensions",
                "low",
                "caption",
                "flipd_start_stderr",
                f"{of}FLIPD of the denoiser with guidance {self.guidance:g}, {end}",
                "Ross et al. 2025 (ICLR), arXiv:2411.00113, with the whole trace",
            ),
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image when nothing is shared, 0 without captions."""
        return float(2 * (1 + self.n_probes)) if n_conditions == 2 else 0.0

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the columns from the products at the start."""
        names = [f"{column.name}{end}" for column in self.columns for end in ("", "_stderr")]
        if "conditional" not in batch.conditions:
            return uncaptioned(batch, names)
        x = batch.start(self.sigma, 0)
        sigma, probes = x.new_tensor([self.sigma]), batch.probes(self.n_probes)
        both = derivatives.products(
            batch.denoise, torch.cat([x, x]), sigma, probes=torch.cat([probes, probes], 1), method=self.derivative
        )
        (plain, bound), (rows, bound_rows) = both.denoised.chunk(2), both.products.chunk(2, dim=1)
        without, free = derivatives.quadratic(probes, rows), derivatives.quadratic(probes, bound_rows)
        gap = free - without
        residual = squared_residual(plain + self.guidance * (bound - plain), x, sigma)
        found: dict[str, Tensor] = {}
        for column, estimates in zip(self.columns, (free, gap, without + self.guidance * gap + residual), strict=True):
            found |= {column.name: estimates.mean(0), f"{column.name}_stderr": standard_error(estimates)}
        return captioned(batch, found)
