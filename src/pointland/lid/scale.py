r"""Choosing sigma: the scale at which "dimension" is meant.

Every LID of a trained network is a count of directions *wider than sigma*. Too small a sigma and the network, which
never resolved that scale, counts all directions; too large and everything looks like a point. The paper's setting is
time 0.1 of its SDE, sigma 0.34. The automatic choice sweeps the model's levels on a sample of pictures and takes the
sigma at which they are told apart best: the largest *resolution*, the spread between pictures in units of one picture's
Monte-Carlo error,

.. math:: R(\sigma) = \operatorname{IQR}_i(\hat{\mathrm{LID}}_i) / (1.349 \operatorname{median}_i \mathrm{stderr}_i) .

It looks at no label, no reference and no threshold, and treats all pictures alike, so it leaves the p-values of a
verdict valid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.denoiser import Denoiser
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.noise import Levels, sigma_of_time

PAPER_SIGMA = sigma_of_time(0.1)
PAPER_EULER_SIGMA = sigma_of_time(0.01)


@dataclass(frozen=True, eq=False)
class Sweep:
    """LID against sigma on a sample.

    Attributes:
        sigmas: Scales, ascending, shape ``(s,)``.
        values: Denoising-loss LID in dimensions, shape ``(s, n)``.
        stderrs: Their Monte-Carlo standard errors, shape ``(s, n)``.
    """

    sigmas: Float[Tensor, " s"]
    values: Float[Tensor, "s n"]
    stderrs: Float[Tensor, "s n"]

    @property
    def resolution(self) -> Float[Tensor, " s"]:
        """Spread between pictures in units of one picture's error, one a sigma."""
        low, high = quartiles(self.values)
        return (high - low) / (1.349 * self.stderrs.nanmedian(-1).values)

    @property
    def best(self) -> float:
        """The sigma of the largest resolution among those at which no value is missing."""
        whole = self.values.isfinite().all(-1)
        return float(self.sigmas[torch.where(whole, self.resolution, -torch.inf).argmax()])


def sweep(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    keys: Sequence[str],
    sigmas: Float[Tensor, " s"],
    *,
    n_draws: int = 4,
    seed: int = 0,
    batch_size: int = 64,
) -> Sweep:
    """Measure the denoising loss of every item at every sigma.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``.
        keys: What the draws are keyed by, one an item.
        sigmas: Trained levels, ascending.
        n_draws: Noises an item and sigma.
        seed: Of the draws.
        batch_size: Items in one call.

    Cost:
        ``len(sigmas) * n_draws`` forward passes an item.
    """
    values, stderrs = [], []
    for sigma in sigmas:
        estimator = DenoisingLoss(float(sigma), n_draws, seed)
        parts = range(0, len(x), batch_size)
        found = [estimator(denoise, x[i : i + batch_size], list(keys[i : i + batch_size])) for i in parts]
        values.append(torch.cat([part.value for part in found]))
        stderrs.append(torch.cat([part.stderr for part in found]))
    return Sweep(sigmas, torch.stack(values).cpu(), torch.stack(stderrs).cpu())


def candidates(levels: Levels, n: int = 9, low: float = 0.1, high: float = 4.0) -> Float[Tensor, " s"]:
    """Return ``n`` trained levels spread evenly in ratio between ``low`` and ``high``, as far as the model has them."""
    bottom, top = max(low, float(levels.sigmas[0])), min(high, float(levels.sigmas[-1]))
    wanted = torch.logspace(
        torch.tensor(bottom).log10().item(), torch.tensor(top).log10().item(), n, dtype=torch.float64
    )
    return levels.sigmas[sorted(set(levels.index(wanted.clamp(bottom, top)).tolist()))]


def quartiles(values: Float[Tensor, "s n"]) -> tuple[Float[Tensor, " s"], Float[Tensor, " s"]]:
    """Return the lower and upper quartile along the last axis, missing values left out."""
    return values.nanquantile(0.25, dim=-1), values.nanquantile(0.75, dim=-1)
