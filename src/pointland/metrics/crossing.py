r"""The largest scale at which something still holds, from distances at a ladder of scales.

Distances grow with scale, from 0 at scale 0. The crossing of a tolerance is read off by straight lines between rungs,
so that it is a continuous number: items that fail at the same rung still rank.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.noise import Levels


def ladder(levels: Levels, low: float, high: float, n: int) -> tuple[float, ...]:
    """Return at most ``n`` trained levels from ``low`` to ``high``, ascending, about evenly spaced in ratio.

    Args:
        levels: The model's noise levels.
        low: The lowest rung wanted; raised to the lowest trained level.
        high: The highest rung wanted; lowered to the highest trained level.
        n: Number of rungs, at least 2; fewer come back where the model has fewer levels.

    Raises:
        ValueError: If ``low`` is not below ``high``, or ``n`` is less than 2.
    """
    if not 0 < low < high or n < 2:
        raise ValueError(f"a ladder needs 0 < low < high and at least 2 rungs, got {low}, {high} and {n}")
    trained = (float(levels.sigmas[0]), float(levels.sigmas[-1]))
    ends = torch.tensor([min(max(end, trained[0]), trained[1]) for end in (low, high)], dtype=torch.float64).log()
    wanted = torch.linspace(ends[0].item(), ends[1].item(), n, dtype=torch.float64).exp()
    return tuple(sorted({levels.nearest(sigma).sigma for sigma in wanted.tolist()}))


def check_ladder(sigmas: Sequence[float], tolerance: float, scale: float) -> None:
    """Refuse a ladder that does not ascend from above zero, and a tolerance or scale that is not positive."""
    if not sigmas or sigmas[0] <= 0 or list(sigmas) != sorted(set(sigmas)):
        raise ValueError(f"sigmas must be positive and ascend, got {tuple(sigmas)}; take ladder(model.levels, ...)")
    if not (tolerance > 0 and scale > 0):
        raise ValueError(f"tolerance and scale must be positive, got {tolerance} and {scale}")


def largest_within(
    sigmas: Sequence[float], distances: Float[Tensor, "l *item"], tolerance: float
) -> Float[Tensor, "*item"]:
    """Return the largest scale up to which every distance is within the tolerance, counted from below.

    Args:
        sigmas: Rungs, ascending.
        distances: One row a rung.
        tolerance: Distances up to here count as within.

    Returns:
        A scale: interpolated between the last rung within and the first beyond (below the first rung, between scale 0,
        where the distance is 0, and it); the highest rung where all are within, so read that value as "at least". NaN
        where a distance is.
    """
    rungs = distances.new_tensor([0.0, *sigmas]).reshape(-1, *(1,) * (distances.ndim - 1))
    rungs = rungs.expand(-1, *distances.shape[1:])
    padded = torch.cat([torch.zeros_like(distances[:1]), distances])
    last = (distances <= tolerance).long().cumprod(0).sum(0, keepdim=True)
    then = (last + 1).clamp_max(len(sigmas))
    (s0, d0), (s1, d1) = ((rungs.gather(0, i)[0], padded.gather(0, i)[0]) for i in (last, then))
    share = torch.where(last[0] == len(sigmas), 0.0, (tolerance - d0) / (d1 - d0))
    return s0 + (s1 - s0) * share
