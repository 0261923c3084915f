r"""The Jacobian of the probability flow: which directions of noise reach the data, from any denoiser.

The probability flow carries a point of scale :math:`\sigma` to :math:`\sigma_{\max}` and back (see
:mod:`pointland.lid.probability_flow`); a diffusion model is thereby a normalizing flow, whose Jacobian ``M`` upwards
obeys the linear equation along the path

.. math:: \frac{dM}{d\sigma} = \frac{I - J_D(x_\sigma; \sigma)}{\sigma} \, M, \qquad M(\sigma) = I .

On the locally linear model with variances :math:`l_i` its singular values are

.. math:: m_i = \sqrt{(l_i + \sigma_{\max}^2) / (l_i + \sigma^2)} .

The map from unit noise down to the data, of singular values :math:`s_i = \sigma_{\max} / m_i`, keeps the spread of the
data along the manifold, :math:`\sqrt{l_i}` where that is far above :math:`\sigma`, and only :math:`\sigma` across it:
as the end of the path goes to 0, ``k`` stay and ``d - k`` vanish with it. So the count is at the largest gap in
:math:`\log s_i^2`, among the splits that keep nothing narrower than :math:`2 \sigma` and drop nothing wider than
:math:`10 \sigma`; without a clear gap, of what is wider than :math:`\sqrt{10} \sigma`. Solved for the share,

.. math:: g_i = l_i / (l_i + \sigma^2) = (1 - m_i^2 \sigma^2 / \sigma_{\max}^2) / (1 - \sigma^2 / \sigma_{\max}^2) ,

they add up to the soft count. The path sees all of the data, though: where that is no plane, bends and other pieces
stretch directions by factors of about 1, which no count at a gap notices and the soft count does (0.3 on a circle, 2.6
at a point of a memorizer of 20 points in 8 dimensions). A denoiser's own Jacobian has neither that fault nor this cost.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.denoiser import Denoiser, per_item
from pointland.derivatives import jacobian
from pointland.lid.estimate import LidEstimate
from pointland.lid.flipd import check_sigma
from pointland.lid.jacobian_spectrum import split_at_gap
from pointland.lid.probability_flow import grid, heun_step
from pointland.lid.pushforward import check_finite

NARROW, WIDE = 2.0, 10.0  # times sigma: nothing narrower is ever counted, nothing wider ever left out


class FlowSpectrum(NamedTuple):
    """Singular values of the probability flow over the path.

    Attributes:
        sigmas: Where the noise begins, ascending, shape ``(s, #b)``, float64; the first is ``sigma`` itself.
        singular_values: Of the map from noise of scale ``sigmas[i]``, in units of that scale, down to ``sigma``:
            descending, in units of ``x``, shape ``(s, b, d)``, float64.
    """

    sigmas: Float[Tensor, "s #b"]
    singular_values: Float[Tensor, "s b d"]


def flow_spectrum(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    sigma_max: float = 20.0,
    n_steps: int = 32,
) -> FlowSpectrum:
    r"""Return the singular values of the map from noise to ``x``, for noise of every scale on a path.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``; where the path ends.
        sigma: Scale at which it ends, positive; one value or one per item.
        sigma_max: Scale at which it begins, above ``sigma``; several times the size of the data.
        n_steps: Of the path, even in the logarithm of the scale.

    Returns:
        ``singular_values`` at every scale of the path, descending, in units of ``x``; ``sigmas`` of the path.

    Raises:
        ValueError: If ``sigma`` is not positive or not below ``sigma_max``, ``n_steps`` is not positive, or something
            is not finite.

    Cost:
        ``n_steps + 1`` whole Jacobians and ``n_steps`` forward passes, together ``(n_steps + 1) (d + 2)`` forward
        passes, and as many products and singular value decompositions of ``d`` by ``d`` float64: for small ``d``.

    Source:
        Horvat & Pfister 2024, arXiv:2402.03845. The equation is integrated beside the path, instead of differentiating
        through the solver.

    Example:
        >>> from pointland import exact
        >>> plane = exact.subspace(d=4, k=2)
        >>> found = flow_spectrum(plane, plane.sample(1, seed=0), torch.tensor([0.01]))
        >>> found.singular_values[-1].round(decimals=2)
        tensor([[1.0100, 1.0100, 0.0100, 0.0100]], dtype=torch.float64)
    """
    check_sigma(sigma)
    check_finite(x, "points")
    if not bool((sigma < sigma_max).all()):
        raise ValueError(f"sigma must be below sigma_max {sigma_max}, got {sigma.tolist()}")
    if n_steps < 1:
        raise ValueError(f"n_steps must be at least 1, got {n_steps}")
    scales = grid(sigma, sigma_max, n_steps)
    found, growth = _local(denoise, x, scales[0])
    moved = torch.eye(growth.shape[-1], dtype=torch.float64, device=x.device).expand_as(growth)
    rows = [_downwards(moved, scales[0])]
    for here, there in pairwise(scales):
        x = heun_step(denoise, x, found, here, there)
        step = per_item(there - here, moved)
        speed = growth @ moved
        found, growth = _local(denoise, x, there)
        moved = moved + step * (speed + growth @ (moved + step * speed)) / 2
        rows.append(_downwards(moved, there))
    return FlowSpectrum(torch.stack(scales), torch.stack(rows))


def flow_jacobian(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    sigma_max: float = 20.0,
    n_steps: int = 32,
) -> LidEstimate:
    r"""Estimate an integer dimension from the map from noise to ``x``.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``; where the path ends.
        sigma: Scale at which it ends, positive; one value or one per item.
        sigma_max: Scale at which it begins.
        n_steps: Of the path.

    Returns:
        ``value`` in whole dimensions, 0 to ``d``. ``stderr`` is 0: a count is right or wrong. ``low`` and ``high``
        equal it where the gap is clear; else they count what is wider than ``10 sigma`` and ``2 sigma``. ``parts``:
        ``soft_count``, the sum of all shares, in dimensions, to be trusted on a plane only; ``gap``, the log of the
        ratio of variances at the split, 3 and more is clear.

    Raises:
        ValueError: As :func:`flow_spectrum`.

    Cost:
        That of :func:`flow_spectrum`, ``(n_steps + 1) (d + 2)`` forward passes.

    Do not trust:
        A model whose highest level lies below ``sigma_max``, or with fewer levels than steps.

    Source:
        Horvat & Pfister 2024, arXiv:2402.03845, cut at the largest gap.

    Example:
        >>> from pointland import exact
        >>> plane = exact.subspace(d=12, k=3)
        >>> flow_jacobian(plane, plane.sample(2, seed=0), torch.tensor([0.01])).value
        tensor([3., 3.])
    """
    found = flow_spectrum(denoise, x, sigma, sigma_max=sigma_max, n_steps=n_steps)
    ratios = found.singular_values[-1] / found.singular_values[0]
    split = split_at_gap(2 * ratios.log(), *(2 * math.log(width) for width in (NARROW, 10**0.5, WIDE, WIDE, 1.0)))
    soft = shares_at(found, -1).clamp(0, 1).sum(-1)
    value, low, high, gap, soft = (part.to(x) for part in (split.size, split.least, split.most, split.gap, soft))
    return LidEstimate(value, torch.zeros_like(value), low, high, {"soft_count": soft, "gap": gap})


def shares_at(found: FlowSpectrum, place: int) -> Float[Tensor, "b d"]:
    """Return the shares ``l / (l + sigma^2)`` by the path up to one of its scales (not the first), descending."""
    first, there = found.sigmas[0].square()[:, None], found.sigmas[place].square()[:, None]
    least = (found.singular_values[0, :, -1:] / found.singular_values[place]).square()
    return (1 - least) / (1 - first / there)


@dataclass(frozen=True)
class FlowJacobian:
    """The Jacobian of the probability flow with its settings.

    Attributes:
        sigma: Scale at which the path ends, in model-space units, at or above the model's lowest trained level.
        sigma_max: Scale at which it begins, at or below the highest.
        n_steps: Of the path.
    """

    sigma: float
    sigma_max: float = 20.0
    n_steps: int = 32

    def __call__(self, denoise: Denoiser, x: Float[Tensor, "b *event"], keys: Sequence[str]) -> LidEstimate:
        """Count the dimensions at every item; see :func:`flow_jacobian`. Nothing is drawn, so keys do not matter."""
        sigma = torch.tensor([self.sigma], dtype=x.dtype, device=x.device)
        return flow_jacobian(denoise, x, sigma, sigma_max=self.sigma_max, n_steps=self.n_steps)


def _local(
    denoise: Denoiser, x: Tensor, sigma: Float[Tensor, "#b"]
) -> tuple[Float[Tensor, "b *event"], Float[Tensor, "b d d"]]:
    """Return the denoised point and ``(I - J) / sigma``, float64."""
    with torch.no_grad():
        denoised = denoise(x, sigma.to(x))
    whole = jacobian(denoise, x, sigma.to(x)).detach().to(torch.float64)
    eye = torch.eye(whole.shape[-1], dtype=torch.float64, device=x.device)
    growth = (eye - whole) / per_item(sigma, whole)
    if not bool(growth.isfinite().all()):
        raise ValueError("the probability flow left the finite numbers; the denoiser fails between sigma and sigma_max")
    return denoised, growth


def _downwards(moved: Float[Tensor, "b d d"], there: Float[Tensor, "#b"]) -> Float[Tensor, "b d"]:
    """Return the singular values of the inverse of the map upwards, in units of the noise there."""
    growth: Tensor = torch.linalg.svdvals(moved)
    return there[:, None] / growth.flip(-1)
