r"""The screen: one network evaluation a picture, to tell which few deserve all the others.

A memorized picture is a fixed point of the denoiser: given the picture itself, not noised, the model returns it. How
far it moves it instead,

.. math:: \|D(x; \sigma) - x\|^2 / \sigma^2 ,

is FLIPD's residual, and the squared score norm times :math:`\sigma^2`. Along a direction in which the data has variance
:math:`l` around its mean it is :math:`l \sigma^2 / (l + \sigma^2)^2` on average, largest at :math:`l = \sigma^2` and 0
for a frozen direction: like the denoising loss it tells what the model leaves free, though not in dimensions. What
makes it the better screen is that it has no noise of its own. One draw of the denoising loss has an error of
:math:`\sqrt{2\,\mathrm{LID}}`, and loses some copies to bad luck; this number needs no draw.

A screen has one threshold for all pictures. It is a quantile of a sample, so that it is known before the first picture
is scored and no picture's fate depends on the order.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pointland.lid.flipd import squared_residual
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import Column

SHARE = 0.1
SAMPLE = 512
FEW = 64
PART = 8  # the sample is at most an eighth of the pictures, so that it costs at most an eighth of a pass


@dataclass(frozen=True)
class Screen:
    """How far the model moves the picture itself, without caption; low is suspicious.

    Attributes:
        sigma: Noise scale in model-space units that the model is told; the audit's.

    Cost:
        One forward pass a picture, captions or not.
    """

    sigma: float

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column."""
        return (
            Column(
                "screen",
                "Residual at the picture",
                "1",
                "low",
                "nothing",
                None,
                f"Squared distance by which the model, told sigma {self.sigma:.4g}, moves the picture itself, over "
                "sigma squared; 0 for a verbatim copy.",
                "Ours; the residual of Kamkari et al. 2024, arXiv:2406.03537",
            ),
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image: one, whatever the number of conditions."""
        return 1.0 + 0.0 * n_conditions

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the column from one call without captions, one row a picture."""
        sigma = torch.tensor([self.sigma], dtype=batch.x.dtype, device=batch.x.device)
        with torch.no_grad():
            denoised = batch.model.unconditional(batch.x, sigma)
        return {"screen": squared_residual(denoised, batch.x, sigma)}


def sample_size(n: int) -> int:
    """Return how many of ``n`` pictures a threshold is taken from: 512, at most an eighth, at least 64 if there are."""
    return min(n, max(FEW, min(SAMPLE, n // PART)))


def threshold(values: Float[Tensor, " n"], *, share: float = SHARE) -> float:
    """Return the value that another picture is at or below with the probability asked for.

    Args:
        values: The column at a random sample of the pictures; values that are not finite are left out.
        share: Of the pictures to keep, above 0 and at most 1. It must exceed the share that may be memorized.

    Returns:
        The ``k``-th smallest of ``n`` values, ``k = ceil(share * (n + 1))``, at most ``n``: a further picture of the
        same kind is kept with probability ``k / (n + 1)``. The share kept of one whole set scatters around that with a
        standard deviation of about ``sqrt(share * (1 - share) / n)``, 1.3 % for 512.

    Raises:
        ValueError: If no value is finite, or the share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share to keep must be above 0 and at most 1, got {share:g}; 0.1 keeps a tenth")
    known = values[values.isfinite()]
    if len(known) == 0:
        raise ValueError("no picture of the sample has a finite value to screen by; load the model in float32")
    k = min(len(known), math.ceil(share * (len(known) + 1)))
    return float(known.kthvalue(k).values)


def suspicious(values: Float[Tensor, " b"], threshold: float) -> Bool[Tensor, " b"]:
    """Say which pictures to look at closely: at or below the threshold, or without a value, which tells nothing."""
    return ~(values > threshold)
