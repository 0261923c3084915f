r"""Noise levels: which scales :math:`\sigma` a model was trained at, and the map from its own clock to :math:`\sigma`.

With an affine schedule :math:`x_t = \alpha_t x_0 + s_t n` the one coordinate is :math:`x = x_t / \alpha_t` and
:math:`\sigma = s_t / \alpha_t`; for a variance-preserving schedule :math:`\sigma^2 = (1 - \bar\alpha_t) /
\bar\alpha_t`. A discrete model knows only its own levels, so every caller asks :meth:`Levels.nearest` before adding
noise.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Level(NamedTuple):
    """One trained noise level.

    Attributes:
        sigma: Its scale in model-space units.
        timestep: Its position in the model's own order.
    """

    sigma: float
    timestep: int


@dataclass(frozen=True, eq=False)
class Levels:
    """The trained noise levels of a model, ascending.

    Attributes:
        sigmas: Scales in model-space units, shape ``(n,)``, strictly increasing, float64 on the CPU.
    """

    sigmas: Float[Tensor, " n"]

    def __post_init__(self) -> None:
        if self.sigmas.ndim != 1 or len(self.sigmas) == 0 or not bool((self.sigmas > 0).all()):
            raise ValueError(f"noise levels must be positive and at least one, got shape {tuple(self.sigmas.shape)}")
        if not bool((self.sigmas.diff() > 0).all()):
            raise ValueError("noise levels must increase strictly; check the scheduler's betas")

    def nearest(self, sigma: float) -> Level:
        """Return the trained level nearest to ``sigma`` in ratio.

        Raises:
            ValueError: If ``sigma`` lies below the lowest or above the highest trained level.
        """
        low, high = float(self.sigmas[0]), float(self.sigmas[-1])
        tolerance = 1 + 1e-6  # a level read back from float32
        if not low / tolerance <= sigma <= high * tolerance:
            side = (
                f"below the model's lowest trained level {low:.4g}" if sigma < low else f"above its highest {high:.4g}"
            )
            raise ValueError(f"sigma {sigma:.4g} is {side}; pass a sigma from {low:.4g} to {high:.4g}")
        index = int(self.index(torch.tensor([sigma], dtype=torch.float64)))
        return Level(float(self.sigmas[index]), index)

    def index(self, sigma: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
        """Return the index of the level nearest in ratio, one per item, without the range check.

        Computed in float64 on the CPU, since not every accelerator has it.
        """
        logs = self.sigmas.log()
        wanted = sigma.detach().to("cpu", torch.float64).log()
        right = torch.searchsorted(logs, wanted).clamp(1, max(1, len(logs) - 1))
        if len(logs) == 1:
            return torch.zeros_like(right, device=sigma.device)
        nearest = torch.where(wanted - logs[right - 1] <= logs[right] - wanted, right - 1, right)
        return nearest.to(sigma.device)

    def at(self, timesteps: Float[Tensor, " b"] | Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return sigma at timesteps, float64 on the CPU; between two levels, as some samplers ask, evenly in ratio."""
        place = timesteps.detach().to("cpu", torch.float64).clamp(0, len(self.sigmas) - 1)
        low = place.floor().long()
        high = (low + 1).clamp(max=len(self.sigmas) - 1)
        return self.sigmas.log()[low].lerp(self.sigmas.log()[high], place - low).exp()


def levels_from_alphas(alphas_cumprod: Float[Tensor, " n"]) -> Levels:
    r"""Return the levels of a variance-preserving schedule from its :math:`\bar\alpha_t`.

    A last level of infinite noise (zero terminal signal) has no finite sigma and is left out.

    Args:
        alphas_cumprod: Of the scheduler, descending, shape ``(n,)``.
    """
    a = alphas_cumprod.detach().to("cpu", torch.float64)
    return Levels(((1 - a) / a).sqrt()[a > 0])


def sigma_of_time(t: float, beta_min: float = 0.1, beta_max: float = 20.0) -> float:
    r"""Return the sigma of continuous time ``t`` in the SDE with linear :math:`\beta` of Song et al. 2021.

    The paper's settings are given in this clock: FLIPD at ``t = 0.1`` is sigma 0.34, its guidance norm at ``t = 0.01``
    is 0.045.

    Args:
        t: From 0 to 1.
        beta_min: At time 0.
        beta_max: At time 1.
    """
    integral = beta_min * t + 0.5 * (beta_max - beta_min) * t * t
    return float(torch.expm1(torch.tensor(integral, dtype=torch.float64)).sqrt())
