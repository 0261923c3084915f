"""Which items of a batch have a caption: values that need one are NaN for the others."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.metrics.evaluations import Evaluations


def captioned(batch: Evaluations, values: dict[str, Float[Tensor, " b"]]) -> dict[str, Float[Tensor, " b"]]:
    """Return the values with NaN for every item without a caption.

    Such an item stands in a batch beside captioned ones, and its two predictions agree: a guidance norm of 0 would be a
    number that nobody measured.
    """
    has = torch.tensor([caption is not None for caption in batch.captions], device=batch.x.device)
    return {name: torch.where(has, value, torch.nan) for name, value in values.items()}


def uncaptioned(batch: Evaluations, names: Iterable[str]) -> dict[str, Float[Tensor, " b"]]:
    """Return NaN for every item, under each name: what a batch without captions has to say."""
    return {name: batch.x.new_full((len(batch.x),), torch.nan) for name in names}
