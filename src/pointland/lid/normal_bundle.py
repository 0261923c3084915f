r"""Normal bundle: the rank of what the denoiser takes away, or of what it leaves.

Around a point of the manifold the residuals :math:`r_i = (D(x + \sigma n_i; \sigma) - D(x; \sigma)) / \sigma - n_i` lie
across it: on the locally linear model :math:`r = (J_D - I)\, n`, of size :math:`\sigma^2 / (l + \sigma^2)` along a
direction of variance :math:`l`. So the rank of many stacked residuals is :math:`d - \mathrm{LID}` (Stanczuk et al.
2024), at the cost of several times ``d`` forward passes, whatever the dimension.

The *sketch* counts the other side. What the denoiser leaves of noise, the displacement :math:`D(x + \sigma n; \sigma) -
D(x; \sigma)`, lies along the manifold, so displacements of few more than LID draws span the tangent space; central
differences along an orthonormal basis of theirs give the eigenvalues to count. That takes forward passes in proportion
to the dimension found, not to ``d``, and no gradient.

The authors cut where the singular values drop most, which needs a drop and so can never answer 0 or ``d``. Here the
largest gap in the logarithm is sought between the two sizes that theory gives, 1 across and a floor along, so that
"all" and "none" are answers like the others.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import draws
from pointland.denoiser import Denoiser, per_item
from pointland.lid.estimate import LidEstimate
from pointland.lid.flipd import check_sigma
from pointland.lid.jacobian_spectrum import FLOOR, HIGH, LOW, grow, split_at_gap


def normal_bundle(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    noises: Float[Tensor, "n b *event"],
) -> LidEstimate:
    r"""Estimate an integer dimension as ``d`` less the rank of stacked residuals.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        noises: Standard normal draws, shape ``(n, b, *event)``, at least ``d``; the reference takes ``4 d``.

    Returns:
        ``value`` in whole dimensions, 0 to ``d``. ``stderr`` is 0: a count is right or wrong. ``low`` and ``high``
        equal it where the gap is clear; else they are what the outermost cuts would count. ``parts``: ``gap``, the
        log of the ratio of residual sizes at the split (below 1 there is no gap at this sigma, and the count is one of
        residuals above half the least that noise across the manifold leaves).

    Raises:
        ValueError: If ``sigma`` is not positive, or there are fewer draws than dimensions.

    Cost:
        ``1 + n`` forward passes, no gradient; ``d^2`` float64 an item.

    Source:
        Stanczuk et al. 2024, arXiv:2212.12611. Residuals in units of ``sigma`` and less that of ``x`` itself, which is
        one direction more wherever ``x`` is not at the center of the data; singular values from the Gram matrix in
        float64, with a floor of ``1e-6``; the split may also take all directions or none.

    Example:
        >>> from pointland import draws, exact
        >>> plane = exact.subspace(d=12, k=3)
        >>> x = plane.sample(1, seed=0)
        >>> normal_bundle(plane, x, torch.tensor([0.01]), noises=draws.normal(x, ["a"], 48, 0)).value
        tensor([3.])
    """
    return _from_blocks(denoise, x, sigma, [noises], len(noises))


def normal_bundle_sketch(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    draw: Callable[[int, int], Float[Tensor, "n b *event"]],
    n_most: int | None = None,
) -> LidEstimate:
    r"""Estimate an integer dimension as the rank of stacked displacements, from few more draws than there are.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        draw: ``draw(start, n)`` returns standard normal draws ``start`` to ``start + n - 1``, shape ``(n, b, *event)``.
        n_most: Most directions; ``d`` if left out.

    Returns:
        As :func:`~pointland.lid.jacobian_spectrum.jacobian_rank`; differences are taken over ``sigma`` itself, so that
        features of the network below that scale do not count.

    Raises:
        ValueError: If ``sigma`` is not positive or ``n_most`` is not.

    Cost:
        ``1 + 3 m`` forward passes, no gradient, for ``m`` directions: at most ``2 (k + 4)``, or 8, on a plane, and at
        most ``d``.

    Source:
        Ours, after Stanczuk et al. 2024, arXiv:2212.12611, and Halko, Martinsson & Tropp 2011, arXiv:0909.4061.

    Example:
        >>> from pointland import draws, exact
        >>> plane = exact.subspace(d=64, k=9)
        >>> x = plane.sample(1, seed=0)
        >>> draw = lambda start, n: draws.normal(x, ["a"], n, 0, start=start)
        >>> normal_bundle_sketch(plane, x, torch.tensor([0.01]), draw=draw).value
        tensor([9.])
    """
    check_sigma(sigma)
    scale = per_item(sigma, x)
    with torch.no_grad():
        denoised = denoise(x, sigma)

        def displaced(step: Float[Tensor, "b *event"]) -> Float[Tensor, "b *event"]:
            return denoise(x + scale * step, sigma)

        def sketch(start: int, n: int) -> Float[Tensor, "n b d"]:
            found = torch.stack([(displaced(noise) - denoised) / scale for noise in draw(start, n)])
            return found.flatten(2).double()

        def apply(vectors: Float[Tensor, "n b d"]) -> Float[Tensor, "n b d"]:
            steps = vectors.to(x.dtype).reshape(-1, *x.shape)
            found = torch.stack([(displaced(step) - displaced(-step)) / (2 * scale) for step in steps])
            return found.flatten(2).double()

        return grow(x, sketch, apply, n_most)


def _from_blocks(
    denoise: Denoiser, x: Tensor, sigma: Tensor, blocks: Iterable[Float[Tensor, "m b *event"]], n: int
) -> LidEstimate:
    check_sigma(sigma)
    d = x[0].numel()
    if n < d:
        raise ValueError(f"the normal bundle of {d} dimensions needs at least {d} draws, got {n}; use the sketch")
    scale = per_item(sigma, x)
    gram = torch.zeros(len(x), d, d, dtype=torch.float64, device=x.device)
    with torch.no_grad():
        denoised = denoise(x, sigma)
        for noises in blocks:
            moved = [(denoise(x + scale * noise, sigma) - denoised) / scale for noise in noises]
            residuals = torch.stack(moved) - noises
            flat = residuals.flatten(2).double().transpose(0, 1)
            gram += flat.mT @ flat
        sizes = (torch.linalg.eigvalsh(gram).flip(-1) / n).clamp_min(FLOOR**2).sqrt()
        # singular values of n random draws spread around theirs by sqrt(d / n)
        half = math.log(max(LOW, 0.5 * (1 - math.sqrt(d / n))))
        limits = (half, half, math.log(HIGH), 0.0, math.log(FLOOR))
        split = split_at_gap(sizes.log(), *limits, clear=1.0)
    value, low, high = ((d - rank).to(x.dtype) for rank in (split.size, split.most, split.least))
    return LidEstimate(value, torch.zeros_like(value), low, high, {"gap": split.gap.to(x.dtype)})


@dataclass(frozen=True)
class NormalBundle:
    """The normal bundle with its settings.

    Attributes:
        sigma: Noise scale in model-space units, at or above the model's lowest trained level.
        n_draws: Noise draws an item; ``4 d`` if ``None``.
        seed: Of the draws, which depend on the item's key alone.
    """

    sigma: float
    n_draws: int | None = None
    seed: int = 0

    def __call__(self, denoise: Denoiser, x: Float[Tensor, "b *event"], keys: list[str]) -> LidEstimate:
        """Count the dimensions at every item, 64 draws at a time; see :func:`normal_bundle`."""
        sigma = torch.tensor([self.sigma], dtype=x.dtype, device=x.device)
        n = 4 * x[0].numel() if self.n_draws is None else self.n_draws
        starts = range(0, n, 64)
        blocks = (draws.normal(x, keys, min(64, n - start), self.seed, start=start) for start in starts)
        return _from_blocks(denoise, x, sigma, blocks, n)


@dataclass(frozen=True)
class NormalBundleSketch:
    """The normal bundle from the tangent side, with its settings.

    Attributes:
        sigma: Noise scale in model-space units, at or above the model's lowest trained level.
        n_most: Most directions looked at; ``d`` if ``None``.
        seed: Of the draws, which depend on the item's key alone.
    """

    sigma: float
    n_most: int | None = None
    seed: int = 0

    def __call__(self, denoise: Denoiser, x: Float[Tensor, "b *event"], keys: list[str]) -> LidEstimate:
        """Count the dimensions at every item; see :func:`normal_bundle_sketch`."""
        sigma = torch.tensor([self.sigma], dtype=x.dtype, device=x.device)

        def draw(start: int, n: int) -> Float[Tensor, "n b *event"]:
            return draws.normal(x, keys, n, self.seed, start=start)

        return normal_bundle_sketch(denoise, x, sigma, draw=draw, n_most=self.n_most)
