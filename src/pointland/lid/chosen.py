r"""One scale for a sample of pictures, for absolute dimensions: how it was chosen, and what it is worth.

The scale is that at which the curves of all items together are flattest, or the published knee; see
:mod:`pointland.lid.plateau`. Either can be taken of any curve, so what a choice is worth is said beside it: where the
curve bends at the scale as everywhere else there is no plateau, and the value is a soft count at that scale, not a
dimension.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.lid.plateau import (
    WINDOW,
    LidCurve,
    check_curve,
    common_plateau,
    knee,
    slopes_of,
    width_around,
)


class Chosen(NamedTuple):
    """One scale for a sample, with what it was chosen from and what it is worth.

    Attributes:
        sigma: The scale.
        curve: LID of every item of the sample at every scale.
        value: Median LID of the sample there, in dimensions.
        slope: Median change of an item's LID there for a factor e of sigma, in dimensions; near 0 on a plateau.
        width: How many factors e around ``sigma`` the sample's median stays within a tenth, or half a dimension, of
            ``value``. Below about 1 there is no plateau, and ``value`` is a soft count at this scale, no dimension.
    """

    sigma: float
    curve: LidCurve
    value: float
    slope: float
    width: float

    @property
    def level(self) -> bool:
        """Whether the curve is level at the scale, so that values there are dimensions."""
        return self.width >= 1


def chosen_by_plateau(curve: LidCurve, *, d: int) -> Chosen:
    """Choose the scale of :func:`common_plateau`, and say what it is worth.

    Args:
        curve: LID at a ladder of scales.
        d: Dimensions of the space.
    """
    return worth(curve, common_plateau(curve.sigmas, curve.values, d=d))


def chosen_by_knee(curve: LidCurve) -> Chosen:
    """Choose the median of the items' published knees, in the time of the SDE; and say what it is worth.

    Args:
        curve: LID at a ladder of scales.
    """
    found = knee(time_of_sigma(curve.sigmas), curve.values)
    return worth(curve, float(curve.sigmas[int(found.median())]))


def worth(curve: LidCurve, sigma: float) -> Chosen:
    """Say what a scale of a curve is worth, however it was chosen.

    Raises:
        ValueError: If there are fewer than 3 scales.
    """
    check_curve(curve.sigmas, curve.values, 3)
    position, at = curve.sigmas.log(), int((curve.sigmas / sigma).log().abs().argmin())
    window = min(WINDOW, len(position))
    start = min(max(at - window // 2, 0), len(position) - window)
    slopes = slopes_of(position[start : start + window], curve.values[start : start + window], window)
    middle = curve.values.median(1).values
    value = float(middle[at])
    inside = ((middle - value).abs() <= max(0.5, 0.1 * abs(value)))[:, None]
    width = float(width_around(position, inside, torch.tensor([at]))[0])
    return Chosen(float(curve.sigmas[at]), curve, value, float(slopes.median()), width)


def time_of_sigma(sigmas: Float[Tensor, " s"], beta_min: float = 0.1, beta_max: float = 20.0) -> Float[Tensor, " s"]:
    """Return the time of the SDE with linear beta: the inverse of :func:`pointland.noise.sigma_of_time`."""
    integral = 2 * torch.log1p(sigmas.square()) * (beta_max - beta_min)
    return ((beta_min**2 + integral).sqrt() - beta_min) / (beta_max - beta_min)
