r"""Directional derivatives and traces of a denoiser's Jacobian :math:`J_D(x; \sigma)`.

Four ways to the same number, tested against the exact Jacobian:

=====================  ========================  ==========================================================
method                 cost of ``n`` probes      use
=====================  ========================  ==========================================================
``vjp``                about ``1 + n`` forwards  default: one retained graph, through every attention kernel
``jvp``                3 to 4 forwards a probe   models that set up no graph; scoped math attention kernel
``finite-difference``  2 forwards a probe        no autodiff at all; step ``0.01 sigma``, float32 or float64
``exact``              about ``1 + d`` forwards  :func:`jacobian`, for small ``d``
=====================  ========================  ==========================================================

``vjp`` yields :math:`J^T v` and the others :math:`J v`; the quadratic form :math:`v^T J v` is the same. Probes with
identity covariance make it an unbiased estimate of the trace (Hutchinson); signs have the least variance (Rademacher).
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from pointland.denoiser import Denoiser, per_item

Derivative = Literal["vjp", "jvp", "finite-difference"]


class Products(NamedTuple):
    """Jacobian products at one point.

    Attributes:
        denoised: The denoiser's value there, shape ``(b, *event)``.
        products: One product a probe, shape ``(n, b, *event)``.
    """

    denoised: Float[Tensor, "b *event"]
    products: Float[Tensor, "n b *event"]


def products(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    probes: Float[Tensor, "n b *event"],
    method: Derivative = "vjp",
) -> Products:
    """Return the denoised point and one Jacobian product a probe; costs are in the module's table.

    Args:
        denoise: The model, already conditioned.
        x: Where, shape ``(b, *event)``.
        sigma: Noise scale; one value or one per item.
        probes: Directions, shape ``(n, b, *event)``.
        method: How; see the module's table.

    Raises:
        ValueError: If there are no probes, sigma is not positive, finite differences are asked in half precision, or
            ``vjp`` is asked of a denoiser that records no gradient.

    Cost:
        In forward passes by ``method``: the module's table.
    """
    if len(probes) == 0:
        raise ValueError("a Jacobian product needs at least one probe, got none")
    if not bool((sigma > 0).all()):
        raise ValueError(f"sigma must be positive, got {sigma.tolist()}")
    match method:
        case "vjp":
            return _vjp(denoise, x, sigma, probes)
        case "jvp":
            return _jvp(denoise, x, sigma, probes)
        case "finite-difference":
            return _finite_difference(denoise, x, sigma, probes)


def jacobian(denoise: Denoiser, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b d d"]:
    """Return the whole Jacobian of every item, rows first.

    Args:
        denoise: The model, already conditioned.
        x: Where, shape ``(b, *event)``; ``d`` is the product of ``event``.
        sigma: Noise scale in model-space units, positive; one value or one per item.

    Cost:
        ``1 + d`` forward passes and ``b d^2`` numbers.
    """
    axes = torch.eye(x[0].numel(), dtype=x.dtype, device=x.device).reshape(-1, 1, *x.shape[1:])
    rows = _vjp(denoise, x, sigma, axes.expand(-1, *x.shape)).products
    return rows.flatten(2).transpose(0, 1)


def quadratic(probes: Float[Tensor, "n b *event"], values: Float[Tensor, "n b *event"]) -> Float[Tensor, "n b"]:
    """Return the inner product of every probe with its product, one unbiased estimate of the trace each.

    Args:
        probes: Directions, shape ``(n, b, *event)``.
        values: Their products, of the same shape.
    """
    return (probes * values).flatten(2).sum(-1)


def _vjp(denoise: Denoiser, x: Tensor, sigma: Tensor, probes: Tensor) -> Products:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        denoised = denoise(leaf, sigma)
        if not denoised.requires_grad:
            raise ValueError(
                "the denoiser records no gradient (it is constant, or runs under no_grad or inference_mode); "
                "use method 'finite-difference'"
            )
        last = len(probes) - 1
        rows = [torch.autograd.grad(denoised, leaf, probe, retain_graph=i < last)[0] for i, probe in enumerate(probes)]
    return Products(denoised.detach(), torch.stack(rows))


def _jvp(denoise: Denoiser, x: Tensor, sigma: Tensor, probes: Tensor) -> Products:
    columns = []
    denoised = x
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        for probe in probes:
            both = torch.func.jvp(lambda point: denoise(point, sigma), (x,), (probe,))
            denoised, column = both[0], both[1]
            columns.append(column)
    return Products(denoised, torch.stack(columns))


def _finite_difference(denoise: Denoiser, x: Tensor, sigma: Tensor, probes: Tensor) -> Products:
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"finite differences need float32 or float64, got {x.dtype}; use method 'vjp' or x.float()")
    h = 0.01 * per_item(sigma, x)
    with torch.no_grad():
        columns = [(denoise(x + h * probe, sigma) - denoise(x - h * probe, sigma)) / (2 * h) for probe in probes]
        return Products(denoise(x, sigma), torch.stack(columns))
