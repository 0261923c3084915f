r"""The spectrum of the denoiser's Jacobian: an integer dimension and a tangent basis, from products alone.

On the locally linear model with variances :math:`l_i` the eigenvalues of :math:`J_D` are

.. math:: j_i = \frac{l_i}{l_i + \sigma^2}, \qquad \log \frac{j_i}{1 - j_i} = \log \frac{l_i}{\sigma^2} ,

near 1 along the manifold and near 0 across. The top ones are found without ever forming :math:`J_D`: products with
random probes span the dominant directions :math:`Q`, products with :math:`Q` give the small matrix :math:`Q^\top J_D
Q`, and the eigenvalues of its symmetric part are the answer (randomized range finder with Rayleigh-Ritz; Halko,
Martinsson & Tropp 2011). The Jacobian of a posterior mean is symmetric; that of a network nearly, and what is
antisymmetric is error, so the symmetric part is what counts.

The dimension is the place of the largest gap in log-odds, among the splits that keep nothing below 0.1 and drop nothing
above 0.9; eigenvalues nearer to 0 or 1 than ``1e-6`` count as that near. No direction at all (0) and every direction
(``d``) are splits like any other, with 0.9 and 0.1 on the empty side. Where even the largest gap is below 3, a ratio of
variances of 20, there is none, and the count is of eigenvalues above 1/2.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import derivatives, draws
from pointland.denoiser import Denoiser
from pointland.derivatives import Derivative
from pointland.lid.estimate import LidEstimate
from pointland.lid.flipd import check_sigma

FLOOR = 1e-6  # eigenvalues closer than this to 0 or 1 are told apart by rounding alone, in float32 networks
LOW, HIGH = 0.1, 0.9  # no direction below LOW is ever counted, none above HIGH ever left out
CLEAR = 3.0  # smallest gap that is one, in nats
MARGIN = 4  # directions below the gap that must be seen before it is believed to be the gap


class JacobianSpectrum(NamedTuple):
    """The largest eigenvalues of a Jacobian's symmetric part and their directions.

    Attributes:
        values: Eigenvalues, descending, shape ``(b, n)``, float64; approached from below as probes are added.
        singular_values: Of the Jacobian on the same directions, descending, shape ``(b, n)``; equal to ``values``
            where the Jacobian is symmetric and positive.
        basis: Unit directions of ``values``, orthogonal, shape ``(n, b, *event)``, float64; the first ``k`` are the
            tangent basis where ``k`` is the dimension.
    """

    values: Float[Tensor, "b n"]
    singular_values: Float[Tensor, "b n"]
    basis: Float[Tensor, "n b *event"]


class Split(NamedTuple):
    """Where descending numbers part into two groups.

    Attributes:
        size: Of the upper group, shape ``(b,)``.
        gap: The largest admissible one, shape ``(b,)``.
        least: Smallest size that any admissible cut gives, shape ``(b,)``; ``size`` where the gap is clear.
        most: Largest.
    """

    size: Float[Tensor, " b"]
    gap: Float[Tensor, " b"]
    least: Float[Tensor, " b"]
    most: Float[Tensor, " b"]


def jacobian_spectrum(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    probes: Float[Tensor, "n b *event"],
    derivative: Derivative = "vjp",
) -> JacobianSpectrum:
    r"""Return the ``n`` largest eigenvalues of the Jacobian's symmetric part, with their directions.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        probes: Random directions, shape ``(n, b, *event)``, at most ``d``; take a few more than eigenvalues wanted.
        derivative: How Jacobian products are taken; see :mod:`pointland.derivatives`.

    Returns:
        Exact where the Jacobian has rank at most ``n``, and for all ``d`` where ``n`` is ``d``.

    Raises:
        ValueError: If ``sigma`` is not positive, or there are no probes or more than ``d``.

    Cost:
        ``2 n`` Jacobian products, about ``2 + 2 n`` forward passes; ``n`` vectors of ``d`` float64 an item.

    Source:
        Halko, Martinsson & Tropp 2011, arXiv:0909.4061, algorithms 4.1 and 5.3.

    Example:
        >>> from pointland import draws, exact
        >>> plane = exact.subspace(d=20, k=2)
        >>> x = plane.sample(1, seed=0)
        >>> found = jacobian_spectrum(plane, x, torch.tensor([0.01]), probes=draws.signs(x, ["a"], 4, 0))
        >>> found.values.abs().round()
        tensor([[1., 1., 0., 0.]], dtype=torch.float64)
    """
    check_sigma(sigma)
    n, d = len(probes), x[0].numel()
    if not 0 < n <= d:
        raise ValueError(f"the spectrum of {d} dimensions takes 1 to {d} probes, got {n}")
    apply = flat_products(denoise, x, sigma, derivative)
    flat = probes.flatten(2).double()
    basis = orthonormal(apply(flat) + tie_breakers(0, n, x))
    images = apply(basis)
    small = torch.einsum("ibd,jbd->bij", basis, images)
    values, turn = torch.linalg.eigh((small + small.mT) / 2)
    directions = torch.einsum("ibd,bij->jbd", basis, turn).flip(0)
    singular = torch.linalg.svdvals(images.transpose(0, 1))
    return JacobianSpectrum(values.flip(-1), singular, directions.reshape(n, *x.shape))


def jacobian_rank(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    draw: Callable[[int, int], Float[Tensor, "n b *event"]],
    n_most: int | None = None,
    derivative: Derivative = "vjp",
) -> LidEstimate:
    r"""Estimate an integer dimension: directions that the denoiser lets through, counted at the largest gap.

    Probes are added, 8 first and then as many again as there are, until four directions below the gap have been seen
    and the Jacobian leads out of the directions seen by no more than 0.1. A plane is found out at once; the Jacobian of
    a network whose spectrum has no gap only once nearly all ``d`` have been seen.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        draw: ``draw(start, n)`` returns probes ``start`` to ``start + n - 1``, shape ``(n, b, *event)``.
        n_most: Most probes; ``d`` if left out.
        derivative: How Jacobian products are taken; see :mod:`pointland.derivatives`.

    Returns:
        ``value`` in whole dimensions, 0 to ``d``. ``stderr`` is 0: a count is right or wrong. ``low`` and ``high``
        equal it where the gap is clear; else they count the eigenvalues above 0.9 and above 0.1. ``parts``: ``gap``,
        the log of the ratio of variances at the split (below 3 there is no gap, and the count is one above variance
        ``sigma^2``); ``directions``, how many were looked at; ``leak``, how far the Jacobian leads out of them;
        ``saturated``, 1 where ``n_most`` was too few, so that the dimension is at least ``value``, and ``high`` ``d``.

    Raises:
        ValueError: If ``sigma`` is not positive or ``n_most`` is not.

    Cost:
        Twice as many Jacobian products as ``directions``: at most ``2 (k + 4)``, or 8, on a plane, and at most ``d``.

    Source:
        Halko, Martinsson & Tropp 2011, arXiv:0909.4061, with the rule of the module's head.

    Example:
        >>> from pointland import draws, exact
        >>> plane = exact.subspace(d=64, k=9)
        >>> x = plane.sample(1, seed=0)
        >>> draw = lambda start, n: draws.signs(x, ["a"], n, 0, start=start)
        >>> jacobian_rank(plane, x, torch.tensor([0.01]), draw=draw).value
        tensor([9.])
    """
    check_sigma(sigma)
    apply = flat_products(denoise, x, sigma, derivative)
    return grow(x, lambda start, n: apply(draw(start, n).flatten(2).double()), apply, n_most)


def grow(
    x: Float[Tensor, "b *event"],
    sketch: Callable[[int, int], Float[Tensor, "n b d"]],
    apply: Callable[[Float[Tensor, "n b d"]], Float[Tensor, "n b d"]],
    n_most: int | None,
) -> LidEstimate:
    """Count dimensions on a basis that grows until it reaches below the gap; an item stops as if it were alone.

    Args:
        x: Points, for their shape and dtype.
        sketch: Images of probes ``start`` to ``start + n - 1``; they span the directions looked at.
        apply: The Jacobian on any vectors.
        n_most: Most directions; ``d`` if left out.
    """
    d = x[0].numel()
    most = d if n_most is None else min(n_most, d)
    if most < 1:
        raise ValueError(f"the rank takes at least one direction, got n_most {n_most}")
    basis = images = torch.empty(0, len(x), d, dtype=torch.float64, device=x.device)
    first = torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)
    count, gap, directions, leak, low, high = (first,) * 6
    saturated = torch.zeros_like(first, dtype=torch.bool)
    while bool(count.isnan().any()):
        have = len(basis)
        n = min(max(8, have), most - have)
        fresh = orthonormal(sketch(have, n) + tie_breakers(have, n, x), basis)
        basis, images = torch.cat([basis, fresh]), torch.cat([images, apply(fresh)])
        small = torch.einsum("ibd,jbd->bij", basis, images)
        split = count_directions(torch.linalg.eigvalsh((small + small.mT) / 2).flip(-1))
        outside = images - torch.einsum("ibd,bij->jbd", basis, small)
        leads = torch.linalg.matrix_norm(outside.transpose(0, 1), 2)
        enough = (split.size <= len(basis) - MARGIN) & (leads <= LOW) if len(basis) < d else torch.ones_like(saturated)
        now = count.isnan() & (enough | (len(basis) == most))
        saturated = saturated | (now & ~enough)
        count, gap = torch.where(now, split.size, count), torch.where(now, split.gap, gap)
        directions, leak = torch.where(now, float(len(basis)), directions), torch.where(now, leads, leak)
        low = torch.where(now, split.least, low)
        high = torch.where(now, torch.where(enough, split.most, float(d)), high)
    parts = {"gap": gap, "directions": directions, "leak": leak, "saturated": saturated}
    value, none, low, high = (size.to(x) for size in (count, torch.zeros_like(count), low, high))
    return LidEstimate(value, none, low, high, {name: part.to(x) for name, part in parts.items()})


def count_directions(values: Float[Tensor, "b n"]) -> Split:
    """Count the eigenvalues above the largest gap in log-odds; ``values`` descending, the rule in the module's head."""
    limits = torch.tensor([LOW, 0.5, HIGH, HIGH, LOW], dtype=torch.float64).logit().tolist()
    return split_at_gap(values.double().clamp(FLOOR, 1 - FLOOR).logit(), *limits)


