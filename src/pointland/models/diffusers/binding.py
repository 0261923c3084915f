"""What is the same for every family that takes captions: denoisers bound to them, and calls of the network read back.

The condition is computed once and used at every call of the denoiser.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.denoiser import Denoiser
from pointland.model import Condition
from pointland.models.diffusers.schedule import Schedule, called_with
from pointland.models.origin import Origin
from pointland.noise import Levels

ConditionOf = Callable[[Sequence[str | None]], Condition]
Conditioned = Callable[[Float[Tensor, "b *event"], Float[Tensor, "#b"], Condition], Float[Tensor, "b *event"]]


def bound(condition_of: ConditionOf, denoise: Conditioned, captions: Sequence[str | None]) -> Denoiser:
    """Bind one caption an item; ``None`` is no caption."""
    with torch.no_grad():
        condition = condition_of(captions)

    def given(x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
        if len(x) != len(condition):
            raise ValueError(
                f"this denoiser is bound to {len(condition)} captions and got {len(x)} items; bind one an item"
            )
        return denoise(x, sigma, condition)

    return given


def unbound(condition_of: ConditionOf, denoise: Conditioned) -> Denoiser:
    """Return the denoiser without a caption, for any batch."""
    with torch.no_grad():
        nothing = condition_of([None])
    return lambda x, sigma: denoise(x, sigma, nothing.select([0] * len(x)))


class Captioned(ABC):
    """A family that takes captions; what it makes of them, and how it calls its network, is its own.

    Attributes:
        schedule: The trained levels, and the map to the network's clock.
        origin: Where it comes from.
        points: The name of the network's first argument.
    """

    conditional: ClassVar[bool] = True
    points: ClassVar[str] = "hidden_states"
    schedule: Schedule
    origin: Origin

    @abstractmethod
    def condition(self, captions: Sequence[str | None]) -> Condition:
        """Return what the captions become; ``None`` is no caption."""

    @abstractmethod
    def denoise(
        self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"], condition: Condition
    ) -> Float[Tensor, "b *event"]:
        """Estimate the clean points given a condition, one row an item."""

    @property
    def levels(self) -> Levels:
        """The trained levels."""
        return self.schedule.levels

    @property
    def identity(self) -> dict[str, str]:
        """Its record; the first reading hashes every weight."""
        return dict(self.origin.record)

    @property
    def unconditional(self) -> Denoiser:
        """The denoiser without a caption, for any batch."""
        return unbound(self.condition, self.denoise)

    def given(self, captions: Sequence[str | None]) -> Denoiser:
        """Bind one caption an item; ``None`` is no caption. Long captions are cut as the pipeline cuts them."""
        return bound(self.condition, self.denoise, captions)

    def noised(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Float[Tensor, "b *event"], Tensor]:
        """Read a call of the network back; a flow's first step, of infinite noise, at the highest trained level."""
        return self.schedule.read(*called_with(args, kwargs, self.points))

    def denoised(
        self, output: Tensor, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]
    ) -> Float[Tensor, "b *event"]:
        """Turn what the network gave into the denoised points."""
        return self.schedule.denoised(output, x, sigma)

    def output(
        self, denoised: Float[Tensor, "b *event"], x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]
    ) -> Tensor:
        """Turn denoised points into what the network would have given, without a variance."""
        return self.schedule.output(denoised, x, sigma)
