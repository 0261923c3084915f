r"""Plateau: the scale at which LID does not depend on the scale.

On a manifold of dimension ``k`` the curve :math:`\mathrm{LID}(\sigma)` is level at ``k`` where :math:`\sigma` lies
between the scale below which the model (or float32) resolves nothing and the scale at which density and curvature begin
to count; it bends as :math:`k / (1 + \sigma^2 / l)` above and anyhow below. The best scale for an *absolute* dimension
is therefore where the curve is flattest in :math:`\log \sigma`, on a grid that ends below the size of the data, where
every curve is level at 0. The slope is that of a straight line over five neighbours, which a single bad value cannot
tilt far.

A trained network's curve bends at every scale, and its flattest part at *one* item is a draw of its errors: choose the
scale on a sample, where the slopes of all items together are smallest (``common_plateau``), and use it for all. Below
the scale that a network resolves it may count all ``d`` directions, levelly; that plateau is not meant.

The published choice, a knee of the curve's lower convex hull by *kneedle*, is here for comparison: it lies where the
curve begins to bend, which is not where it is right.

Ranking pictures by LID is another question with another answer; see :mod:`pointland.lid.scale`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pointland.denoiser import Denoiser
from pointland.lid.estimate import LidEstimate

WINDOW = 5  # neighbours on the grid that a slope is taken over

Estimator = Callable[[Denoiser, Tensor, list[str]], LidEstimate]


class Plateau(NamedTuple):
    """Where a curve of LID is flattest, one an item.

    Attributes:
        value: LID there: the median over the window, in dimensions, shape ``(b,)``.
        sigma: The scale in the middle of the window, shape ``(b,)``.
        slope: Dimensions for every factor e of sigma, shape ``(b,)``; the smaller, the more ``value`` is a dimension.
        width: How many factors e around ``sigma`` the curve stays within ``tolerance`` of ``value``, shape ``(b,)``.
            Below about 1 there is no plateau: the model has no dimension at these scales, only a soft count.
    """

    value: Float[Tensor, " b"]
    sigma: Float[Tensor, " b"]
    slope: Float[Tensor, " b"]
    width: Float[Tensor, " b"]


class LidCurve(NamedTuple):
    """LID against sigma.

    Attributes:
        sigmas: Scales, ascending, shape ``(s,)``.
        values: In dimensions, shape ``(s, b)``.
        stderrs: Their Monte-Carlo standard errors, shape ``(s, b)``.
        lows: Lower ends of their 95 % intervals, shape ``(s, b)``.
        highs: Upper ends.
    """

    sigmas: Float[Tensor, " s"]
    values: Float[Tensor, "s b"]
    stderrs: Float[Tensor, "s b"]
    lows: Float[Tensor, "s b"]
    highs: Float[Tensor, "s b"]


def plateau(
    sigmas: Float[Tensor, " s"], values: Float[Tensor, "s b"], *, tolerance: float = 0.5, window: int = WINDOW
) -> Plateau:
    """Find the flattest part of LID curves.

    Args:
        sigmas: Scales, ascending, evenly spaced in ratio or nearly, shape ``(s,)``.
        values: LID at each, in dimensions, shape ``(s, b)``. Draws shared by all scales make differences precise.
        tolerance: In dimensions: how far from its value a plateau reaches.
        window: Neighbours that a slope is taken over.

    Raises:
        ValueError: If there are fewer scales than the window, they do not increase, or a value is not finite.

    Example:
        >>> sigmas = torch.logspace(-3, 0, 13)
        >>> found = plateau(sigmas, 8 / (1 + sigmas[:, None] ** 2))
        >>> found.value.round(decimals=2), found.sigma < 0.01
        (tensor([8.]), tensor([True]))
    """
    check_curve(sigmas, values, window)
    position = sigmas.log()
    slopes = slopes_of(position, values, window)
    # of windows level to rounding the one at the smallest scales, where density and curvature count least
    level = slopes.abs() <= slopes.abs().min(0).values + 1e-6 * (1 + values.abs().max(0).values)
    chosen = level.to(torch.uint8).argmax(0)
    value = values.unfold(0, window, 1).median(-1).values.gather(0, chosen[None])[0]
    middle = chosen + window // 2
    slope = slopes.gather(0, chosen[None])[0]
    return Plateau(value, sigmas[middle], slope, width_around(position, (values - value).abs() <= tolerance, middle))


def common_plateau(
    sigmas: Float[Tensor, " s"], values: Float[Tensor, "s b"], *, d: int, tolerance: float = 0.5, window: int = WINDOW
) -> float:
    """Return the scale at which the curves of a sample are flattest together: the least mean size of slope.

    Windows in which half of the items count more than ``d - tolerance`` directions are below what the model resolves,
    and out of the question as long as there are others.

    Args:
        sigmas: Scales, ascending, evenly spaced in ratio or nearly, shape ``(s,)``.
        values: LID of a sample at each, in dimensions, shape ``(s, b)``. Whole numbers are level in the wrong places;
            take the curves of FLIPD, the denoising loss or the filtered spectrum.
        d: Dimensions of the space.
        tolerance: In dimensions: how near to ``d`` is all of them.
        window: Neighbours that a slope is taken over.

    Raises:
        ValueError: If there are fewer scales than the window, they do not increase, or a value is not finite.

    Example:
        >>> sigmas = torch.logspace(-3, 0, 13)
        >>> blind_below = torch.where(sigmas < 0.02, 64.0, 8 / (1 + sigmas**2))
        >>> 0.03 < common_plateau(sigmas, blind_below[:, None], d=64) < 0.3
        True
    """
    check_curve(sigmas, values, window)
    slopes = slopes_of(sigmas.log(), values, window).abs().mean(1)
    typical = values.median(1).values.unfold(0, window, 1).max(1).values
    blind = typical > d - tolerance
    at = slopes if bool(blind.all()) else slopes.masked_fill(blind, torch.inf)
    return float(sigmas[int(at.argmin()) + window // 2])


def knee(positions: Float[Tensor, " s"], values: Float[Tensor, "s b"]) -> Int[Tensor, " b"]:
    """Return the index of the knee of falling convex curves, one an item.

    Kneedle on the lower convex hull: both axes scaled to [0, 1], the point farthest below the falling diagonal.

    Args:
        positions: Where the curve was taken, ascending; the published one is the diffusion's time.
        values: LID at each, shape ``(s, b)``.

    Source:
        Satopaa et al. 2011, Kneedle; on the hull as in Kamkari et al. 2024, arXiv:2406.03537, appendix.
    """
    check_curve(positions, values, 3)
    x = (positions - positions[0]) / (positions[-1] - positions[0])
    hulls = torch.stack([_lower_hull(x, column) for column in values.T], dim=1)
    low, high = hulls.min(0).values, hulls.max(0).values
    y = (hulls - low) / (high - low).clamp_min(torch.finfo(values.dtype).tiny)
    return (x[:, None] + y).argmin(0)


@dataclass(frozen=True)
class OnPlateau:
    """Any estimator at the scale where its curve is flattest, with its settings.

    Attributes:
        estimator_at: Makes the estimator of one sigma, for example ``lambda sigma: Flipd(sigma, "exact")``.
        sigmas: Scales to try, ascending, evenly spaced in ratio; trained levels, up to half the size of the data.
        tolerance: In dimensions: how far from its value a plateau reaches.
    """

    estimator_at: Callable[[float], Estimator]
    sigmas: tuple[float, ...]
    tolerance: float = 0.5

    def __call__(self, denoise: Denoiser, x: Float[Tensor, "b *event"], keys: list[str]) -> LidEstimate:
        """Estimate every item at its own plateau; costs the estimator once a scale.

        Returns:
            ``stderr`` and interval of the estimate at the chosen scale, which do not count the choice. ``parts``:
            ``sigma``, ``slope`` and ``width`` as in :class:`Plateau`.
        """
        found = self.curve(denoise, x, keys)
        best = plateau(found.sigmas, found.values, tolerance=self.tolerance)
        at = (found.sigmas[:, None] - best.sigma).abs().argmin(0)[None]
        value, stderr, low, high = (each.gather(0, at)[0] for each in found[1:])
        parts = {"sigma": best.sigma, "slope": best.slope, "width": best.width}
        return LidEstimate(best.value, stderr, best.value + (low - value), best.value + (high - value), parts)

    def curve(self, denoise: Denoiser, x: Float[Tensor, "b *event"], keys: list[str]) -> LidCurve:
        """Return LID at every scale."""
        found = [self.estimator_at(sigma)(denoise, x, keys) for sigma in self.sigmas]
        sigmas = torch.tensor(self.sigmas, dtype=x.dtype, device=x.device)
        ends = torch.stack([f.low for f in found]), torch.stack([f.high for f in found])
        return LidCurve(sigmas, torch.stack([f.value for f in found]), torch.stack([f.stderr for f in found]), *ends)


def check_curve(sigmas: Tensor, values: Tensor, least: int) -> None:
    """Raise ``ValueError`` unless there are enough scales, they increase, and values are finite."""
    if len(sigmas) < least or len(values) != len(sigmas):
        raise ValueError(f"a curve takes at least {least} scales and a value at each, got {len(sigmas)}, {len(values)}")
    if not bool((sigmas.diff() > 0).all()):
        raise ValueError(f"scales must increase, got {sigmas.tolist()}")
    if not bool(values.isfinite().all()):
        raise ValueError("a LID curve must be finite; leave out the scales below the model's lowest trained level")


def slopes_of(position: Float[Tensor, " s"], values: Float[Tensor, "s b"], window: int) -> Float[Tensor, "w b"]:
    """Return the slope of a straight line through every window of neighbours."""
    x = position.unfold(0, window, 1)
    x = x - x.mean(-1, keepdim=True)
    y = values.unfold(0, window, 1)
    return (x[:, None, :] * y).sum(-1) / x.square().sum(-1, keepdim=True)


def width_around(position: Tensor, inside: Tensor, middle: Tensor) -> Tensor:
    """Return how far on either side of ``middle`` a curve stays ``inside``, one an item."""
    widths = []
    for near, at in zip(inside.T.tolist(), middle.tolist(), strict=True):
        first = last = at
        while first > 0 and near[first - 1]:
            first -= 1
        while last + 1 < len(near) and near[last + 1]:
            last += 1
        widths.append(position[last] - position[first])
    return torch.stack(widths)


def _lower_hull(x: Float[Tensor, " s"], y: Float[Tensor, " s"]) -> Float[Tensor, " s"]:
    corners: list[int] = []
    xs, ys = x.tolist(), y.tolist()
    for i in range(len(xs)):
        while len(corners) > 1 and _is_above(xs, ys, corners[-2], corners[-1], i):
            corners.pop()
        corners.append(i)
    kept = torch.tensor(corners)
    right = torch.searchsorted(x[kept].contiguous(), x.contiguous()).clamp(1, len(corners) - 1)
    a, b = kept[right - 1], kept[right]
    return y[a] + (y[b] - y[a]) * (x - x[a]) / (x[b] - x[a])


def _is_above(xs: list[float], ys: list[float], left: int, middle: int, right: int) -> bool:
    on_line = (ys[right] - ys[left]) * (xs[middle] - xs[left])
    return (ys[middle] - ys[left]) * (xs[right] - xs[left]) >= on_line