def split_at_gap(
    heights: Float[Tensor, "b n"],
    low: float,
    middle: float,
    high: float,
    top: float,
    bottom: float,
    *,
    clear: float = CLEAR,
) -> Split:
    """Split descending numbers at the largest gap with none below ``low`` above it and none above ``high`` below it.

    Args:
        heights: Numbers, descending along the last axis.
        low: No smaller number goes to the upper group.
        middle: Where to split if no gap is clear.
        high: No larger number goes to the lower group.
        top: Stands before the first number, for the split that puts nothing in the upper group.
        bottom: Stands after the last.
        clear: Smallest gap that is one.
    """
    ends = heights.new_tensor([top, bottom]).expand(len(heights), 2)
    above = torch.cat([ends[:, :1], heights], 1)
    below = torch.cat([heights, ends[:, 1:]], 1)
    gaps = (above - below).masked_fill((above < low) | (below > high), -math.inf)
    best = gaps.argmax(1)
    widest = gaps.gather(1, best[:, None])[:, 0]
    cuts = [(heights > middle).sum(1), (heights > high).sum(1), (heights >= low).sum(1)]
    size, least, most = (torch.where(widest >= clear, best, cut).to(heights.dtype) for cut in cuts)
    return Split(size, widest, least, most)


def flat_products(
    denoise: Denoiser, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"], derivative: Derivative
) -> Callable[[Float[Tensor, "n b d"]], Float[Tensor, "n b d"]]:
    """Return the Jacobian as a function of flat float64 vectors; every call of ``n`` costs ``1 + n`` with ``vjp``."""

    def apply(vectors: Float[Tensor, "n b d"]) -> Float[Tensor, "n b d"]:
        probes = vectors.to(x.dtype).reshape(-1, *x.shape)
        found = derivatives.products(denoise, x, sigma, probes=probes, method=derivative)
        return found.products.detach().flatten(2).double()

    return apply


