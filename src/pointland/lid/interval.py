r"""95 % intervals of a dimension that random draws have counted.

Along a ``k``-plane every draw is a sum of squares: the denoising loss of one noise is :math:`\chi^2_k`, and the
quadratic form :math:`v^\top J_D v` of one sign probe is nearly the same, of mean ``k`` and, since the length of ``v``
is fixed, variance :math:`2 k (d - k) / (d + 2)`. At a small ``k`` these laws are far from normal (for ``k = 1`` half of
all draws are below 0.45), so "value and two standard errors" is too short above and too long below.

The interval here is the set of ``k`` that the law itself does not reject. The mean of ``n`` draws is taken as

.. math:: v \sim \tfrac{\varphi}{n} \chi^2_{n k / \varphi} \quad \text{for noises}, \qquad
    v / d \sim \mathrm{Beta}(p A, (1 - p) A), \; p = k / d, \; A = \frac{n (d + 2)}{2 \varphi} - 1
    \quad \text{for sign probes},

with the means and variances above times the *dispersion* :math:`\varphi`: 1 on a plane, less where eigenvalues lie
between 0 and 1, more where a network's Jacobian has eigenvalues outside. What the draws do not show (the bend of the
manifold, a network's own error) no such interval covers.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import betainc, gammainc, stdtrit
from torch import Tensor

TAIL = 0.025  # of the law, on either side
SLACK = 0.01  # dimensions: rounding, and the soft count of a dimension at a small sigma
NORMAL = 1.96


class Interval(NamedTuple):
    """The ends of a 95 % interval, in dimensions, one an item."""

    low: Float[Tensor, " b"]
    high: Float[Tensor, " b"]


def count_interval(
    value: Float[Tensor, " b"],
    n: int,
    *,
    d: int | None = None,
    dispersion: Float[Tensor, " b"] | None = None,
) -> Interval:
    r"""Return the ends of the 95 % interval of a count of directions.

    Args:
        value: Mean of ``n`` draws, in dimensions, at least 0; shape ``(b,)``.
        n: Independent draws in the mean.
        d: Dimensions, for draws whose length is fixed (signs); ``None`` for draws whose length is not (normal noise).
        dispersion: Variance of a draw over that on a plane, positive, shape ``(b,)``; 1 if left out.

    Returns:
        Ends between 0 and ``d``, ``SLACK`` wider on either side than the law's where that leaves room.

    Example:
        >>> found = count_interval(torch.tensor([1.0, 30.0]), 8)
        >>> found.low.round(decimals=1), found.high.round(decimals=1)
        (tensor([ 0.3000, 24.9000]), tensor([ 2.2000, 35.6000]))
    """
    v = value.detach().cpu().to(torch.float64).numpy().clip(0, d)
    phi = np.ones_like(v) if dispersion is None else dispersion.detach().cpu().to(torch.float64).numpy()
    phi = np.where(phi > 1e-3, phi, 1e-3)  # no draw varies less than that by chance
    if d is None:
        sums = n * v / phi

        def below(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
            """Probability of a smaller sum of squares with so many degrees of freedom."""
            return np.asarray(gammainc(np.maximum(degrees, 1e-300) / 2, sums / 2))

        low = _solve(below, np.zeros_like(v), sums + 2, 1 - TAIL) * phi / n
        high = _solve(below, np.zeros_like(v), 2 * sums + 20, TAIL) * phi / n
    else:
        size = np.maximum(n * (d + 2) / (2 * phi) - 1, 1e-3)

        def below(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
            """Probability of a smaller share with so many dimensions of ``d``."""
            p = (degrees / d).clip(1e-300, 1 - 1e-16)
            return np.asarray(betainc(p * size, (1 - p) * size, v / d))

        low = _solve(below, np.zeros_like(v), v, 1 - TAIL)
        high = _solve(below, v, np.full_like(v, d), TAIL)
    low, high = np.maximum(low - SLACK, 0), np.minimum(high + SLACK, np.inf if d is None else d)
    return Interval(torch.from_numpy(low).to(value), torch.from_numpy(high).to(value))


def normal_interval(value: Float[Tensor, " b"], stderr: Float[Tensor, " b"], *, freedom: int | None = None) -> Interval:
    """Return ``value`` less and more 1.96 standard errors, and the slack of every interval; NaN without an error.

    Args:
        value: Normal, or nearly.
        stderr: Its standard error.
        freedom: Degrees of freedom of a standard error that was itself estimated from few draws (Student).
    """
    reach = (NORMAL if freedom is None else float(stdtrit(freedom, 1 - TAIL))) * stderr + SLACK
    return Interval(value - reach, value + reach)


def trace_interval(traces: Float[Tensor, "n b"], squares: Float[Tensor, "n b"], d: int, *, signs: bool) -> Interval:
    r"""Return the ends of the 95 % interval of a trace from quadratic forms :math:`v^\top J v`.

    The variance of one is at most :math:`2 \|J\|_F^2`, and :math:`\|J^\top v\|^2` estimates :math:`\|J\|_F^2` far
    better than the spread of a few quadratic forms shows it; on a plane it *is* the quadratic form. So the dispersion
    is the ratio of their means. A trace that is no count, below 0 or above ``d``, has the normal interval of that
    variance.

    Args:
        traces: One quadratic form a probe, shape ``(n, b)``.
        squares: Squared length of every product, shape ``(n, b)``.
        d: Dimensions of the space.
        signs: Whether the probes are signs, whose length is fixed.
    """
    n, mean, square = len(traces), traces.mean(0), squares.mean(0)
    count = (mean >= 0) & (mean <= d)
    dispersion = torch.where(mean > 0, square / mean.clamp_min(1e-12), torch.ones_like(mean)).clamp(1e-3, 1e6)
    law = count_interval(mean.clamp(0, d), n, d=d if signs else None, dispersion=dispersion)
    plain = normal_interval(mean, (2 * square / n).sqrt())
    return Interval(torch.where(count, law.low, plain.low), torch.where(count, law.high, plain.high))


def sampled_dispersion(draws: Float[Tensor, "n b"], d: int | None = None) -> Float[Tensor, " b"]:
    """Return how much more draws vary than on a plane, at least 1: less is as likely chance; 1 from a single draw."""
    mean = draws.mean(0)
    plane = 2 * mean * (1 if d is None else (1 - mean / d).clamp_min(1e-6))
    if len(draws) == 1:
        return torch.ones_like(mean)
    return torch.where(mean > 0, draws.var(0) / plane.clamp_min(1e-12), torch.ones_like(mean)).clamp(1.0, 1e6)


def _solve(
    below: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    least: NDArray[np.float64],
    most: NDArray[np.float64],
    wanted: float,
) -> NDArray[np.float64]:
    """Find by halving where ``below``, which falls, is ``wanted``; the nearer end where it never is."""
    least, most = least.copy(), most.astype(np.float64, copy=True)
    for _ in range(60):
        middle = (least + most) / 2
        above = below(middle) > wanted
        least, most = np.where(above, middle, least), np.where(above, most, middle)
    return (least + most) / 2
