r"""The critical scale: the largest noise at which the picture is still a fixed point of the denoiser.

Iterating :math:`x \mapsto D(x; \sigma)` at one :math:`\sigma` climbs the density of the data smoothed by that noise. A
picture stays where it is a mode of its own, and drifts off to the mean of its neighbours where it has merged with them.
For the perfect memorizer of two points with gap :math:`g` the offset :math:`v` from half way, in units of
:math:`g / 2`, obeys :math:`v = \tanh(v g^2 / 4 \sigma^2)`, which has a solution beside 0 exactly for
:math:`\sigma < g / 2`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.metrics.captioned import captioned, uncaptioned
from pointland.metrics.crossing import check_ladder, largest_within
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import NEEDS, WORDS, Column
from pointland.metrics.model_lid import CONDITIONS
from pointland.metrics.rms import root_mean_square


@dataclass(frozen=True)
class CriticalScale:
    """The detector of Lopez Amado and others, from the picture itself, without noise.

    What counts as keeping the picture, the tolerance, is our choice, and so is reading the published 16 as iterations.
    The paper's signed gap between right and swapped caption is not among the columns; the difference of the two here is
    its counterpart without the swap.

    Attributes:
        sigmas: Scales to try, ascending; take :func:`~pointland.metrics.crossing.ladder`, published with 12 to 24.
        n_iterations: Of the denoiser at each scale; published with 16.
        tolerance: What counts as kept: root mean square distance to the picture, in units of ``scale``.
        scale: Standard deviation of the data in model space: 1 for scaled latents, about 0.5 for pixels in [-1, 1].

    Cost:
        ``len(sigmas) * n_iterations`` forward passes a condition, no gradient.
    """

    sigmas: tuple[float, ...]
    n_iterations: int = 16
    tolerance: float = 0.3
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_ladder(self.sigmas, self.tolerance, self.scale)
        if self.n_iterations < 1:
            raise ValueError(f"the critical scale needs at least one iteration, got {self.n_iterations}")

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column a condition."""
        return tuple(
            Column(
                f"critical_scale_{condition}",
                f"Critical scale {WORDS[condition]}",
                "x",
                "high",
                NEEDS[condition],
                None,
                f"Largest noise, up to sigma {self.sigmas[-1]:.4g}, at which {self.n_iterations} iterations of the "
                f"denoiser keep the picture {WORDS[condition]}.",
                "Lopez Amado et al. 2026",
            )
            for condition in CONDITIONS
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image."""
        return float(len(self.sigmas) * self.n_iterations * n_conditions)

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Iterate at every scale and read the columns off."""
        n = len(batch.conditions)
        x0 = batch.x.repeat(n, *(1,) * (batch.x.ndim - 1))
        rungs = []
        for sigma in self.sigmas:
            x = x0
            with torch.no_grad():
                for _ in range(self.n_iterations):
                    x = batch.denoise(x, x.new_tensor([sigma]))
            rungs.append(root_mean_square(x - x0) / self.scale)
        found = largest_within(self.sigmas, torch.stack(rungs), self.tolerance).chunk(n)
        out = {f"critical_scale_{c}": value for c, value in zip(batch.conditions, found, strict=True)}
        if n == 1:
            return out | uncaptioned(batch, ["critical_scale_conditional"])
        without = f"critical_scale_{CONDITIONS[0]}"
        return {without: out.pop(without), **captioned(batch, out)}
