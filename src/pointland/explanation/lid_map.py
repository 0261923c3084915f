r"""Where in a picture the model leaves freedom, and where it is frozen.

The denoising loss is a sum over places :math:`p` (all channels of one place together), and so is the trace of the
denoiser's Jacobian; both have a map whose sum is the number itself:

.. math::
    m_p = \mathbb{E}\, \|D(x + \sigma n)_p - x_p\|^2 / \sigma^2, \qquad
    g_p = \operatorname{tr}\, (J_D(x; \sigma))_{pp} .

On the locally linear model with covariance :math:`C` both are, averaged over the points of the manifold, the diagonal
of :math:`C (C + \sigma^2)^{-1}`: the share of a place's coordinates along which the data varies by more than
:math:`\sigma`. A template copy, whose background was seen many times with other foregrounds, is frozen in its
background alone; a sum hides that and a map shows it. Yet a map is low wherever a picture is simple too: compare it
with maps of pictures that the model never saw, see ``docs/lid-maps.md``.

In a latent model a place is one of the autoencoder's cells, several pixels wide. :func:`to_pixels` interpolates so that
sums stay; :func:`decoded_map` sharpens by decoding every draw.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate

from pointland import derivatives
from pointland.denoiser import Denoiser, per_item
from pointland.derivatives import Derivative
from pointland.lid.flipd import check_sigma
from pointland.lid.places import check_grid, residual_by_place

SMOOTH = 0.25  # of a cell: what one draw's decoded pixels are averaged over
ROUNDING = 10.0  # squared gray levels added to a pixel's own sensitivity, so that clipped black is not divided by 0


class LidMap(NamedTuple):
    """A number a place.

    Attributes:
        value: In dimensions, shape ``(b, h, w)``.
        stderr: Monte-Carlo standard error of each, NaN from a single draw. Neighbours err together: the error of a
            region's sum is not the root of the sum of squares.
    """

    value: Float[Tensor, "b h w"]
    stderr: Float[Tensor, "b h w"]


class CaptionMaps(NamedTuple):
    """What a caption does to a map.

    Attributes:
        unconditional: Without the caption.
        conditional: With it.
        frozen: The first minus the second: dimensions that the caption takes away. Its error is that of differences,
            since both saw the same noises.
    """

    unconditional: LidMap
    conditional: LidMap
    frozen: LidMap


def lid_map(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    noises: Float[Tensor, "n b *event"],
) -> LidMap:
    """Return every place's part of the denoising loss.

    Args:
        denoise: The model, already conditioned.
        x: Points on a grid, shape ``(b, channels, h, w)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        noises: Standard normal draws, shape ``(n, b, channels, h, w)``.

    Returns:
        At least 0 everywhere; sums to :func:`~pointland.lid.denoising_loss.denoising_loss` with the same noises.

    Raises:
        ValueError: If points are no grid, ``sigma`` is not positive, or there are no draws.

    Cost:
        ``n`` forward passes; no gradient.

    Source:
        Ours, from Yeats et al. 2025, arXiv:2510.12975.

    Example:
        >>> from pointland import draws, exact
        >>> half = exact.gaussian(torch.diag(torch.tensor([1.0] * 8 + [0.0] * 8)))
        >>> x = half.sample(1, seed=0).reshape(1, 1, 4, 4)
        >>> noises = draws.normal(x, keys=["a"], n=4000, seed=0)
        >>> lid_map(half, x, torch.tensor([0.01]), noises=noises).value.round().mean(-1)
        tensor([[1., 1., 0., 0.]])
    """
    _check(x, sigma, len(noises), "noises=draws.normal(x, keys, n, seed)")
    return averaged(_losses(denoise, x, sigma, noises))


def gain_map(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    probes: Float[Tensor, "n b *event"],
    derivative: Derivative = "vjp",
) -> LidMap:
    r"""Return the diagonal of the denoiser's Jacobian, channels summed: how much of a place's noise comes through.

    Args:
        denoise: The model, already conditioned.
        x: Points on a grid, shape ``(b, channels, h, w)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        probes: Sign probes, shape ``(n, b, channels, h, w)``.
        derivative: How Jacobian products are taken; see :mod:`pointland.derivatives`.

    Returns:
        The mean of :math:`v \odot J^\top v`: sums to the trace that FLIPD takes with the same probes. May be negative
        for a network, whose Jacobian is no projection. Where the Jacobian is diagonal one probe is exact; what it
        couples otherwise is noise of variance :math:`\sum_{j \ne i} J_{ji}^2` an entry.

    Raises:
        ValueError: If points are no grid, ``sigma`` is not positive, or there are no probes.

    Cost:
        ``n`` Jacobian products, about ``1 + n`` forward passes.

    Source:
        Bekas, Kokiopoulou & Saad 2007, the diagonal estimator with signs.

    Example:
        >>> from pointland import draws, exact
        >>> half = exact.gaussian(torch.diag(torch.tensor([1.0] * 8 + [0.0] * 8)))
        >>> x = half.sample(1, seed=0).reshape(1, 1, 4, 4)
        >>> gain_map(half, x, torch.tensor([0.01]), probes=draws.signs(x, ["a"], 1, 0)).value.round().mean(-1)
        tensor([[1., 1., 0., 0.]])
    """
    _check(x, sigma, len(probes), "probes=draws.signs(x, keys, n, seed)")
    found = derivatives.products(denoise, x, sigma, probes=probes, method=derivative)
    return averaged((probes * found.products).sum(2))


def caption_maps(
    conditional: Denoiser,
    unconditional: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    noises: Float[Tensor, "n b *event"],
) -> CaptionMaps:
    """Map a picture with and without its caption, with the same noises, and what the caption froze.

    Args:
        conditional: The model bound to the captions.
        unconditional: The model without.
        x: Points on a grid, shape ``(b, channels, h, w)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        noises: Standard normal draws, shape ``(n, b, channels, h, w)``.

    Raises:
        ValueError: As :func:`lid_map`.

    Cost:
        ``2 n`` forward passes; no gradient.
    """
    _check(x, sigma, len(noises), "noises=draws.normal(x, keys, n, seed)")
    without, given = (_losses(denoise, x, sigma, noises) for denoise in (unconditional, conditional))
    return CaptionMaps(averaged(without), averaged(given), averaged(without - given))


def to_pixels(found: LidMap, size: tuple[int, int]) -> LidMap:
    """Spread a map over the picture's pixels, bilinearly, so that its sum stays.

    A cell's dimensions go to its own and its neighbours' pixels. Painted in one tone a cell would keep its own sum too,
    but it shows edges of the grid, none of the picture's, and finds templates less well; see ``docs/lid-maps.md``.

    Args:
        found: A map a cell.
        size: Height and width of the picture, whole multiples of the map's.

    Returns:
        ``value`` in dimensions a pixel; ``stderr`` an upper bound, the same average of the cells' errors.

    Raises:
        ValueError: If the size is no multiple.
    """
    h, w = found.value.shape[1:]
    if size[0] % h or size[1] % w or 0 in size:
        raise ValueError(f"a map of {h} x {w} cells does not divide {size[0]} x {size[1]} pixels; pass codec.size")
    return LidMap(*(_spread(one, size) for one in found))


def decoded_map(
    decode: Callable[[Float[Tensor, "b *event"]], UInt8[Tensor, "b 3 H W"]],
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    noises: Float[Tensor, "n b *event"],
) -> LidMap:
    r"""Return the map at the picture's own resolution, from what decoded draws show.

    A pixel's *share* is how far decoded :math:`D(x + \sigma n)` strays from the decoded picture, squared, over how far
    decoded :math:`x + \sigma n` does: the autoencoder's own sensitivity, largest at edges, cancels. The interpolated
    map is multiplied by it and scaled so that a picture's sum stays. A cell's sum does not: neither is known finer than
    a cell, and held to it a map finds templates less well than the cells alone.

    Args:
        decode: Points to pictures, as a codec's ``decode``.
        denoise: The model, already conditioned.
        x: Points on a grid, shape ``(b, channels, h, w)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        noises: Standard normal draws, shape ``(n, b, channels, h, w)``.

    Returns:
        In dimensions a pixel, at least 0, with a jackknife error over draws.

    Raises:
        ValueError: As :func:`lid_map`, or as :func:`to_pixels`.

    Cost:
        ``n`` forward passes and ``2 n + 1`` decodings.
    """
    _check(x, sigma, len(noises), "noises=draws.normal(x, keys, n, seed)")
    losses, kept, given = [], [], []
    with torch.no_grad():
        middle = decode(x).float()
        for noise in noises:
            noised = x + per_item(sigma, x) * noise
            denoised = denoise(noised, sigma)
            losses.append(residual_by_place(denoised, x, sigma))
            kept.append((decode(denoised).float() - middle).square().mean(1))
            given.append((decode(noised).float() - middle).square().mean(1))
    parts = [torch.stack(one) for one in (losses, kept, given)]
    value, n = _sharpened(*(part.mean(0) for part in parts)), len(noises)
    if n == 1:
        return LidMap(value, torch.full_like(value, torch.nan))
    others = torch.stack([_sharpened(*((part.sum(0) - part[i]) / (n - 1) for part in parts)) for i in range(n)])
    return LidMap(value, (others.var(0, correction=0) * (n - 1)).sqrt())


def averaged(maps: Float[Tensor, "n b h w"]) -> LidMap:
    """Average maps that are already there, one a draw."""
    if len(maps) == 1:
        return LidMap(maps[0], torch.full_like(maps[0], torch.nan))
    return LidMap(maps.mean(0), maps.std(0) / math.sqrt(len(maps)))


def _check(x: Tensor, sigma: Tensor, n: int, remedy: str) -> None:
    check_grid(x)
    check_sigma(sigma)
    if n == 0:
        raise ValueError(f"a map needs at least one draw, got none; pass {remedy}")


def _losses(denoise: Denoiser, x: Tensor, sigma: Tensor, noises: Tensor) -> Float[Tensor, "n b h w"]:
    with torch.no_grad():
        return torch.stack(
            [residual_by_place(denoise(x + per_item(sigma, x) * noise, sigma), x, sigma) for noise in noises]
        )


def _spread(cells: Float[Tensor, "b h w"], size: tuple[int, int]) -> Float[Tensor, "b H W"]:
    # with whole factors every cell's weights over the pixels sum to their number, at the border too
    pixels = interpolate(cells[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    return pixels * (cells.shape[1] * cells.shape[2] / (size[0] * size[1]))


def _sharpened(
    loss: Float[Tensor, "b h w"], kept: Float[Tensor, "b H W"], given: Float[Tensor, "b H W"]
) -> Float[Tensor, "b H W"]:
    height, width = kept.shape[1:]
    spread = to_pixels(LidMap(loss, loss), (height, width)).value
    blur = (0.0, SMOOTH * height / loss.shape[1], SMOOTH * width / loss.shape[2])
    top, bottom = (
        torch.from_numpy(gaussian_filter(one.cpu().numpy().astype(np.float64), blur)).to(loss) for one in (kept, given)
    )
    pixels = spread * (top / (bottom + ROUNDING))
    total = pixels.sum((1, 2), keepdim=True)
    # a picture of which no pixel moves has nothing to sharpen by
    return torch.where(total > 0, pixels * (spread.sum((1, 2), keepdim=True) / total.clamp_min(1e-30)), spread)
