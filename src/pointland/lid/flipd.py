r"""FLIPD: the model's local intrinsic dimension from one noise level.

Convolving a density on a manifold of dimension :math:`\mathrm{LID}` with Gaussian noise makes its logarithm change with
:math:`\log \sigma` at the rate :math:`\mathrm{LID} - d` as :math:`\sigma \to 0`. By the Fokker-Planck equation that
rate needs only the score and its divergence at the one level; written for the denoiser every symbol of the schedule,
and even :math:`d`, cancels:

.. math:: \mathrm{FLIPD}(x; \sigma) = \operatorname{tr} J_D(x; \sigma) + \|D(x; \sigma) - x\|^2 / \sigma^2 .

The first term counts the directions that the denoiser lets through; the second is large where ``x`` is off the model's
manifold.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import derivatives, draws
from pointland.denoiser import Denoiser, per_item
from pointland.derivatives import Derivative, Products
from pointland.lid.estimate import LidEstimate, standard_error
from pointland.lid.interval import SLACK, trace_interval


def flipd(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    probes: Float[Tensor, "n b *event"],
    derivative: Derivative = "vjp",
) -> LidEstimate:
    r"""Estimate the model's local intrinsic dimension at ``x`` from one noise level.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        probes: Random directions with identity covariance, shape ``(n, b, *event)``. Signs (Rademacher) have the least
            variance.
        derivative: How Jacobian products are taken; see :mod:`pointland.derivatives`.

    Returns:
        ``value`` in dimensions; for an imperfect network often negative at memorized points: it ranks, it is no
        dimension there. ``stderr`` over probes. The interval is that of the trace, moved by the residual, from a
        single probe on. ``parts``: ``trace`` and ``residual``, which sum to ``value``.

    Raises:
        ValueError: If ``sigma`` is not positive, or there are no probes.

    Cost:
        About ``1 + n`` forward passes with ``vjp``.

    Source:
        Kamkari et al. 2024, FLIPD, arXiv:2406.03537. Rewritten for the denoiser; equal to their form for any affine
        schedule.

    Example:
        >>> from pointland import draws, exact
        >>> plane = exact.subspace(d=20, k=5)
        >>> x = plane.sample(3, seed=0)
        >>> probes = draws.signs(x, keys=["a", "b", "c"], n=4000, seed=0)
        >>> flipd(plane, x, torch.tensor([0.01]), probes=probes).value.round()
        tensor([5., 5., 5.])
    """
    check_sigma(sigma)
    if len(probes) == 0:
        raise ValueError("flipd needs at least one probe, got none; pass probes=draws.signs(x, keys, n, seed)")
    return from_products(x, sigma, probes, derivatives.products(denoise, x, sigma, probes=probes, method=derivative))


def flipd_exact(denoise: Denoiser, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> LidEstimate:
    """As :func:`flipd` with the exact trace: no Monte-Carlo error.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.

    Raises:
        ValueError: If ``sigma`` is not positive.

    Cost:
        ``1 + d`` forward passes.
    """
    check_sigma(sigma)
    trace = derivatives.jacobian(denoise, x, sigma).diagonal(dim1=1, dim2=2).sum(-1)
    with torch.no_grad():
        residual = squared_residual(denoise(x, sigma), x, sigma)
    value, none = trace + residual, torch.zeros_like(trace)
    return LidEstimate(value, none, value - SLACK, value + SLACK, {"trace": trace, "residual": residual})


def from_products(
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    probes: Float[Tensor, "n b *event"],
    found: Products,
) -> LidEstimate:
    """Compute FLIPD from Jacobian products that are already there, at no network cost."""
    traces = derivatives.quadratic(probes, found.products)
    residual = squared_residual(found.denoised, x, sigma)
    squares = derivatives.quadratic(found.products, found.products)
    ends = trace_interval(traces, squares, x[0].numel(), signs=bool((probes.abs() == 1).all()))
    value, parts = traces.mean(0) + residual, {"trace": traces.mean(0), "residual": residual}
    return LidEstimate(value, standard_error(traces), ends.low + residual, ends.high + residual, parts)


def squared_residual(
    denoised: Float[Tensor, "b *event"], x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]
) -> Float[Tensor, " b"]:
    """Return ``|denoised - x|^2 / sigma^2`` an item, in dimensions."""
    return ((denoised - x) / per_item(sigma, x)).square().flatten(1).sum(-1)


def check_sigma(sigma: Float[Tensor, "#b"]) -> None:
    """Raise ``ValueError`` unless every ``sigma`` is positive and finite."""
    if not bool(((sigma > 0) & sigma.isfinite()).all()):
        raise ValueError(f"sigma must be positive and finite, got {sigma.tolist()}")


@dataclass(frozen=True)
class Flipd:
    """FLIPD with its settings.

    Attributes:
        sigma: Noise scale in model-space units, at or above the model's lowest trained level.
        n_probes: Sign probes an item, or ``"exact"`` for the whole trace (small ``d`` only).
        seed: Of the probes, which depend on the item's key alone.
        derivative: How Jacobian products are taken.
    """

    sigma: float
    n_probes: int | Literal["exact"] = 4
    seed: int = 0
    derivative: Derivative = "vjp"

    def __call__(self, denoise: Denoiser, x: Float[Tensor, "b *event"], keys: list[str]) -> LidEstimate:
        """Estimate the LID of every item; see :func:`flipd`."""
        sigma = torch.tensor([self.sigma], dtype=x.dtype, device=x.device)
        if self.n_probes == "exact":
            return flipd_exact(denoise, x, sigma)
        probes = draws.signs(x, keys, self.n_probes, self.seed)
        return flipd(denoise, x, sigma, probes=probes, derivative=self.derivative)
