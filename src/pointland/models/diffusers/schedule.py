r"""The map between the one coordinate and what a diffusers network is given: a scaled point and a timestep.

Variance-preserving models (DDPM and its kin) know the discrete levels :math:`\sigma_t^2 = (1 - \bar\alpha_t) /
\bar\alpha_t` of their scheduler's ``alphas_cumprod``; the network takes :math:`x / \sqrt{1 + \sigma^2}` and the index
of the level nearest in ratio.

Rectified flows (Liu et al. 2022) mix :math:`x_t = (1 - t) x_0 + t n`, so :math:`\sigma = t / (1 - t)` and the network
takes :math:`x / (1 + \sigma)` at any time :math:`t`, counted in thousandths. Their levels are :math:`t = i / 1000`
below 1, where sigma is infinite; a scheduler's shift moves the steps of a sampler, not what was trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.denoiser import Prediction, denoised_from, output_from, per_item
from pointland.noise import Levels, levels_from_alphas

PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v", "sample": "sample"}


@dataclass(frozen=True, eq=False)
class Schedule:
    """A model's trained levels, what its network predicts, and the map to the network's own clock.

    Attributes:
        levels: The trained noise levels.
        prediction: ``velocity`` for a rectified flow, else one of a variance-preserving model.
    """

    levels: Levels
    prediction: Prediction

    def scaled(
        self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"], dtype: torch.dtype
    ) -> tuple[Float[Tensor, "b *event"], Tensor]:
        """Return the network's input and the timestep of every item.

        Raises:
            ValueError: If a sigma is outside the trained levels.
        """
        for edge in {float(sigma.min()), float(sigma.max())}:
            self.levels.nearest(edge)
        s = per_item(sigma, x)
        if self.prediction == "velocity":
            exact = sigma.detach().to("cpu", torch.float64)
            t = (self.n_steps * exact / (1 + exact)).float()
            return (x / (1 + s)).to(dtype), t.to(x.device).expand(len(x))
        t = self.levels.index(sigma).to(x.device).expand(len(x))
        return (x / (1 + s**2).sqrt()).to(dtype), t

    def read(self, scaled: Float[Tensor, "b *event"], t: Tensor) -> tuple[Float[Tensor, "b *event"], Tensor]:
        """Turn a network's input and its timestep back into points, float32, and sigma of every row.

        A sampler's first step at infinite noise is read at the highest trained level.
        """
        if self.prediction == "velocity":
            share = (t.detach().to("cpu", torch.float64).reshape(-1) / self.n_steps).clamp(max=1 - 1 / self.n_steps)
            sigma = (share / (1 - share)).to(scaled.device, torch.float32).expand(len(scaled))
            return scaled.float() * (1 + per_item(sigma, scaled.float())), sigma
        sigma = self.levels.at(t.reshape(-1)).to(scaled.device, torch.float32).expand(len(scaled))
        return scaled.float() * (1 + per_item(sigma, scaled.float()) ** 2).sqrt(), sigma

    def denoised(
        self, output: Tensor, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]
    ) -> Float[Tensor, "b *event"]:
        """Turn the network's output into the denoised points; what it says of the variance is left out."""
        return denoised_from(self.prediction, output[:, : x.shape[1]], x, sigma)

    def output(
        self, denoised: Float[Tensor, "b *event"], x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]
    ) -> Float[Tensor, "b *event"]:
        """Turn denoised points into what the network would have put out, without a variance."""
        return output_from(self.prediction, denoised, x, sigma)

    @property
    def n_steps(self) -> int:
        """Steps of a rectified flow's clock; time 1, of infinite noise, is the last and no level."""
        return len(self.levels.sigmas) + 1


def variance_preserving(scheduler: object) -> Schedule:
    """Read the schedule of a variance-preserving diffusers scheduler.

    Raises:
        ValueError: If it is none, or predicts something unknown.
    """
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if not isinstance(alphas, Tensor):
        raise ValueError(
            f"{type(scheduler).__name__} has no alphas_cumprod, so it is not variance-preserving; "
            "give the scheduler that the model was trained with"
        )
    name = scheduler.config.prediction_type  # type: ignore[attr-defined]  # every diffusers scheduler has a config
    if name not in PREDICTIONS:
        raise ValueError(f"prediction_type {name!r} is not one of {', '.join(PREDICTIONS)}; fix scheduler_config.json")
    return Schedule(levels_from_alphas(alphas), PREDICTIONS[name])


def rectified_flow(scheduler: object) -> Schedule:
    """Read the schedule of a flow-matching diffusers scheduler.

    Raises:
        ValueError: If it is another one.
    """
    settings = scheduler.config  # type: ignore[attr-defined]  # every diffusers scheduler has a config
    kind = type(scheduler).__name__
    if not kind.startswith("FlowMatch") and settings.get("prediction_type") != "flow_prediction":
        raise ValueError(f"{kind} is no scheduler of a rectified flow; give FlowMatchEulerDiscreteScheduler")
    n = int(settings.num_train_timesteps)
    t = torch.arange(1, n, dtype=torch.float64) / n
    return Schedule(Levels(t / (1 - t)), "velocity")


def called_with(args: tuple[Any, ...], kwargs: Mapping[str, Any], points: str) -> tuple[Tensor, Tensor]:
    """Return the points and the timestep that a network was called with; ``points`` is its first argument's name."""
    scaled: Tensor = args[0] if args else kwargs[points]
    t = kwargs["timestep"] if "timestep" in kwargs else args[1]
    return scaled, torch.as_tensor(t)
