r"""The probability flow: the deterministic path of a diffusion model between its data and noise, and its log density.

.. math::
    \frac{dx}{d\sigma} = \frac{x - D(x; \sigma)}{\sigma}, \qquad
    \log p_\sigma(x_\sigma) = \log p_{\sigma_{\max}}(x_{\sigma_{\max}})
        + \int_\sigma^{\sigma_{\max}} (d - \operatorname{tr} J_D) \, \frac{d\sigma}{\sigma} ,

with :math:`\sigma_{\max}` a scale at which all is Gaussian. Steps are Heun's in :math:`\sigma`, on a grid even in
:math:`\log \sigma`: exact both along a flat manifold, where points stay, and across it, where they move as
:math:`\sigma`.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import derivatives
from pointland.denoiser import Denoiser, per_item
from pointland.lid.estimate import standard_error
from pointland.lid.flipd import check_sigma
from pointland.lid.pushforward import check_finite


class LogDensity(NamedTuple):
    """A log density an item.

    Attributes:
        value: In nats, shape ``(b,)``, float64.
        stderr: Monte-Carlo standard error over probes in nats, shape ``(b,)``; NaN from a single one, 0 when exact.
        steps: What extrapolating from half as many steps has changed, in nats, shape ``(b,)``: a bound on the error of
            the steps where they are small enough to converge.
    """

    value: Float[Tensor, " b"]
    stderr: Float[Tensor, " b"]
    steps: Float[Tensor, " b"]


def flow_log_density(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    probes: Float[Tensor, "n b *event"] | None = None,
    sigma_max: float = 80.0,
    n_steps: int = 64,
) -> LogDensity:
    r"""Return a diffusion model's log density of data with noise of scale ``sigma``, by its probability flow.

    The trace is integrated over :math:`\log \sigma` by trapezoids on the grid of the steps. Both err by the square of
    the step, so the path is taken again with half as many, and the two are extrapolated (Richardson).

    At ``sigma_max`` the density is the Gaussian of variance :math:`\sigma_{\max}^2 + v` whose score is the model's
    there, so its mean needs not be known, and :math:`v`, the mean variance of the data, is read from the trace:
    :math:`v = \sigma_{\max}^2 \operatorname{tr} J_D / (d - \operatorname{tr} J_D)`. For data of any other shape the
    error is of order :math:`d \, (v / \sigma_{\max}^2)^2`.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``; noised or not.
        sigma: Scale of the density, positive; one value or one per item.
        probes: Directions for the trace, shape ``(n, b, *event)``, kept along the whole path; ``None`` takes the exact
            trace.
        sigma_max: Where the path ends, far above the size of the data.
        n_steps: Of the finer path, even.

    Returns:
        ``value`` in nats in the space of ``x``; the other fields are its two errors.

    Raises:
        ValueError: If ``sigma`` is not positive or not below ``sigma_max``, ``n_steps`` is odd, or ``x``
            is not finite.

    Cost:
        ``1.5 n_steps`` times one forward pass and ``n`` Jacobian products; ``d`` products when exact.

    Do not trust:
        A model with discrete levels and few steps between them, or levels that end below ``sigma_max``.

    Source:
        Song et al. 2021, arXiv:2011.13456, section 4.3, in the coordinate of the denoiser.

    Example:
        >>> from pointland import exact
        >>> plane = exact.subspace(d=6, k=2)
        >>> x, sigma = plane.sample(1, seed=0), torch.tensor([0.1])
        >>> (flow_log_density(plane, x, sigma).value - plane.log_density(x, sigma)).abs() < 0.02
        tensor([True])
    """
    fine, logs = log_densities(denoise, x, sigma, probes, sigma_max, n_steps)
    stderr = torch.zeros_like(logs[0]) if probes is None else standard_error(logs)
    return LogDensity(logs.mean(0), stderr, (logs - fine).mean(0).abs())


def log_densities(
    denoise: Denoiser, x: Tensor, sigma: Tensor, probes: Tensor | None, sigma_max: float, n_steps: int
) -> tuple[Float[Tensor, "n b"], Float[Tensor, "n b"]]:
    """Return log densities, one a probe (one in all when exact), by the finer path and extrapolated to no step.

    Arguments, errors and cost as for :func:`flow_log_density`.
    """
    check_sigma(sigma)
    check_finite(x, "points")
    if not bool((sigma < sigma_max).all()):
        raise ValueError(f"sigma must be below sigma_max {sigma_max}, got {sigma.tolist()}")
    if n_steps < 2 or n_steps % 2:
        raise ValueError(f"n_steps must be even and at least 2, got {n_steps}")
    if probes is not None and len(probes) == 0:
        raise ValueError("flow_log_density needs at least one probe, got none; pass None for the exact trace")
    coarse, fine = (_along_the_flow(denoise, x, sigma, probes, sigma_max, n) for n in (n_steps // 2, n_steps))
    return fine, fine + (fine - coarse) / 3


def grid(sigma: Float[Tensor, "#b"], sigma_max: float, n_steps: int) -> list[Float[Tensor, "#b"]]:
    """Return ``n_steps + 1`` scales from ``sigma`` to ``sigma_max``, even in their logarithm, float64."""
    low = sigma.to(torch.float64).log()
    step = (torch.tensor(sigma_max, dtype=torch.float64).log().to(low) - low) / n_steps
    return [(low + i * step).exp() for i in range(n_steps + 1)]


def heun_step(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    denoised: Float[Tensor, "b *event"],
    here: Float[Tensor, "#b"],
    there: Float[Tensor, "#b"],
) -> Float[Tensor, "b *event"]:
    """Move points along the flow from scale ``here`` to ``there``, upwards or downwards; one forward pass.

    Args:
        denoise: The model, already conditioned.
        x: Points at scale ``here``.
        denoised: The model's answer there, which the caller has.
        here: Scale of ``x``.
        there: Scale of the result.
    """
    near, far = per_item(here, x), per_item(there, x)
    speed = (x - denoised) / near
    with torch.no_grad():
        ahead = x + (far - near) * speed
        speed_there = (ahead - denoise(ahead, there.to(x))) / far
    return x + (far - near) * (speed + speed_there) / 2


def _along_the_flow(
    denoise: Denoiser, x: Tensor, sigma: Tensor, probes: Tensor | None, sigma_max: float, n_steps: int
) -> Float[Tensor, "n b"]:
    """Return one log density a probe (one in all when exact), float64."""
    d, scales = x[0].numel(), grid(sigma, sigma_max, n_steps)
    denoised, trace = _trace(denoise, x, scales[0].to(x), probes)
    integral = (d - trace) / 2
    for here, there in pairwise(scales):
        x = heun_step(denoise, x, denoised, here, there)
        denoised, trace = _trace(denoise, x, there.to(x), probes)
        integral = integral + (d - trace)
    integral = (integral - (d - trace) / 2) * (scales[1] / scales[0]).log()
    scale = scales[-1].square()
    spread = scale * (trace / (d - trace).clamp_min(1e-3 * d)).clamp_min(0)
    square = (x - denoised).to(torch.float64).flatten(1).square().sum(-1) * (scale + spread) / scale.square()
    logs = -0.5 * (square + d * (2 * torch.pi * (scale + spread)).log()) + integral
    if not bool(logs.isfinite().all()):
        raise ValueError("the probability flow left the finite numbers; the denoiser fails between sigma and sigma_max")
    return logs


def _trace(
    denoise: Denoiser, x: Tensor, sigma: Tensor, probes: Tensor | None
) -> tuple[Float[Tensor, "b *event"], Float[Tensor, "n b"]]:
    """Return the denoised point and the trace, one a probe, float64."""
    if probes is not None:
        found = derivatives.products(denoise, x, sigma, probes=probes)
        return found.denoised, derivatives.quadratic(probes, found.products).to(torch.float64)
    axes = torch.eye(x[0].numel(), dtype=x.dtype, device=x.device).reshape(-1, 1, *x.shape[1:]).expand(-1, *x.shape)
    found = derivatives.products(denoise, x, sigma, probes=axes)
    return found.denoised, derivatives.quadratic(axes, found.products).to(torch.float64).sum(0, keepdim=True)
