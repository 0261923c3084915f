r"""Filtered spectrum: how many eigenvalues of the denoiser's Jacobian pass a smooth step.

FLIPD adds up eigenvalues :math:`j_i = l_i / (l_i + \sigma^2)` of :math:`J_D`, so that many small ones (a network's
error in thousands of directions across the manifold) weigh as much as a few of 1. A step of the eigenvalues counts
instead. Osada 2026 (LHSD) filters the Hessian of the log density, whose eigenvalues are :math:`(j_i - 1) / \sigma^2`,
by a Hill function with cutoff :math:`c / \sigma^2`; in eigenvalues of the denoiser :math:`\sigma` cancels and the
filter is :math:`1 / (1 + ((1 - j) / c)^p)`. That leaves :math:`1 / (1 + c^{-p})` for every direction across the
manifold, 181 dimensions at :math:`d = 3072`, :math:`c = 1/2`, :math:`p = 4`. Ours is the Hill function of the variance
itself in units of :math:`\sigma^2`, :math:`j / (1 - j) = l / \sigma^2`:

.. math:: h(j) = \frac{j^p}{j^p + c^p (1 - j)^p}, \qquad \mathrm{LID} = \operatorname{tr} h(J_D),

exactly 0 across and 1 along, 1/2 at :math:`l = c \sigma^2`, flat at both ends to order :math:`p`; with :math:`p = c =
1` it is the plain trace. Eigenvalues outside [0, 1], which only networks have, count as the nearer end.

The trace is taken by stochastic Lanczos quadrature: from every probe ``v`` an orthonormal Krylov basis :math:`Q` of
``m`` vectors, fully reorthogonalized; the eigenvalues of :math:`Q^\top J_D Q` are the nodes and the squared first
components of its eigenvectors the weights of a quadrature of :math:`v^\top h(J_D) v`, exact for polynomials of degree
:math:`2 m - 1`, and for any step where :math:`J_D` has at most ``m`` different eigenvalues (two on a plane).

A network's Jacobian is not quite symmetric. What is filtered is its symmetric part :math:`S = (J + J^\top) / 2`. With
``sides="both"`` every product is :math:`S v`, from one vjp and one jvp, and the above holds to the letter. With
``sides="one"`` products are :math:`J^\top v` alone, which pass through every attention kernel: the small matrix is
:math:`Q^\top J^\top Q` (upper Hessenberg), and its symmetric part is :math:`Q^\top S Q` without error. So nodes never
leave the spectrum of :math:`S` and the weights are positive of sum 1; only the Krylov space is that of :math:`J^\top`,
and the degree of exactness falls from :math:`2m - 1` to 1 in proportion to the asymmetry.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import draws
from pointland.denoiser import Denoiser
from pointland.lid.estimate import LidEstimate, standard_error
from pointland.lid.flipd import check_sigma
from pointland.lid.interval import trace_interval
from pointland.lid.jacobian_spectrum import flat_products

Sides = Literal["one", "both"]


class Quadrature(NamedTuple):
    """The spectrum of a Jacobian's symmetric part as every probe sees it.

    Attributes:
        nodes: Approximate eigenvalues, shape ``(n, b, m)``, float64.
        weights: How many of the ``d`` directions each stands for, shape ``(n, b, m)``.
    """

    nodes: Float[Tensor, "n b m"]
    weights: Float[Tensor, "n b m"]

    def traces(self, values: Float[Tensor, "n b m"]) -> Float[Tensor, "n b"]:
        """Return one estimate a probe of the trace of the function with these ``values`` at the nodes."""
        return (self.weights * values).sum(-1)


def filtered_spectrum(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    probes: Float[Tensor, "n b *event"],
    n_steps: int = 5,
    cutoff: float = 1.0,
    power: float = 4.0,
    sides: Sides = "one",
) -> LidEstimate:
    r"""Estimate how many directions at ``x`` have variance above ``cutoff * sigma^2``.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        probes: Sign probes, shape ``(n, b, *event)``.
        n_steps: Lanczos steps ``m`` a probe; more than ``d`` change nothing.
        cutoff: ``c``, the variance at the middle of the step in units of ``sigma^2``.
        power: ``p``, the steepness of the step.
        sides: Which products; see the module's head.

    Returns:
        ``value`` in dimensions, between 0 and ``d``. ``stderr`` over probes: at most ``sqrt(2 LID)`` for one; the
        interval is that of a trace.
        ``parts`` check the cutoff: ``transition``, the directions in the middle of the step, ``tr 4h(1 - h)``, in
        dimensions, and ``transition_mass``, their share of all ``d``. Where ``transition`` is not small against
        ``value`` there is no gap at this sigma, and the count depends on ``cutoff``.

    Raises:
        ValueError: If ``sigma``, ``cutoff``, ``power`` or ``n_steps`` is not positive, or there are no probes.

    Cost:
        ``n m`` vjps, about ``m (1 + n)`` forward passes; with ``sides="both"`` as many jvps beside them (three to four
        forward passes each). ``m n`` vectors of ``d`` float64 an item.

    Source:
        Osada 2026, LHSD, arXiv:2605.01221, with a step that vanishes across the manifold; quadrature by Ubaru, Chen &
        Saad 2017.

    Example:
        >>> from pointland import draws, exact
        >>> plane = exact.subspace(d=20, k=5)
        >>> x = plane.sample(2, seed=0)
        >>> probes = draws.signs(x, keys=["a", "b"], n=2000, seed=0)
        >>> filtered_spectrum(plane, x, torch.tensor([0.1]), probes=probes, n_steps=2).value.round()
        tensor([5., 5.])
    """
    check_sigma(sigma)
    if len(probes) == 0:
        raise ValueError("a filtered spectrum needs at least one probe; pass probes=draws.signs(x, keys, n, seed)")
    if n_steps < 1 or not cutoff > 0 or not power > 0:
        raise ValueError(f"n_steps, cutoff and power must be positive, got {n_steps}, {cutoff} and {power}")
    found = quadrature(denoise, x, sigma, probes=probes, n_steps=n_steps, sides=sides)
    return from_quadrature(x, found, cutoff=cutoff, power=power)


def quadrature(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    probes: Float[Tensor, "n b *event"],
    n_steps: int = 5,
    sides: Sides = "one",
    first: Float[Tensor, "n b *event"] | None = None,
) -> Quadrature:
    """Return the spectrum of the Jacobian as nodes and weights, from which the trace of any function of it follows.

    Arguments and cost as for :func:`filtered_spectrum`; ``first`` are the products of the probes themselves where they
    are there already (FLIPD's), which saves the first step.
    """
    apply = symmetric_products(denoise, x, sigma, sides)
    start = probes.flatten(2).double()
    known = None if first is None else first.flatten(2).double()
    projected = _krylov(apply, start, min(n_steps, start.shape[-1]), known)
    nodes, vectors = torch.linalg.eigh((projected + projected.mT) / 2)
    return Quadrature(nodes, vectors[..., 0, :].square() * start.square().sum(-1, keepdim=True))


def symmetric_products(
    denoise: Denoiser, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"], sides: Sides
) -> Callable[[Float[Tensor, "n b d"]], Float[Tensor, "n b d"]]:
    """Return products with the Jacobian's symmetric part, or with its transpose alone; see the module's head."""
    transposed = flat_products(denoise, x, sigma, "vjp")
    if sides == "one":
        return transposed
    straight = flat_products(denoise, x, sigma, "jvp")
    return lambda vectors: (transposed(vectors) + straight(vectors)) / 2


def from_quadrature(
    x: Float[Tensor, "b *event"], found: Quadrature, *, cutoff: float = 1.0, power: float = 4.0
) -> LidEstimate:
    """Filter a spectrum that is already there, at no network cost."""
    passed = step(found.nodes, cutoff, power)
    counts, squares = found.traces(passed).to(x.dtype), found.traces(passed.square()).to(x.dtype)
    transition = found.traces(4 * passed * (1 - passed)).mean(0).to(x.dtype)
    parts = {"transition": transition, "transition_mass": transition / x[0].numel()}
    d = x[0].numel()
    # nodes do not keep the probes' signs, but their weights add up to d where the length was fixed to it
    signs = bool((found.weights.sum(-1) - d).abs().max() <= 1e-6 * d)
    ends = trace_interval(counts, squares, d, signs=signs)
    return LidEstimate(counts.mean(0), standard_error(counts), ends.low, ends.high, parts)


def step(values: Float[Tensor, "..."], cutoff: float = 1.0, power: float = 4.0) -> Float[Tensor, "..."]:
    """Return the Hill step of eigenvalues of the Jacobian, between 0 and 1; a half at variance ``cutoff * sigma^2``."""
    return torch.sigmoid(power * (values.clamp(0, 1).logit() - math.log(cutoff)))


def _krylov(
    apply: Callable[[Float[Tensor, "n b d"]], Float[Tensor, "n b d"]],
    start: Float[Tensor, "n b d"],
    n_steps: int,
    first: Float[Tensor, "n b d"] | None,
) -> Float[Tensor, "n b m m"]:
    length = start.norm(dim=-1, keepdim=True)
    vector = start / length
    basis: list[Tensor] = []
    columns = []
    for i in range(n_steps):
        basis.append(vector)
        vector = first / length if first is not None and i == 0 else apply(vector)
        size = vector.norm(dim=-1)
        column = torch.zeros(*size.shape, n_steps, dtype=torch.float64, device=start.device)
        for _ in range(2):  # twice is enough for full orthogonality
            for j, known in enumerate(basis):
                share = (known * vector).sum(-1)
                column[..., j] += share
                vector = vector - share[..., None] * known
        rest = vector.norm(dim=-1)
        # an invariant subspace: nothing is left, and a zero vector takes no weight from here on
        left = rest > 1e-12 * size
        vector = torch.where(left[..., None], vector / rest[..., None].clamp_min(1e-300), 0.0)
        if i + 1 < n_steps:
            column[..., i + 1] = torch.where(left, rest, 0.0)
        columns.append(column)
    return torch.stack(columns, dim=-1)


@dataclass(frozen=True)
class FilteredSpectrum:
    """The filtered spectrum with its settings.

    Attributes:
        sigma: Noise scale in model-space units, at or above the model's lowest trained level.
        n_probes: Sign probes an item.
        n_steps: Lanczos steps a probe.
        cutoff: Variance at the middle of the step, in units of ``sigma^2``.
        power: Steepness of the step.
        seed: Of the probes, which depend on the item's key alone.
        sides: Which products; see the module's head.
    """

    sigma: float
    n_probes: int = 4
    n_steps: int = 5
    cutoff: float = 1.0
    power: float = 4.0
    seed: int = 0
    sides: Sides = "one"

    def __call__(self, denoise: Denoiser, x: Float[Tensor, "b *event"], keys: list[str]) -> LidEstimate:
        """Count the directions at every item; see :func:`filtered_spectrum`."""
        sigma = torch.tensor([self.sigma], dtype=x.dtype, device=x.device)
        probes = draws.signs(x, keys, self.n_probes, self.seed)
        return filtered_spectrum(
            denoise,
            x,
            sigma,
            probes=probes,
            n_steps=self.n_steps,
            cutoff=self.cutoff,
            power=self.power,
            sides=self.sides,
        )