def tie_breakers(start: int, n: int, x: Float[Tensor, "b *event"]) -> Float[Tensor, "n 1 d"]:
    """Return tiny directions, the same for every item, that make dependent or vanishing sketches independent."""
    generator = torch.Generator().manual_seed(start)
    return 1e-6 * torch.randn(n, 1, x[0].numel(), generator=generator, dtype=torch.float64).to(x.device)


def orthonormal(vectors: Float[Tensor, "n b d"], known: Float[Tensor, "m b d"] | None = None) -> Float[Tensor, "n b d"]:
    """Return an orthonormal basis of every item's ``vectors``, orthogonal to ``known``; twice, against rounding."""
    for _ in range(2):
        if known is not None and len(known):
            shares = torch.einsum("mbd,nbd->bmn", known, vectors)
            vectors = vectors - torch.einsum("mbd,bmn->nbd", known, shares)
        q: Tensor = torch.linalg.qr(vectors.permute(1, 2, 0)).Q
        vectors = q.permute(2, 0, 1)
    return vectors


@dataclass(frozen=True)
class JacobianRank:
    """The integer dimension of the Jacobian's spectrum, with its settings.

    Attributes:
        sigma: Noise scale in model-space units, at or above the model's lowest trained level.
        n_most: Most directions looked at; ``d`` if ``None``.
        seed: Of the probes, which depend on the item's key alone.
        derivative: How Jacobian products are taken.
    """

    sigma: float
    n_most: int | None = None
    seed: int = 0
    derivative: Derivative = "vjp"

    def __call__(self, denoise: Denoiser, x: Float[Tensor, "b *event"], keys: list[str]) -> LidEstimate:
        """Count the dimensions at every item; see :func:`jacobian_rank`."""
        sigma = torch.tensor([self.sigma], dtype=x.dtype, device=x.device)

        def draw(start: int, n: int) -> Float[Tensor, "n b *event"]:
            return draws.signs(x, keys, n, self.seed, start=start)

        return jacobian_rank(denoise, x, sigma, draw=draw, n_most=self.n_most, derivative=self.derivative)
