r"""LIDL: the dimension as the rate at which the log density falls with noise.

Around a manifold of dimension :math:`\mathrm{LID}` the density of data with noise of scale :math:`\delta` has

.. math:: \log p_\delta(x) = (\mathrm{LID} - d) \log \delta + a + c \, \delta^2 + O(\delta^4) ,

so a straight line in :math:`\log \delta` through several scales gives the dimension. The published method leaves out
the curvature term; with it in the regression the error on a plane falls from :math:`\delta^2` to :math:`\delta^4`.

The densities come from one flow for each scale, or from a single diffusion model, whose *probability flow* carries a
point from scale :math:`\sigma` to a scale :math:`\sigma_{\max}` at which all is Gaussian:

.. math::
    \frac{dx}{d\sigma} = \frac{x - D(x; \sigma)}{\sigma}, \qquad
    \log p_\sigma(x_\sigma) = \log p_{\sigma_{\max}}(x_{\sigma_{\max}})
        + \int_\sigma^{\sigma_{\max}} (d - \operatorname{tr} J_D) \, \frac{d\sigma}{\sigma} .

The derivative of that by :math:`\log \sigma` is FLIPD's formula again: LIDL of a diffusion model is FLIPD averaged over
scales, at a hundred times the cost, and a check of it by integration.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import derivatives, draws
from pointland.denoiser import Denoiser, per_item
from pointland.lid.estimate import LidEstimate, standard_error
from pointland.lid.flipd import check_sigma
from pointland.lid.pushforward import check_finite

LogDensityOf = Callable[[Float[Tensor, "b *event"], Float[Tensor, "#b"]], Float[Tensor, " b"]]


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


class Slope(NamedTuple):
    """A rate of change with ``log delta``, of shape ``(*n, b)``.

    Attributes:
        value: Dimensions.
        regression: Standard error from the scatter about the fitted curve.
        curvature: Change of ``value`` when one more power of ``delta^2`` is fitted: what the form of the curve leaves
            open, which the scatter does not show.
    """

    value: Float[Tensor, "*n b"]
    regression: Float[Tensor, "*n b"]
    curvature: Float[Tensor, "*n b"]


def lidl(
    log_density: LogDensityOf, x: Float[Tensor, "b *event"], deltas: Sequence[float], *, powers: int = 1
) -> LidEstimate:
    r"""Estimate the dimension from log densities at several noise scales.

    Args:
        log_density: ``log_density(x, delta)`` in nats, of the data with noise of scale ``delta``, a tensor of one
            value. Not its negative, and not per dimension.
        x: Points, not noised, shape ``(b, *event)``.
        deltas: At least ``powers + 3`` different scales; the published suites take 8 from 0.01 to 0.1 on data of
            standard deviation 1.
        powers: Powers of ``delta^2`` beside the straight line: 0 is the published method, 1 takes out the first bias.

    Returns:
        ``value`` in dimensions, not bounded by 0 or ``d`` for imperfect densities. ``stderr`` of the slope, from
        ``parts``: ``regression`` (scatter) and ``curvature`` (change with one more power), added in squares. On exact
        densities the second is all there is; scatter alone would claim too much.

    Raises:
        ValueError: If there are too few scales, one is not positive, or a log density is not finite.

    Cost:
        One log density a scale.

    Source:
        Tempczyk et al. 2022, LIDL, arXiv:2206.14882. The powers and the second part of the error are ours.

    Example:
        >>> from pointland import exact
        >>> plane = exact.subspace(d=20, k=5)
        >>> lidl(plane.log_density, plane.sample(2, seed=0), (0.01, 0.02, 0.04, 0.08)).value.round(decimals=2)
        tensor([5., 5.])
    """
    _check_deltas(deltas, powers)
    check_finite(x, "points")
    with torch.no_grad():
        logs = [log_density(x, torch.tensor([delta], dtype=x.dtype, device=x.device)) for delta in deltas]
    for delta, log in zip(deltas, logs, strict=True):
        if log.shape != (len(x),):
            raise ValueError(f"the log density answered shape {tuple(log.shape)} for {len(x)} items; it must be (b,)")
        if not bool(log.isfinite().all()):
            raise ValueError(f"the log density at delta {delta:.4g} is not finite at some points; take a larger delta")
    return _estimate(x, slope(torch.stack(logs), deltas, powers=powers), {})


def slope(logs: Float[Tensor, "s *n b"], deltas: Sequence[float], *, powers: int = 1) -> Slope:
    """Fit log densities, one row a scale, by ``log delta``, a constant and ``powers`` powers of ``delta^2``."""
    _check_deltas(deltas, powers)
    rows = logs.to(torch.float64).flatten(1)
    log_deltas = torch.tensor(list(deltas), dtype=torch.float64, device=logs.device).log()
    value, error = _least_squares(rows, log_deltas, powers)
    curved, _ = _least_squares(rows, log_deltas, powers + 1)
    shape = logs.shape[1:]
    return Slope(value.reshape(shape), error.reshape(shape), (curved - value).abs().reshape(shape))


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

    Heun steps in :math:`\sigma`, on a grid even in :math:`\log \sigma`, are exact both along a flat manifold and across
    it; the trace is integrated over :math:`\log \sigma` by trapezoids on the same grid. Both err by the square of the
    step, so the path is taken again with half as many, and the two are extrapolated (Richardson).

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
    fine, logs = _extrapolated(denoise, x, sigma, probes, sigma_max, n_steps)
    stderr = torch.zeros_like(logs[0]) if probes is None else standard_error(logs)
    return LogDensity(logs.mean(0), stderr, (logs - fine).mean(0).abs())


@dataclass(frozen=True)
class Lidl:
    """LIDL with its settings.

    Attributes:
        deltas: Noise scales, in units of ``x``.
        powers: Powers of ``delta^2`` beside the straight line.
    """

    deltas: tuple[float, ...]
    powers: int = 1

    def __call__(self, log_density: LogDensityOf, x: Float[Tensor, "b *event"]) -> LidEstimate:
        """Estimate the LID of every item; see :func:`lidl`."""
        return lidl(log_density, x, self.deltas, powers=self.powers)


@dataclass(frozen=True)
class DiffusionLidl:
    """LIDL of one diffusion model by its probability flow, with its settings.

    Attributes:
        deltas: Noise scales in model-space units, all at or above the model's lowest trained level.
        powers: Powers of ``delta^2`` beside the straight line.
        n_probes: Sign probes an item, the same at every scale, or ``"exact"`` for the whole trace (small ``d`` only).
        sigma_max: Where the flow ends.
        n_steps: Of the finer path from every scale, even.
        seed: Of the probes, which depend on the item's key alone.
    """

    deltas: tuple[float, ...]
    powers: int = 1
    n_probes: int | Literal["exact"] = 4
    sigma_max: float = 80.0
    n_steps: int = 64
    seed: int = 0

    def __call__(self, denoise: Denoiser, x: Float[Tensor, "b *event"], keys: list[str]) -> LidEstimate:
        """Estimate the LID of every item: :func:`lidl` with two more errors, of the trace and of the steps."""
        _check_deltas(self.deltas, self.powers)
        probes = None if self.n_probes == "exact" else draws.signs(x, keys, self.n_probes, self.seed)
        scales = [torch.tensor([delta], dtype=x.dtype, device=x.device) for delta in self.deltas]
        runs = [_extrapolated(denoise, x, scale, probes, self.sigma_max, self.n_steps) for scale in scales]
        fine, logs = (torch.stack(each) for each in zip(*runs, strict=True))
        found = slope(logs.mean(1), self.deltas, powers=self.powers)
        slopes = slope(logs, self.deltas, powers=self.powers).value
        trace = torch.zeros_like(found.value) if probes is None else standard_error(slopes)
        steps = (slope(fine.mean(1), self.deltas, powers=self.powers).value - found.value).abs()
        return _estimate(x, found, {"trace": trace, "steps": steps})


def _estimate(x: Tensor, found: Slope, more: Mapping[str, Tensor]) -> LidEstimate:
    parts = {"regression": found.regression, "curvature": found.curvature, **more}
    stderr = torch.stack(list(parts.values())).square().sum(0).sqrt()
    value = x[0].numel() + found.value
    return LidEstimate(value.to(x), stderr.to(x), {name: part.to(x) for name, part in parts.items()})


def _least_squares(rows: Tensor, log_deltas: Tensor, powers: int) -> tuple[Tensor, Tensor]:
    """Return the coefficient of ``log delta`` and its standard error; NaN where nothing is left to scatter."""
    squares = (2 * (log_deltas - log_deltas.max())).exp()
    terms = [torch.ones_like(log_deltas), log_deltas, *(squares**power for power in range(1, powers + 1))]
    inverse = torch.linalg.pinv(torch.stack(terms, 1))
    fitted = inverse @ rows
    rest = rows - torch.stack(terms, 1) @ fitted
    freedom = len(log_deltas) - len(terms)
    variance = rest.square().sum(0) / freedom if freedom > 0 else torch.full_like(rows[0], torch.nan)
    return fitted[1], (variance * inverse[1].square().sum()).sqrt()


def _extrapolated(
    denoise: Denoiser, x: Tensor, sigma: Tensor, probes: Tensor | None, sigma_max: float, n_steps: int
) -> tuple[Float[Tensor, "n b"], Float[Tensor, "n b"]]:
    """Return log densities, one a probe (one in all when exact), by the finer path and extrapolated to no step."""
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


def _along_the_flow(
    denoise: Denoiser, x: Tensor, sigma: Tensor, probes: Tensor | None, sigma_max: float, n_steps: int
) -> Float[Tensor, "n b"]:
    """Return one log density a probe (one in all when exact), float64."""
    low = sigma.to(torch.float64).log()
    step = (torch.tensor(sigma_max, dtype=torch.float64).log().to(low) - low) / n_steps
    d, grid = x[0].numel(), [(low + i * step).exp() for i in range(n_steps + 1)]
    denoised, trace = _trace(denoise, x, grid[0].to(x), probes)
    integral = (d - trace) / 2
    for here, there in pairwise(grid):
        near, far = per_item(here, x), per_item(there, x)
        speed = (x - denoised) / near
        with torch.no_grad():
            ahead = x + (far - near) * speed
            speed_there = (ahead - denoise(ahead, there.to(x))) / far
        x = x + (far - near) * (speed + speed_there) / 2
        denoised, trace = _trace(denoise, x, there.to(x), probes)
        integral = integral + (d - trace)
    integral = (integral - (d - trace) / 2) * step
    scale = grid[-1].square()
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


def _check_deltas(deltas: Sequence[float], powers: int) -> None:
    if powers < 0:
        raise ValueError(f"powers must be at least 0, got {powers}")
    if len(set(deltas)) < powers + 3:
        raise ValueError(f"a slope with {powers} powers of delta^2 takes {powers + 3} different deltas, got {deltas}")
    check_sigma(torch.tensor(list(deltas), dtype=torch.float64))
