"""Denoisers bound to captions, the same for every family: the condition is computed once and used at every call."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.denoiser import Denoiser
from pointland.model import Condition

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
