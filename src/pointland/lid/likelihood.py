r"""LIDL: the dimension as the rate at which the log density falls with noise.

Around a manifold of dimension :math:`\mathrm{LID}` the density of data with noise of scale :math:`\delta` has

.. math:: \log p_\delta(x) = (\mathrm{LID} - d) \log \delta + a + c \, \delta^2 + O(\delta^4) ,

so a straight line in :math:`\log \delta` through several scales gives the dimension. The published method leaves out
the curvature term; with it in the regression the error on a plane falls from :math:`\delta^2` to :math:`\delta^4`.

The densities come from one flow for each scale, or from a single diffusion model by its probability flow
(:mod:`pointland.lid.probability_flow`). The derivative of that density by :math:`\log \sigma` is FLIPD's formula again:
LIDL of a diffusion model is FLIPD averaged over scales, at a hundred times the cost, and a check of it by integration.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import draws
from pointland.denoiser import Denoiser
from pointland.lid.estimate import LidEstimate, standard_error
from pointland.lid.flipd import check_sigma
from pointland.lid.interval import Interval, count_interval, normal_interval, sampled_dispersion
from pointland.lid.probability_flow import log_densities
from pointland.lid.pushforward import check_finite

LogDensityOf = Callable[[Float[Tensor, "b *event"], Float[Tensor, "#b"]], Float[Tensor, " b"]]


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
        densities the second is all there is; scatter alone would claim too much. The interval is 1.96 of it.

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

    @property
    def sigma(self) -> float:
        """The scale that dimension is meant at, the geometric mean of the noise scales."""
        return math.exp(sum(math.log(delta) for delta in self.deltas) / len(self.deltas))

    def __call__(self, denoise: Denoiser, x: Float[Tensor, "b *event"], keys: list[str]) -> LidEstimate:
        """Estimate the LID of every item: :func:`lidl` with two more errors, of the trace and of the steps.

        The interval is that of a trace by the probes, wider by 1.96 of the other errors.
        """
        _check_deltas(self.deltas, self.powers)
        probes = None if self.n_probes == "exact" else draws.signs(x, keys, self.n_probes, self.seed)
        scales = [torch.tensor([delta], dtype=x.dtype, device=x.device) for delta in self.deltas]
        runs = [log_densities(denoise, x, scale, probes, self.sigma_max, self.n_steps) for scale in scales]
        fine, logs = (torch.stack(each) for each in zip(*runs, strict=True))
        found = slope(logs.mean(1), self.deltas, powers=self.powers)
        slopes = slope(logs, self.deltas, powers=self.powers).value
        trace = torch.zeros_like(found.value) if probes is None else standard_error(slopes)
        steps = (slope(fine.mean(1), self.deltas, powers=self.powers).value - found.value).abs()
        ends = None if probes is None else _of_probes(x[0].numel() + slopes, x[0].numel())
        return _estimate(x, found, {"trace": trace, "steps": steps}, ends)


def _estimate(x: Tensor, found: Slope, more: Mapping[str, Tensor], ends: Interval | None = None) -> LidEstimate:
    """Put a slope and its errors together; ``ends`` are those of the probes' chance alone."""
    parts = {"regression": found.regression, "curvature": found.curvature, **more}
    stderr = torch.stack(list(parts.values())).square().sum(0).sqrt()
    value = x[0].numel() + found.value
    certain = Interval(value, value) if ends is None else ends
    systematic = torch.stack([part for name, part in parts.items() if name != "trace"]).square().sum(0).sqrt()
    reach = normal_interval(torch.zeros_like(value), systematic).high
    value, stderr, low, high = (size.to(x) for size in (value, stderr, certain.low - reach, certain.high + reach))
    return LidEstimate(value, stderr, low, high, {name: part.to(x) for name, part in parts.items()})


def _of_probes(values: Float[Tensor, "n b"], d: int) -> Interval:
    """Return the ends for one dimension a probe, each the average of quadratic forms along a path."""
    mean = values.mean(0)
    dispersion = sampled_dispersion(values, d)
    law = count_interval(mean.clamp(0, d), len(values), d=d, dispersion=dispersion)
    plain = normal_interval(mean, standard_error(values))
    count = (mean >= 0) & (mean <= d)
    return Interval(torch.where(count, law.low, plain.low), torch.where(count, law.high, plain.high))


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


def _check_deltas(deltas: Sequence[float], powers: int) -> None:
    if powers < 0:
        raise ValueError(f"powers must be at least 0, got {powers}")
    if len(set(deltas)) < powers + 3:
        raise ValueError(f"a slope with {powers} powers of delta^2 takes {powers + 3} different deltas, got {deltas}")
    check_sigma(torch.tensor(list(deltas), dtype=torch.float64))
