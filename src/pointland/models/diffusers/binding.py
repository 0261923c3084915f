"""What is the same for every family that takes captions: denoisers bound to them, and calls of the network read back.

The condition is computed once and used at every call of the denoiser; a caption named more than once is read once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.denoiser import Denoiser
from pointland.model import Condition, Model
from pointland.models.conditions import LIMIT, ConditionOf, Conditions
from pointland.models.diffusers.schedule import Schedule, called_with
from pointland.models.origin import Origin
from pointland.noise import Levels

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

AnyModel = TypeVar("AnyModel", bound=Model)
Conditioned = Callable[[Float[Tensor, "b *event"], Float[Tensor, "#b"], Condition], Float[Tensor, "b *event"]]


def bound(condition: Condition, denoise: Conditioned) -> Denoiser:
    """Bind one condition an item."""

    def given(x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
        if len(x) != len(condition):
            raise ValueError(
                f"this denoiser is bound to {len(condition)} captions and got {len(x)} items; bind one an item"
            )
        return denoise(x, sigma, condition)

    return given


def read(captions: Sequence[str | None], condition_of: ConditionOf, kept: Conditions | None) -> Condition:
    """Return the condition of captions without gradients, every different one computed once, or not where it is kept.

    Who else is in the batch changes rounding alone: every family pads to one length and masks by row.
    """
    if kept is not None:
        return kept.of(captions, condition_of)
    different = list(dict.fromkeys(captions))
    with torch.no_grad():
        return condition_of(different).select([different.index(caption) for caption in captions])


def remembering(model: AnyModel, limit: int = LIMIT) -> AnyModel:
    """Return a model that shares everything with this one and keeps the conditions of captions between calls.

    For a time in which the weights of its text encoders do not change, such as an audit: drop it, or make another,
    after they did. ``condition`` is never answered from what is kept, so that gradients and changed encoders go
    through it. A model that reads no text is returned as it is.

    Args:
        model: Any model.
        limit: Bytes to keep, on the model's device.
    """
    if not isinstance(cast(object, model), Captioned):
        return model
    return cast(AnyModel, replace(cast("DataclassInstance", model), kept=Conditions(limit)))


class Captioned(ABC):
    """A family that takes captions; what it makes of them, and how it calls its network, is its own.

    Attributes:
        schedule: The trained levels, and the map to the network's clock.
        origin: Where it comes from.
        kept: Conditions of captions kept between calls, where somebody asked for that: see :func:`remembering`.
        points: The name of the network's first argument.
    """

    conditional: ClassVar[bool] = True
    points: ClassVar[str] = "hidden_states"
    schedule: Schedule
    origin: Origin
    kept: Conditions | None

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
        nothing = read([None], self.condition, self.kept)
        return lambda x, sigma: self.denoise(x, sigma, nothing.select([0] * len(x)))

    def given(self, captions: Sequence[str | None]) -> Denoiser:
        """Bind one caption an item; ``None`` is no caption. Long captions are cut as the pipeline cuts them."""
        return bound(read(captions, self.condition, self.kept), self.denoise)

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
