"""From a map to a mask: which part of a picture is frozen, at a threshold chosen on other pictures.

A map is compared with its own mean, so that a threshold means the same for a picture of any dimension. What is below 0,
as a network's gain is at memorized places, counts as 0: frozen.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CANDIDATES = 60


def relative(maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Divide every map by its mean, both without what is below 0; a map of zeros stays."""
    positive = maps.clamp_min(0)
    return positive / positive.mean((1, 2), keepdim=True).clamp_min(1e-30)


def frozen_mask(maps: Float[Tensor, "b h w"], threshold: float) -> Bool[Tensor, "b h w"]:
    """Return where a map is at most ``threshold`` times its mean."""
    return relative(maps) <= threshold


def choose_threshold(maps: Float[Tensor, "b h w"], frozen: Bool[Tensor, "b h w"]) -> float:
    """Return the threshold whose masks agree best with known ones, to be used on *other* pictures.

    Args:
        maps: Maps of pictures whose frozen part is known.
        frozen: Where they are frozen.

    Returns:
        The one of 60 quantiles with the largest mean intersection over union of the *free* part. The frozen part,
        mostly the larger, agrees well with a mask that is true everywhere.

    Raises:
        ValueError: If there are no maps, or a known mask has no free part.
    """
    if not len(maps) or bool(frozen.flatten(1).all(1).any()):
        raise ValueError("a threshold is chosen on pictures with a free and a frozen part; leave out the others")
    found = relative(maps)
    quantiles = torch.linspace(0.01, 0.99, CANDIDATES, dtype=torch.float64)
    thresholds = found.flatten().double().sort().values[(quantiles * (found.numel() - 1)).long()]
    scores = torch.stack([intersection_over_union(found > one, ~frozen).mean() for one in thresholds])
    return float(thresholds[scores.argmax()])


def intersection_over_union(a: Bool[Tensor, "b h w"], b: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Return how well masks agree, an item, in [0, 1]; 1 where both are empty."""
    both, either = ((one.flatten(1).sum(1).double()) for one in (a & b, a | b))
    return torch.where(either > 0, both / either.clamp_min(1), torch.ones_like(both))
